"""One process that ends so that nobody is lost."""

import asyncio
import contextlib
import itertools
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import Drain, SockJSRouter, Workers, readyz, run_app
from tests.clients import SOCKJS, WebSocket, Xhr, XhrStreaming
from tests.conftest import Echo
from tests.ports import free_port
from tests.process import ROOT
from tests.target import Target
from tests.wire import Wire

RESTART = b'c[1012,"Service restart"]'


class Server(Target):
    """The application in its own process."""

    process: asyncio.subprocess.Process

    async def until(self, path: str, status: int) -> None:
        async with async_timeout.timeout(10):
            while (await self.ask(path)).status != status:
                await asyncio.sleep(0.01)

    async def until_refusing(self) -> None:
        """Wait until it does not listen any more."""
        async with async_timeout.timeout(10):
            with contextlib.suppress(ConnectionError):
                while True:
                    (await self._connect()).close()
                    await asyncio.sleep(0.01)

    async def ended(self) -> int:
        async with async_timeout.timeout(20):
            return await self.process.wait()


Run = Callable[..., Awaitable[Server]]


@pytest.fixture
async def server() -> AsyncIterator[Run]:
    started: list[Server] = []

    async def run(
        notice: float = 0.1, over: float = 0.2, limit: float = 20, cleanup: float = 0
    ) -> Server:
        served = Server(free_port(), "/echo")
        served.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.run_app_service"),
            *map(str, (served.port, notice, over, limit, cleanup)),
            cwd=ROOT,
        )
        started.append(served)
        await served.until_listening()
        return served

    yield run
    for served in started:
        await served.hang_up()
        if served.process.returncode is None:
            served.process.kill()
            await served.process.wait()


async def test_all_clients_get_their_close_frame(server: Run) -> None:
    served = await server()
    clients = [await kind.open(served) for kind in SOCKJS for _ in range(5)]
    for number, client in enumerate(clients):
        await client.send(str(number))
    served.process.send_signal(signal.SIGTERM)
    for number, client in enumerate(clients):
        assert await client.messages(1) == [str(number)]
        assert await client.frame() == RESTART
        await client.leave()
    assert await served.ended() == 0


async def test_client_between_two_polls_finds_somebody(server: Run) -> None:
    served = await server(notice=0, over=0)
    assert await served.poll("/0/between") == b"o"
    served.process.send_signal(signal.SIGTERM)
    await until_draining(served)
    assert await served.poll("/0/between") == RESTART
    assert await served.ended() == 0


async def until_draining(served: Server) -> None:
    """Wait until no session is opened any more."""
    async with async_timeout.timeout(10):
        for number in itertools.count():
            if (await served.request("POST", f"/0/{number}/xhr", b"")).status == 503:
                return


@pytest.mark.one_python
async def test_readiness_goes_off_first_and_all_goes_on_for_a_while(server: Run) -> None:
    served = await server(notice=1)
    for path in ("/healthz", "/readyz", "/health"):
        assert (await served.ask(path)).status == 200
    client = await XhrStreaming.open(served)
    served.process.send_signal(signal.SIGTERM)
    await served.until("/readyz", 404)
    assert (await served.ask("/health")).status == 503
    assert (await served.ask("/healthz")).status == 200
    late = await Xhr.open(served)
    await client.send("still")
    assert await client.messages(1) == ["still"]
    assert await late.frame() == RESTART
    assert await client.frame() == RESTART
    await late.leave()
    assert await served.ended() == 0


@pytest.mark.one_python
async def test_limit_holds(server: Run) -> None:
    served = await server(notice=0, over=60, limit=0.3)
    clients = [await XhrStreaming.open(served) for _ in range(4)]
    served.process.send_signal(signal.SIGTERM)
    for client in clients:
        assert await client.frame() == RESTART
        await client.leave()
    assert await served.ended() == 0


@pytest.fixture
async def telling() -> AsyncIterator[Server]:
    """An application that logs to its stderr."""
    served = Server(free_port(), "/echo")
    served.process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.workers.inspected", str(served.port)),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    await served.until_listening()
    yield served
    await served.hang_up()
    if served.process.returncode is None:
        served.process.kill()
        await served.process.wait()


@pytest.mark.one_python
async def test_the_log_says_how_the_end_goes(telling: Server) -> None:
    clients = [await XhrStreaming.open(telling) for _ in range(3)]
    telling.process.send_signal(signal.SIGTERM)
    for client in clients:
        assert await client.frame() == RESTART
        await client.leave()
    assert await telling.ended() == 0
    assert telling.process.stderr is not None
    said = (await telling.process.stderr.read()).decode()
    for pattern in (
        "SIGTERM: draining",
        r"readiness is off; closing sessions in 0\.1 s, spread over 0\.2 s \(limit: 30 s\)",
        r"closing 3 sessions over 0\.2 s",
        r"drain finished after \d+\.\d s",
    ):
        assert re.search(pattern, said), (pattern, said)


