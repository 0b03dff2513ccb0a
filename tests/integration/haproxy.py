"""Processes for tests: servers that tell which they are, proxies before them, and a client.

`python -m tests.integration.haproxy --port 0` is one such server.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import aiohttp
import async_timeout
from aiohttp import web
from aiohttp_remotes import XForwardedStrict, setup

from sockjs_aio import SockJSConnection, SockJSRouter
from tests.process import COMPLAINTS
from tests.wire import Reply, Wire

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "haproxy" / "haproxy.cfg"
SOCKJS_CLIENT = ROOT / ".venv/npm/node_modules/sockjs-client/dist/sockjs.min.js"

PATIENCE = 20.0
"""Seconds after which what a test waits for is taken to never happen."""


def documented(language: str) -> str:
    """Return the first block in `language` of docs/deployment.md."""
    text = (ROOT / "docs" / "deployment.md").read_text()
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found is not None, language
    return found[1]


def replace(text: str, old: str, new: str) -> str:
    """Replace `old`, which `text` has to contain once."""
    assert text.count(old) == 1, old
    return text.replace(old, new)


def find_program(name: str) -> str | None:
    """Return the path of `name`, also where only the administrator's PATH leads."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


# The server.


class Node(SockJSConnection):
    """Echoes, and answers ``who`` with what it knows about the client and itself."""

    connections: ClassVar[list["Node"]] = []
    has_left = False

    async def on_open(self, info: Any) -> None:
        self.connections.append(self)

    async def on_message(self, message: str | bytes) -> None:
        if message == "who":
            message = json.dumps({"pid": os.getpid(), "ip": self.info.ip, **self.info})
        self.send(message)

    async def on_close(self) -> None:
        self.has_left = True

    @classmethod
    def sessions(cls) -> dict[str, list[str]]:
        """Tell the ids of sessions that have ended, and of those that a client waits on."""
        return {
            "closed": [each.session.id for each in cls.connections if each.has_left],
            "waiting": [
                each.session.id for each in cls.connections if each.session.has_http_receiver
            ],
        }


@web.middleware
async def note_scheme(request: web.Request, handler: Any) -> web.StreamResponse:
    """Let connections see ``X-Forwarded-Proto``."""
    request["scheme"] = request.scheme
    response: web.StreamResponse = await handler(request)
    return response


