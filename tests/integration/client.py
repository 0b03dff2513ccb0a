"""A SockJS client for tests of proxies: each of its requests has a connection of its own."""

import asyncio
import contextlib
import json
import os
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
import async_timeout

from tests.process import PATIENCE
from tests.wire import Reply, Wire


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
                if not await self._read(dress):
                    self.close()  # and then the next one: this one has ended in an orderly way
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
        """Send `message`; return the message that comes back, after any heartbeats."""
        await self.send(message)
        while (frame := await self.receive()) == "h":
            pass
        assert frame.startswith("a["), frame
        (answer,) = json.loads(frame[1:])
        return str(answer)

    async def pid(self) -> int:
        """Ask which process has the session."""
        return int((await self.who())["pid"])

    async def who(self) -> dict[str, Any]:
        """Ask the server which it is, and whom it takes us for."""
        return json.loads(await self.ask("who"))  # type: ignore[no-any-return]

    @property
    def source(self) -> str:
        """The address that receives."""
        assert self.stream is not None
        return "{}:{}".format(*self.stream.writer.get_extra_info("sockname"))

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

    async def _read(self, dress: Dress) -> bool:
        """Read a chunk; tell whether there was one."""
        await self.begin()
        assert self.stream is not None
        if not self._is_head_read:
            reply = await self.stream.head()
            self._keep_cookie(reply)
            assert reply.status == 200, reply
            self._is_head_read = True
            if (length := reply.header("Content-Length")) is not None:  # it ends at once
                self._unread += await self.stream.reader.readexactly(int(length))
                return True
        chunk = await self.stream.chunk()
        self._unread += chunk
        return chunk != b""

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
