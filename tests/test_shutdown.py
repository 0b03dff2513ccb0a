"""The end of the application: promptly, with queued messages, close frames and every on_close."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests import clients
from tests.axes import Axes
from tests.conftest import Recorder, Serve
from tests.ports import free_port
from tests.process import ServerProcess
from tests.websocket_wire import HANDSHAKE, handshake, masked

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
Kind = type[clients.Client]


@every
async def test_open_sessions_get_what_is_queued_and_1012(serve: Serve, kind: Kind) -> None:
    ending: list[asyncio.Task[None]] = []

    class Noted(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send("last words")
            ending.append(asyncio.get_running_loop().create_task(served.runner.cleanup()))

    served = await serve(Noted)
    client = await kind.open(served)
    await client.send("a")
    assert await client.messages(1) == ["last words"]
    if kind not in clients.POLLS:  # aiohttp has closed its listener before the next poll
        assert await client.frame() == b'c[1012,"Service restart"]'
    await client.leave()
    await ending[0]
    assert Noted.seen == ["open", "close"]


@every
async def test_idle_sessions_end_at_once(serve: Serve, kind: Kind) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    members = [await kind.open(served) for _ in range(20)]
    await Noted.until("open", 20)
    while kind.is_http and not all(x.session.has_http_writer for x in Noted.connections):
        await asyncio.sleep(0.001)
    start = time.monotonic()
    await served.runner.cleanup()
    assert time.monotonic() - start < 5, "well below shutdown_timeout and aiohttp's own"
    assert Noted.seen.count("close") == 20
    assert served.router.session_count == 0
    for client in members:
        assert await client.frame() == b'c[1012,"Service restart"]'
        await client.leave()


@pytest.mark.parametrize("path", ["/0/1/xhr", "/0/1/xhr_streaming"])
async def test_no_new_sessions_while_shutting_down(serve: Serve, path: str) -> None:
    class Slow(Recorder):
        gate = asyncio.Event()

        async def on_close(self) -> None:
            await self.gate.wait()
            await super().on_close()

    served = await serve(Slow)
    await served.poll("/0/other")
    wire = await served.wire()
    await wire.request("GET", "/echo/info")
    ending = asyncio.ensure_future(served.router.shutdown())
    await asyncio.sleep(0.02)
    reply = await wire.request("POST", "/echo" + path, b"")
    assert (reply.status, reply.header("Retry-After")) == (503, "5")
    reply = await wire.request("POST", "/echo/0/other/xhr", b"")
    assert reply.body == b'c[1012,"Service restart"]\n'
    Slow.gate.set()
    await ending
    assert Slow.seen == ["open", "close"]


@pytest.mark.virtual_time
@every
async def test_hook_that_hangs_is_cancelled_and_on_close_called(
    serve: Serve, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    class Hanging(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.seen.append("hangs")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.seen.append("cancelled")
                raise

    served = await serve(Hanging, settings={"shutdown_timeout": 0.1})
    client = await kind.open(served)
    await client.send("a")
    await Hanging.until("hangs")
    await served.router.shutdown()
    assert Hanging.seen == ["open", "hangs", "cancelled", "close"]
    assert "took too long" in caplog.text
    assert not [record for record in caplog.records if record.exc_info]
    assert served.router.session_count == 0
    await client.leave()


@pytest.mark.virtual_time
@every
async def test_hook_has_shutdown_timeout_to_return(serve: Serve, kind: Kind) -> None:
    class Slow(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.seen.append("begins")
            await asyncio.sleep(0.2)
            self.seen.append("ends")

    served = await serve(Slow, settings={"shutdown_timeout": 5})
    client = await kind.open(served)
    await client.send("a")
    await Slow.until("begins")
    await served.runner.cleanup()
    assert Slow.seen == ["open", "begins", "ends", "close"]
    await client.leave()


@pytest.mark.virtual_time
async def test_hook_that_refuses_to_end_does_not_hold_up_the_shutdown(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(Recorder):
        gate = asyncio.Event()

        async def on_close(self) -> None:
            while not self.gate.is_set():
                try:
                    await self.gate.wait()
                except asyncio.CancelledError:
                    self.seen.append("refused")

    served = await serve(Stubborn, settings={"shutdown_timeout": 0.05})
    await served.poll("/0/1")
    await Stubborn.until("open")
    await served.router.shutdown()
    assert "refused" in Stubborn.seen
    assert served.router.session_count == 0
    Stubborn.gate.set()
    await asyncio.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
@pytest.mark.parametrize("disconnect_delay", [5, 0.1], ids=["open", "expired"])
async def test_client_that_does_not_read_does_not_hold_up_the_shutdown(
    serve: Serve, kind: Kind, disconnect_delay: float
) -> None:
    class Pouring(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send("x" * 30_000_000)
            self.seen.append("poured")

    settings = {"shutdown_timeout": 0.1, "disconnect_delay": disconnect_delay}
    served = await serve(Pouring, settings=settings)
    client = await kind.open(served)
    client.stop_reading()
    await client.send("a")
    await Pouring.until("poured")
    if disconnect_delay < 1 and kind.is_http:
        await Pouring.until("close")
    await asyncio.wait_for(served.runner.cleanup(), 10)  # aiohttp's own limit is 60 seconds
    assert Pouring.seen == ["open", "poured", "close"]
    assert served.router.session_count == 0
    client.abort()


SERVER = """
    import ssl
    import sys
    from aiohttp import web
    from sockjs_aio import SockJSConnection, SockJSRouter

    class Noted(SockJSConnection):
        count = 0
        async def on_open(self, info):
            Noted.count += 1
        async def on_close(self):
            Noted.count -= 1

    async def ready(app):
        print("ready", flush=True)

    async def report(app):
        print("left", Noted.count, flush=True)

    tls = None
    if sys.argv[3:]:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(sys.argv[3])

    app = web.Application()
    SockJSRouter(Noted, "/echo").attach(app)
    app.on_startup.append(ready)
    app.on_cleanup.append(report)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None,
                handler_cancellation=sys.argv[2] == "True", ssl_context=tls)