@pytest.mark.parametrize("name, status", [("SIGTERM", -15), ("SIGHUP", -1), ("SIGINT", None)])
async def test_a_fork_of_a_hook_can_be_terminated_and_ends_nothing_else(
    telling: Server, name: str, status: int | None
) -> None:
    client = await WebSocket.open(telling)
    for _ in range(2):
        await client.send(name)
        (code,) = await client.messages(1)
        assert code != "None" and (status is None or int(code) == status)
    assert (await telling.ask("/interpreter")).status == 200


async def test_clients_learn_of_the_end_of_a_process_that_has_forked(telling: Server) -> None:
    client = await WebSocket.open(telling)
    await client.send("stay")
    (pid,) = await client.messages(1)
    try:
        telling.process.kill()
        assert await client.frame() == b""
        await telling.until_refusing()
    finally:
        os.kill(int(pid), signal.SIGKILL)  # it has the stderr, too
        await telling.ended()
        assert telling.process.stderr is not None
        await telling.process.stderr.read()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal_ends_it_at_once(server: Run, second: int) -> None:
    served = await server(notice=60)
    client = await XhrStreaming.open(served)
    served.process.send_signal(signal.SIGTERM)
    await served.until("/readyz", 404)
    served.process.send_signal(second)
    assert await client.frame() == RESTART
    await client.leave()
    assert await served.ended() == 0


@pytest.mark.parametrize(
    "first, second",
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGINT, signal.SIGTERM),
    ],
)
async def test_second_signal_does_not_cut_off_the_applications_cleanup(
    server: Run, first: int, second: int
) -> None:
    served = await server(notice=0.2, over=0, cleanup=0.8)
    served.process.send_signal(first)
    if first == signal.SIGTERM:
        await served.until("/readyz", 404)
    else:
        await served.until_refusing()
    served.process.send_signal(second)
    await served.until_refusing()
    assert await served.ended() == 0  # the drain would have been over before the cleanup


async def test_sigterm_does_not_cut_off_the_cleanup_behind_the_drain(server: Run) -> None:
    served = await server(notice=0, over=0, cleanup=0.8)
    served.process.send_signal(signal.SIGTERM)
    await served.until_refusing()
    served.process.send_signal(signal.SIGTERM)
    assert await served.ended() == 0


async def test_readiness_is_that_of_all_services_of_an_application() -> None:
    app, inner = web.Application(), web.Application()
    routers = [SockJSRouter(Echo, prefix) for prefix in ("/a", "/b")]
    for router, where in zip(routers, (app, inner), strict=True):
        where.add_routes(router.routes)
    app.add_subapp("/inner", inner)
    app.router.add_get("/readyz", readyz)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    for status, text in ((200, b"ok\n"), (404, b"draining\n")):
        wire = await Wire.connect(site.port)
        reply = await wire.request("GET", "/readyz")
        assert (reply.status, reply.body) == (status, text)
        assert reply.header("Content-Type") == "text/plain; charset=utf-8"
        wire.close()
        routers[1].announce_drain()
    await runner.cleanup()


SILENT = """
import asyncio
from aiohttp import web
from sockjs_aio import run_app

def leave():
    raise web.GracefulExit

async def leave_soon(app):
    asyncio.get_running_loop().call_later(0.2, leave)

app = web.Application()
app.on_startup.append(leave_soon)
run_app(app, host="127.0.0.1", port=0, print={tell})
"""


@pytest.mark.programs
@pytest.mark.parametrize("tell", [None, False])
async def test_nothing_is_printed_if_that_is_turned_off(tell: bool | None) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SILENT.format(tell=tell)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"")


async def test_what_runs_a_loop_is_not_called_within_one() -> None:
    """As at the import of a module that a worker serves."""

    async def make_app() -> web.Application:
        raise AssertionError("nobody asks for it")

    with pytest.raises(RuntimeError, match="below `if __name__"):
        run_app(make_app())
    with pytest.raises(RuntimeError, match="below `if __name__"):
        Workers(2).run("tests.workers.service:make")


@pytest.mark.parametrize("name", ["notice", "over", "limit"])
@pytest.mark.parametrize("value", [-1, float("nan")])
def test_times_that_cannot_be_are_refused(name: str, value: float) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match="must be seconds, 0 or more"):
        Drain(**options)


@pytest.mark.parametrize(
    ("name", "nearest"), [("prot", "port"), ("lingering_tme", "lingering_time")]
)
def test_misspelt_options_are_refused(name: str, nearest: str) -> None:
    options: dict[str, Any] = {name: 1}
    with pytest.raises(TypeError, match=f"run_app has no option '{name}': .* '{nearest}'"):
        run_app(web.Application(), **options)


def test_a_drain_that_is_none_is_refused() -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match="must be a Drain such as Drain"):
        run_app(web.Application(), drain=wrong)
    with pytest.raises(TypeError, match="must be a Drain such as Drain"):
        Workers(1, drain=wrong)
