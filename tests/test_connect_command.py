"""The command ``sockjs-aio connect``, in a process of its own."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo, SockJSConnection
from sockjs_aio.__main__ import script
from tests.conftest import PATIENCE, Echo, Serve
from tests.ports import free_port

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.programs,
    pytest.mark.not_over(
        "tls", "the command would have to be told to trust the test's certificate"
    ),
]


class Command:
    """The command while it runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, *arguments: str) -> "Command":
        pipe = asyncio.subprocess.PIPE
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sockjs_aio", "connect", *arguments),
                cwd=ROOT,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
            )
        )

    def type(self, *lines: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines).encode())

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)).decode()

    async def said(self) -> str:
        assert self.process.stderr is not None
        return (await asyncio.wait_for(self.process.stderr.readline(), PATIENCE)).decode()

    async def end(self) -> tuple[int | None, str, str]:
        """Close its input; return its status and what it has still written."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        written = await asyncio.wait_for(self.process.communicate(), PATIENCE)
        return self.process.returncode, written[0].decode(), written[1].decode()


async def run(*arguments: str) -> tuple[int | None, str, str]:
    return await (await Command.start(*arguments)).end()


@pytest.mark.parametrize("name", ["websocket", "rawwebsocket", "xhr_streaming", "xhr"])
async def test_lines_in_are_messages_out(serve: Serve, name: str) -> None:
    served = await serve(Echo)
    command = await Command.start(served.url(), "--transport", name, "--linger", "0.5")
    assert await command.said() == f"# connected over {name}\n"
    command.type("hello", "ä€😀")
    assert [await command.line(), await command.line()] == ["hello\n", "ä€😀\n"]
    assert await command.end() == (0, "", "# closed: 1000\n")


async def test_heartbeats_and_the_close_are_shown(serve: Serve) -> None:
    class Leaving(SockJSConnection):
        async def on_message(self, message: str) -> None:
            self.close(4001, "go\x1b[31m")

    served = await serve(Leaving, settings={"heartbeat_delay": 0.1})
    command = await Command.start(served.url(), "--transport", "websocket")
    said = [await command.said(), await command.said()]
    assert said == ["# connected over websocket\n", "# heartbeat\n"]
    command.type("x")
    while (line := await command.said()) == "# heartbeat\n":
        pass
    assert line == "# closed: 4001 go\\x1b[31m\n"
    assert await command.end() == (1, "", "")


async def test_close_without_a_code_is_a_success(serve: Serve) -> None:
    class Short(SockJSConnection):
        async def on_open(self, info: ConnectionInfo) -> None:
            self.send("bye")
            self.close()

    served = await serve(Short)
    status, output, said = await run(served.url(), "--transport", "xhr")
    assert (status, output, said.splitlines()[-1]) == (0, "bye\n", "# closed: 3000 Go away!")


async def test_headers_are_sent(serve: Serve) -> None:
    async def authorize(request: web.Request) -> Any:
        return request.headers.get("X-Token") == "a: b"

    served = await serve(Echo, authorize=authorize)
    assert (await run(served.url(), "-H", "X-Token: a: b", "--linger", "0.1"))[0] == 0
    status, _, said = await run(served.url(), "--transport", "websocket")
    assert status == 1
    assert "websocket: the server answered the handshake with 403 Forbidden" in said


async def test_closed_input_is_an_end_of_the_input_and_closed_output_no_error(serve: Serve) -> None:
    served = await serve(Echo)
    program = f"{sys.executable} -m sockjs_aio connect {served.url()} --linger 0.1 <&- >&-"
    process = await asyncio.create_subprocess_shell(
        program, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, said.splitlines()[-1]) == (0, b"# closed: 1000"), said


async def test_server_that_is_not_there_is_told_in_a_line() -> None:
    code, output, said = await run(f"http://127.0.0.1:{free_port()}/chat")
    assert (code, output) == (1, ""), said
    assert "Cannot connect to host 127.0.0.1" in said.splitlines()[-1]
    assert "Traceback" not in said


URL = "http://127.0.0.1/chat"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["example.com/chat"], "write the URL of the service"),
        ([URL, "-H", "nothing"], "'nothing' is not a header: write it as 'Name: value'"),
        ([URL, "--transport", "carrier-pigeon"], "invalid choice: 'carrier-pigeon'"),
        ([], "the following arguments are required: URL"),
    ],
)
def test_mistakes_are_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "argv", ["sockjs-aio", "connect", *arguments])
    with pytest.raises(SystemExit, match="2"):
        script()
    output, said = capsys.readouterr()
    assert output == ""
    assert message in said.splitlines()[-1]


def test_script_has_all_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    for command in ("serve", "migrate", "connect", "doctor", "bench"):
        monkeypatch.setattr(sys, "argv", ["sockjs-aio", command, "--help"])
        with pytest.raises(SystemExit, match="0"):
            script()
        usage = capsys.readouterr().out.split("options:")[0]
        assert usage.startswith(f"usage: sockjs-aio {command}")


@pytest.mark.parametrize("module", [["sockjs_aio", "migrate"], ["sockjs_aio.migrate"]])
async def test_output_that_nobody_reads_is_no_traceback(module: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *module, __file__),
        cwd=ROOT,
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, said) == (141, b"")