"""


# the server is a program of its own, which has no lanes and no middlewares
in_a_process = pytest.mark.not_over("lane-on", "lane-off", "replacing", "sharing")


@in_a_process
@pytest.mark.programs
@pytest.mark.parametrize(
    ("number", "cancellation"), [(signal.SIGTERM, True), (signal.SIGINT, False)]
)
async def test_run_app_ends_promptly_with_100_streaming_clients(
    serve: Serve,
    axes: Axes,
    unused_tcp_port: int,
    tmp_path: Path,
    number: int,
    cancellation: bool,
) -> None:
    script = tmp_path / "server.py"
    script.write_text(textwrap.dedent(SERVER))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        str(unused_tcp_port),
        str(cancellation),
        *axes.arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert process.stdout
    assert await process.stdout.readline() == b"ready\n"
    served = await serve()
    served.port = unused_tcp_port
    await served.until_listening()
    kinds = [*clients.STREAMS, clients.WebSocket]
    members = [await kinds[n % 4].open(served) for n in range(100)]
    start = time.monotonic()
    process.send_signal(number)
    for client in members:
        assert await client.frame() == b'c[1012,"Service restart"]'
        assert await client.frame() == b""
    output, errors = await process.communicate()
    assert time.monotonic() - start < 5
    assert output == b"left 0\n"
    assert errors == b"", errors.decode()
    assert process.returncode == 0
    for client in members:
        await client.leave()


@pytest.mark.parametrize("path", ["/0/1/websocket", "/websocket"])
@pytest.mark.parametrize("cancellation", [True, False], ids=["cancelled", "not-cancelled"])
async def test_loop_that_ends_without_a_shutdown_waits_for_no_client(
    serve: Serve, path: str, cancellation: bool
) -> None:
    class Waiting(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            await super().on_message(message)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    wire = await handshake(await serve(Waiting, handler_cancellation=cancellation), path)
    wire.writer.write(masked(1, b'"a"'))
    await Waiting.until('"a"' if path == "/websocket" else "a")
    # as asyncio.run() does, but for the test; the client stays
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    _, pending = await asyncio.wait(tasks, timeout=3)
    assert not pending
    assert Waiting.seen[-1] == "close"
    wire.close()


async def test_shutdown_again_is_harmless(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    await served.poll("/0/1")
    await served.router.shutdown()
    await served.router.shutdown()
    assert Noted.seen == ["open", "close"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@in_a_process
@pytest.mark.programs
async def test_process_that_drains_on_sigterm_loses_nobody(
    serve: Serve, axes: Axes, unused_tcp_port: int, tmp_path: Path
) -> None:
    """Other than `web.run_app`; the polls of a session need not share a connection."""
    start, end = textwrap.dedent(SERVER).split("web.run_app(")
    start = start.replace('"/echo")', '"/echo", {"disconnect_delay": 1})')
    script = tmp_path / "server.py"
    script.write_text(
        f"from sockjs_aio import Drain, run_app\n{start}run_app(app, drain=Drain(0.1, 0.1), "
        + end.removeprefix("app, ")
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(str(script), str(unused_tcp_port), "True", *axes.arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert process.stdout
    assert await process.stdout.readline() == b"ready\n"
    served = await serve()
    served.port = unused_tcp_port
    await served.until_listening()
    members = [await kind.open(served) for kind in clients.ALL]
    for client in members:
        if isinstance(client, clients.Xhr):
            await client.leave()  # between two polls, without a connection
            method, url = client._request()
            client.path = client.path + "0"
            await served.request(method, client.path + url, b"" if method == "POST" else None)
    process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    for client in members:
        if isinstance(client, clients.Xhr):
            await client.connect()
    for client in members:
        while (frame := await client.frame()) == b"h":
            pass
        assert frame == b'c[1012,"Service restart"]', client.name
        await client.leave()
    output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (0, b"left 0\n", b"")


@in_a_process
@pytest.mark.programs
@pytest.mark.parametrize("when", ["now", "later"])
@pytest.mark.parametrize(
    "kind", [clients.WebSocket, clients.RawWebSocket, clients.Xhr], ids=lambda kind: kind.name
)
async def test_hook_that_ends_the_process_holds_up_no_shutdown(kind: Kind, when: str) -> None:
    """Its session would be waited for if `on_close` was not called."""
    server = await ServerProcess.start(free_port(), {"shutdown_timeout": 600})
    client = await kind.open(server)
    await client.send(f"exit {when}")
    await client.leave()
    assert await server.ended(complaints=True) == 3


@in_a_process
@pytest.mark.programs
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("path", ["/000/abc/websocket", "/websocket"])
async def test_constructor_that_ends_the_process_does_so(path: str, loop: str) -> None:
    """Where aiohttp does not see the handshake: it sees only the first one."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    options = ["--uvloop"] if loop == "uvloop" else []
    server = await ServerProcess.start(free_port(), {"shutdown_timeout": 600}, *options)
    other = await clients.WebSocket.open(server)
    raw = await clients.RawWebSocket.open(server)
    for wire in [await server.wire() for _ in range(3)]:  # in one turn: the shutdown goes on
        wire.send("GET", f"{server.prefix}{path}?exit", headers=HANDSHAKE)
    assert await other.frame() == b'c[1012,"Service restart"]'
    await other.leave()
    await raw.leave()
    assert await server.ended(complaints=True) == 3
