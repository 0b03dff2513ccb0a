"""The examples, run as a user runs them."""

import asyncio
import os
import runpy
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sockjs_aio import SockJSConnection
from tests import clients
from tests.cases import case
from tests.conftest import Serve
from tests.target import Target

ROOT = Path(__file__).parent.parent.parent


@asynccontextmanager
async def started(*command: str) -> AsyncIterator[None]:
    """Run an example; it has to end with status 0 and without a word of complaint."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    yield
    process.send_signal(signal.SIGINT)  # as Ctrl-C
    output, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, ""), output


@asynccontextmanager
async def running(port: int, *command: str, prefix: str = "/echo") -> AsyncIterator[Target]:
    """Run an example that listens on `port`, and hang up after its end."""
    served = Target(port, prefix)
    async with started(*command):
        await served.until_listening()
        yield served
    await served.hang_up()


async def test_echo(unused_tcp_port: int, tmp_path: Path) -> None:
    script = tmp_path / "echo.py"  # its port may be in use here
    source = (ROOT / "examples/echo.py").read_text()
    script.write_text(source.replace("port=8080", f"port={unused_tcp_port}"))
    async with running(unused_tcp_port, str(script)) as served:
        for kind in clients.ALL:
            with case(kind.name):
                client = await kind.open(served)
                await client.send("a")
                assert await client.messages(1) == ["a"]
                await client.leave()


async def test_client_prints_what_comes_and_connects_again(serve: Serve) -> None:
    class Parting(SockJSConnection):
        async def on_message(self, message: str) -> None:
            self.send(f"you said {message}")
            self.close(1012, "Service restart")

    served = await serve(Parting)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples.client", served.url(), "hello"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    for _ in range(2):
        assert (await process.stdout.readline()).endswith(b": you said hello\n")
        assert await process.stderr.readline() == b"closed: 1012 Service restart\n"
    process.kill()
    await process.communicate()


@pytest.mark.parametrize("options", [[], ["--uvloop"], ["--adapter", "tornado"]])
async def test_protocol_server(unused_tcp_port: int, options: list[str]) -> None:
    command = ["examples/protocol_server.py", "--port", str(unused_tcp_port), *options]
    async with running(unused_tcp_port, *command) as served:
        for kind in clients.ALL:
            await use_services(served, kind)
        served.prefix = "/cookie_needed_echo"
        assert b'"cookie_needed": true' in (await served.request("GET", "/info")).body
        reply = await served.request("POST", "/0/1/xhr", b"")
        assert reply.header("Set-Cookie") == "JSESSIONID=dummy; Path=/"
        served.prefix = "/disabled_websocket_echo"
        assert b'"websocket": false' in (await served.request("GET", "/info")).body
        assert (await served.request("GET", "/0/1/websocket")).status == 404


async def test_authorize(unused_tcp_port: int) -> None:
    command = ["-m", "examples.authorize", "--port", str(unused_tcp_port)]
    async with running(unused_tcp_port, *command) as served:
        served.prefix = ""
        assert (await served.request("GET", "/")).status == 200
        for origin, status in [("localhost", 401), ("127.0.0.1", 401), ("evil.example", 403)]:
            headers = {"Origin": f"http://{origin}:{unused_tcp_port}"}
            for path in ("/account/0/1/xhr", "/orders/0/1/xhr?token=x"):
                assert (await served.request("POST", path, b"", headers=headers)).status == status


WITH_PORTS = [
    ["-m", "examples.authorize", "--port"],
    ["-m", "examples.chat", "--port"],
    ["-m", "examples.multiplex", "--port"],
    ["-m", "examples.tornado.bench", "--port"],
    ["-m", "examples.tornado.multiplex", "--port"],
    ["-m", "examples.tornado_side_by_side", "--old-port"],
    ["-m", "examples.tornado_side_by_side", "--new-port"],
    ["examples/protocol_server.py", "--port"],
]


@pytest.mark.parametrize("command", WITH_PORTS, ids=lambda command: " ".join(command[-2:]))
async def test_port_that_is_taken_is_told_in_one_line(
    unused_tcp_port: int, command: list[str]
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        # the port that is not asked about may be in use here, too
        other = ["--old-port", str(unused_tcp_port)] if command[-1] == "--new-port" else []
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(*command, str(listener.getsockname()[1]), *other),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
    assert process.returncode == 1 and errors.count(b"\n") == 1
    assert b"is taken" in errors or b"already in use" in errors


@pytest.mark.parametrize("command", WITH_PORTS, ids=lambda command: " ".join(command[-2:]))
@pytest.mark.parametrize("port", ["70000", "http"])
def test_port_that_cannot_be_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    port: str,
) -> None:
    """In this process, as the program ends before it has begun."""
    *place, option = command
    monkeypatch.setattr(sys, "argv", [place[-1], option, port])
    monkeypatch.delitem(sys.modules, place[-1], raising=False)  # another test may have imported it
    run = runpy.run_module if place[0] == "-m" else runpy.run_path
    with pytest.raises(SystemExit) as end:
        run(place[-1], run_name="__main__")
    assert end.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {option}: {port} is not a port number" in last


async def use_services(served: Target, kind: type[clients.Client]) -> None:
    for prefix in ("/echo", "/echo_default"):
        served.prefix = prefix
        client = await kind.open(served)
        await client.send("x")
        assert await client.messages(1) == ["x"]
        await client.leave()

    served.prefix = "/close"
    client = await kind.open(served)
    assert await client.frame() == b'c[3000,"Go away!"]'
    await client.leave()

    served.prefix = "/ticker"
    client = await kind.open(served)
    assert await client.messages(1) == ["tick!"]
    await client.leave()

    served.prefix = "/amplify"
    client = await kind.open(served)
    for message, size in [("0", 1), ("5", 32), ("19", 2**19), ("20", 2), ("x", 2), ("", 2)]:
        await client.send(message)
        assert [len(answer) for answer in await client.messages(1)] == [size]
        if kind in clients.STREAMS and size > 131072:  # the limit of a response
            await client.leave()
            client = await kind.open(served)
    await client.leave()

    served.prefix = "/broadcast"
    first, second = await kind.open(served), await kind.open(served)
    await first.send("to all")
    assert await first.messages(1) == await second.messages(1) == ["to all"]
    await first.leave()
    await second.leave()

    served.prefix = "/presence"
    first = await kind.open(served)
    await first.send("ann")
    assert await first.messages(1) == ["+ann"]
    second = await clients.WebSocket.open(served)
    await second.send("bob")
    assert await first.messages(1) == await second.messages(1) == ["+bob"]
    await second.leave()
    assert await first.messages(1) == ["-bob"]
    await first.leave()