async def make_app() -> web.Application:
    async def state(_request: web.Request) -> web.Response:
        return web.json_response(Node.sessions())

    async def page(_request: web.Request) -> web.Response:
        html = "<!DOCTYPE html><script src='/sockjs.min.js'></script>"
        return web.Response(text=html, content_type="text/html")

    async def script(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(SOCKJS_CLIENT)

    app = web.Application()
    # health checks and `state` come without the header that everybody else has
    await setup(app, XForwardedStrict([["127.0.0.1"]], white_paths=["/echo", "/state"]))
    app.middlewares.append(note_scheme)
    app.router.add_get("/state", state)
    app.router.add_get("/page", page)
    app.router.add_get("/sockjs.min.js", script)
    for prefix, settings in {
        "/echo": {},
        "/a/b/echo": {},
        "/beating": {"heartbeat_delay": 0.5},
        "/short": {"response_limit": 4096},
    }.items():
        SockJSRouter(Node, prefix, settings).attach(app)
    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    web.run_app(
        make_app(),
        host="127.0.0.1",
        port=parser.parse_args().port,
        handler_cancellation=True,
        access_log=None,
    )


# Processes.


class NodeProcess:
    """A server process: this module, or another `program`."""

    def __init__(self, port: int = 0, program: Path | None = None) -> None:
        arguments = ["-m", "tests.integration.haproxy", f"--port={port}"]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - stop() closes it
        self._process = subprocess.Popen(
            [sys.executable, "-u", *([program] if program else arguments)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.port = self._read_port()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def state(self) -> dict[str, list[str]]:
        """Ask for `Node.sessions`."""
        reply = await fetch(self.port, "/state")
        return json.loads(reply.body)  # type: ignore[no-any-return]

    def stop(self, how: int = signal.SIGKILL) -> int:
        """End the process and wait until it has ended; return its exit status.

        It must not have complained of anything.
        """
        self._process.send_signal(how)
        status = self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()
        if not self._errors.closed:
            with self._errors as file:
                file.seek(0)
                errors = file.read()
            assert not any(complaint in errors for complaint in COMPLAINTS), errors
        return status

    def _read_port(self) -> int:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # ends when the process does
            if match := re.search(r"http://[\d.]+:(\d+)", line):
                return int(match[1])
        raise AssertionError(f"the server did not start: status {self._process.wait()}")


class Haproxy:
    """The real haproxy, with the project's configuration."""

    def __init__(self, program: str, directory: Path, nodes: list[NodeProcess], **env: str) -> None:
        self._admin = directory / "admin.sock"
        # haproxy inherits a socket that listens already, so no port has to be guessed
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            variables = {
                "SOCKJS_BIND": f"fd@{listener.fileno()}",
                "SOCKJS_ONE": f"127.0.0.1:{nodes[0].port}",
                "SOCKJS_TWO": f"127.0.0.1:{nodes[1].port}",
                "SOCKJS_ADMIN": str(self._admin),
                **env,
            }
            with open(directory / "haproxy.log", "wb") as log:
                self._process = subprocess.Popen(
                    [program, "-db", "-f", CONFIG],
                    env={**os.environ, **variables},
                    pass_fds=[listener.fileno()],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        wait_until(lambda: self._admin.exists() or self._process.poll() is not None)
        assert self._process.poll() is None, (directory / "haproxy.log").read_text()

    async def command(self, line: str) -> str:
        """Give a command of the management guide; return what haproxy says."""
        reader, writer = await asyncio.open_unix_connection(self._admin)
        try:
            writer.write(line.encode() + b"\n")
            return (await reader.read()).decode()
        finally:
            writer.close()

    async def until_status(self, server: str, status: str) -> None:
        """Wait until `server` is ``UP``, ``DOWN`` or ``DRAIN``."""

        async def is_so() -> bool:
            for line in (await self.command("show stat")).splitlines():
                fields = line.split(",")
                if fields[:2] == ["sessions", server]:
                    return fields[17] == status
            raise AssertionError(f"haproxy knows no server {server}")

        await until(is_so)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)


async def until(is_so: Callable[[], Any]) -> None:
    """Wait until `is_so`, a coroutine function, returns something true."""
    async with async_timeout.timeout(PATIENCE):
        while not await is_so():
            await asyncio.sleep(0.01)


@contextlib.contextmanager
def node_pair() -> Iterator[list[NodeProcess]]:
    """Run two servers; those in the list at the end are stopped."""
    nodes: list[NodeProcess] = []
    try:
        nodes.append(NodeProcess())
        nodes.append(NodeProcess())
        yield nodes
    finally:
        for node in nodes:
            node.stop()


def wait_until(is_so: Callable[[], bool]) -> None:
    """As `until`, for fixtures that start something and have no event loop."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "it did not start"
        time.sleep(0.01)


def listens(port: int) -> bool:
    """Tell whether somebody accepts connections on `port`."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# The client.


async def connect(port: int, local_host: str | None = None) -> Wire:
    """Connect to `port`, from the address `local_host`."""
    local = None if local_host is None else (local_host, 0)
    return Wire(*await asyncio.open_connection("127.0.0.1", port, local_addr=local, limit=1 << 24))


async def fetch(
    port: int,
    path: str,
    body: str | None = None,
    *,
    local_host: str | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """Send one request on a connection of its own: GET, or POST if there is a `body`."""
    wire = await connect(port, local_host)
    try:
        async with async_timeout.timeout(PATIENCE):
            method = "GET" if body is None else "POST"
            return await wire.request(method, path, body, headers=headers)
    finally:
        wire.close()


@dataclass(frozen=True)
class Dress:
    """How a transport is asked for, and how its frames look on the wire."""

    method: str
    suffix: str
    frame: re.Pattern[bytes]
    is_script: bool = False
    is_escaped: bool = False
    is_stream: bool = True
    sender: str = "xhr_send"

    def undress(self, dressed: bytes) -> str:
        if self.is_script:
            frame: str = json.loads(dressed)
            return frame
        return dressed.decode().replace("%25", "%") if self.is_escaped else dressed.decode()


TRANSPORTS = {
    "xhr": Dress("POST", "xhr", re.compile(rb"(.+)\n"), is_stream=False),
    "jsonp": Dress(
        "GET",
        "jsonp?c=cb",
        re.compile(rb'/\*\*/cb\((".*")\);\r\n'),
        is_script=True,
        is_stream=False,
        sender="jsonp_send",
    ),
    "xhr_streaming": Dress("POST", "xhr_streaming", re.compile(rb"(?<!h)(h|[oac].*)\n")),
    "eventsource": Dress("GET", "eventsource", re.compile(rb"data: (.*)\r\n\r\n"), is_escaped=True),
    "htmlfile": Dress(
        "GET",
        "htmlfile?c=cb",
        re.compile(rb'<script>\np\((".*")\);\n</script>\r\n'),
        is_script=True,
    ),
}


@dataclass
class Client:
    """A SockJS client; each of its requests has a TCP connection of its own.

    Args:
        port: Where the proxy listens.
        transport: A key of `TRANSPORTS`.
        prefix: Of the service.
        local_host: The address that requests come from.
        headers: Of all requests.
    """

    port: int
    transport: str = "xhr"
    prefix: str = "/echo"
    local_host: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    session_id: str = field(default_factory=lambda: os.urandom(6).hex())
    stream: Wire | None = None
    _is_head_read: bool = False
    _unread: bytes = b""

    @property
    def path(self) -> str:
        return f"{self.prefix}/000/{self.session_id}/"

    async def receive(self) -> str:
        """Return the next frame: of the stream, or by a poll."""
        dress = TRANSPORTS[self.transport]
        async with async_timeout.timeout(PATIENCE):
            if not dress.is_stream:
                return await self._poll(dress)
            while not (match := dress.frame.search(self._unread)):
                await self._read(dress)
        self._unread = self._unread[match.end() :]
        return dress.undress(match[1])

    async def send(self, message: str) -> None:
        dress = TRANSPORTS[self.transport]
        body = json.dumps([message])
        headers = {}
        if dress.sender == "jsonp_send":
            body = "d=" + quote(body)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        reply = await self._fetch(dress.sender, body, headers)
        assert reply.status in (200, 204), reply

    async def ask(self, message: str) -> str:
        """Send `message`; return the message that comes back."""
        await self.send(message)
        frame = await self.receive()
        assert frame.startswith("a["), frame
        (answer,) = json.loads(frame[1:])
        return str(answer)

    async def who(self) -> dict[str, Any]:
        """Ask the server which it is, and whom it takes us for."""
        return json.loads(await self.ask("who"))  # type: ignore[no-any-return]

    async def begin(self) -> None:
        """Send the request that receives, if there is none under way."""
        if self.stream is None:
            self.stream = await connect(self.port, self.local_host)
            self.request_stream()

    def request_stream(self) -> None:
        """Send the request that receives, on the connection that is there."""
        assert self.stream is not None
        dress = TRANSPORTS[self.transport]
        body = "" if dress.method == "POST" else None
        self.stream.send(dress.method, self.path + dress.suffix, body, headers=self.headers)
        self._is_head_read = False

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.stream = None

    def abort(self) -> None:
        """Reset the connection that receives."""
        assert self.stream is not None
        self.stream.abort()
        self.stream = None

    async def _poll(self, dress: Dress) -> str:
        await self.begin()
        assert self.stream is not None
        reply = await self.stream.reply()
        self.close()
        assert reply.status == 200, reply
        match = dress.frame.fullmatch(reply.body)
        assert match, reply.body
        return dress.undress(match[1])

    async def _read(self, dress: Dress) -> None:
        await self.begin()
        assert self.stream is not None
        if not self._is_head_read:
            reply = await self.stream.head()
            assert reply.status == 200, reply
            self._is_head_read = True
        chunk = await self.stream.chunk()
        assert chunk, "the stream has ended"
        self._unread += chunk

    async def _fetch(self, suffix: str, body: str, headers: dict[str, str]) -> Reply:
        return await fetch(
            self.port,
            self.path + suffix,
            body,
            local_host=self.local_host,
            headers={**self.headers, **headers},
        )


@contextlib.asynccontextmanager
async def open_websocket(port: int, path: str, **options: Any) -> Any:
    """Open a WebSocket from ``127.0.0.2``."""
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"http://127.0.0.1:{port}{path}"
        async with session.ws_connect(url, **options) as websocket:
            yield websocket


if __name__ == "__main__":
    main()
