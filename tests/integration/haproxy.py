"""The real haproxy for tests, and a client whose every request has a connection of its own."""

import asyncio
import contextlib
import csv
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import async_timeout

from tests.conftest import require
from tests.integration.node import ROOT, NodeProcess
from tests.process import PATIENCE
from tests.wire import Reply, Wire

CONFIGURATIONS = ROOT / "haproxy"


def documented(language: str, part: str = "") -> str:
    """Return the first block in `language` of docs/deployment.md that has `part`."""
    text = (ROOT / "docs" / "deployment.md").read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(next(block for block in blocks if part in block))


def replace(text: str, old: str, new: str) -> str:
    """Replace `old`, which `text` has to contain once."""
    assert text.count(old) == 1, old
    return text.replace(old, new)


def find_program(name: str) -> str | None:
    """Return the path of `name`, also where only the administrator's PATH leads."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def files(configuration: str) -> list[str | Path]:
    """Return the arguments that have haproxy read one of the project's configurations."""
    return ["-f", CONFIGURATIONS / "common.cfg", "-f", CONFIGURATIONS / f"{configuration}.cfg"]


def make_certificate(directory: Path) -> Path:
    """Make a self-signed certificate for 127.0.0.1; return a file with it and its key."""
    require(shutil.which("openssl"), "openssl")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ),
            *("-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    both = directory / "site.pem"
    both.write_text(certificate.read_text() + key.read_text())
    return both


class Haproxy:
    """The real haproxy, with a configuration of the project.

    Args:
        program: Its path.
        directory: A place for its log and its socket.
        nodes: The servers; the last one is taken for those that there are too few of.
        configuration: A file of the project's, without ``.cfg``.
        certificate: A file with certificate and key, for TLS.
        env: Variables of the configuration.
    """

    def __init__(
        self,
        program: str,
        directory: Path,
        nodes: list[NodeProcess],
        configuration: str = "by-session",
        *,
        certificate: Path | None = None,
        **env: str,
    ) -> None:
        self._admin = directory / "admin.sock"
        nodes = [*nodes, nodes[-1], nodes[-1]]
        tls = f" ssl crt {certificate} alpn h2,http/1.1" if certificate else ""
        # haproxy inherits a socket that listens already, so no port has to be guessed
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            variables = {
                "SOCKJS_BIND": f"fd@{listener.fileno()}{tls}",
                "SOCKJS_ONE": f"127.0.0.1:{nodes[0].port}",
                "SOCKJS_TWO": f"127.0.0.1:{nodes[1].port}",
                "SOCKJS_THREE": f"127.0.0.1:{nodes[2].port}",
                "SOCKJS_ADMIN": str(self._admin),
                **env,
            }
            with open(directory / "haproxy.log", "wb") as log:
                self._process = subprocess.Popen(
                    [program, "-db", *files(configuration)],
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
        """Wait until `server` is ``UP``, ``NOLB``, ``DOWN`` or ``DRAIN``."""

        async def is_so() -> bool:
            return (await self._state(server))["status"] == status

        await until(is_so)

    async def until_checked(self) -> None:
        """Wait until each server has passed a check; until then all are taken to be well."""

        async def is_so() -> bool:
            states = [await self._state(name) for name in ("one", "two", "three")]
            return all(state["check_status"] == "L7OK" for state in states)

        await until(is_so)

    async def _state(self, server: str) -> dict[str, str]:
        rows = csv.DictReader((await self.command("show stat")).removeprefix("# ").splitlines())
        (row,) = [row for row in rows if (row["pxname"], row["svname"]) == ("sessions", server)]
        return row

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)


async def until(is_so: Callable[[], Any]) -> None:
    """Wait until `is_so`, a coroutine function, returns something true."""
    async with async_timeout.timeout(PATIENCE):
        while not await is_so():
            await asyncio.sleep(0.01)


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

    It keeps the last cookie that it was given.

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
        reply = await self.post(message)
        assert reply.status in (200, 204), reply

    async def post(self, message: str) -> Reply:
        """Send `message`; return the answer, whatever it is."""
        dress = TRANSPORTS[self.transport]
        body = json.dumps([message])
        headers = {}
        if dress.sender == "jsonp_send":
            body = "d=" + quote(body)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        return await self._fetch(dress.sender, body, headers)

    async def ask(self, message: str) -> str:
        """Send `message`; return the message that comes back."""
        await self.send(message)
        frame = await self.receive()
        assert frame.startswith("a["), frame
        (answer,) = json.loads(frame[1:])
        return str(answer)

    async def pid(self) -> int:
        """Ask which process has the session."""
        return int((await self.who())["pid"])

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
        self._keep_cookie(reply)
        assert reply.status == 200, reply
        match = dress.frame.fullmatch(reply.body)
        assert match, reply.body
        return dress.undress(match[1])

    async def _read(self, dress: Dress) -> None:
        await self.begin()
        assert self.stream is not None
        if not self._is_head_read:
            reply = await self.stream.head()
            self._keep_cookie(reply)
            assert reply.status == 200, reply
            self._is_head_read = True
        chunk = await self.stream.chunk()
        assert chunk, "the stream has ended"
        self._unread += chunk

    def _keep_cookie(self, reply: Reply) -> None:
        if cookie := reply.header("Set-Cookie"):
            self.headers["Cookie"] = cookie.split(";")[0]

    async def _fetch(self, suffix: str, body: str, headers: dict[str, str]) -> Reply:
        return await fetch(
            self.port,
            self.path + suffix,
            body,
            local_host=self.local_host,
            headers={**self.headers, **headers},
        )


async def pids_of(clients: list[Client]) -> list[int]:
    """Ask each client's session in which process it is."""
    return await asyncio.gather(*(client.pid() for client in clients))


@contextlib.asynccontextmanager
async def open_websocket(port: int, path: str, **options: Any) -> Any:
    """Open a WebSocket from ``127.0.0.2``."""
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"http://127.0.0.1:{port}{path}"
        async with session.ws_connect(url, **options) as websocket:
            yield websocket
