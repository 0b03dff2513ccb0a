"""Where a server listens, and ways to talk to it."""

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import async_timeout

from tests.wire import Reply, Wire


@dataclass
class Target:
    """A SockJS service on a port of this machine."""

    port: int
    prefix: str
    session: aiohttp.ClientSession = field(init=False)
    tls: ssl.SSLContext | None = field(default=None, kw_only=True)
    """What a client trusts, where the server speaks TLS."""
    wires: list[Wire] = field(default_factory=list, init=False)
    sockets: list[aiohttp.ClientWebSocketResponse] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self.tls or True)
        self.session = aiohttp.ClientSession(connector=connector)

    @property
    def origin(self) -> str:
        """The beginning of all URLs."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def url(self, path: str = "") -> str:
        """Return the URL of `path` below the prefix."""
        return self.origin + self.prefix + path

    async def wire(self, **options: Any) -> Wire:
        """Connect; `options` as of `Wire.connect`."""
        wire = await self._connect(**options)
        self.wires.append(wire)
        return wire

    async def _connect(self, **options: Any) -> Wire:
        return await Wire.connect(self.port, self.tls, **options)

    async def request(
        self, method: str, path: str, body: bytes | str | None = None, **options: Any
    ) -> Reply:
        """Send one request, on a connection of its own, to `path` below the prefix."""
        wire = await self._connect()
        try:
            return await wire.request(method, self.prefix + path, body, **options)
        finally:
            if wire.unsent:  # the rest of a body that was refused: nobody reads it
                wire.abort()
            wire.close()

    async def ask(self, path: str) -> Reply:
        """Get a page that need not be below the prefix."""
        wire = await self._connect()
        try:
            return await wire.request("GET", path)
        finally:
            wire.close()

    async def poll(self, session: str, **options: Any) -> bytes:
        """Poll `session`, such as ``"/000/abc"``; return the frame without its line feed."""
        reply = await self.request("POST", session + "/xhr", b"", **options)
        assert reply.status == 200, reply
        return reply.body.removesuffix(b"\n")

    async def post(self, session: str, body: str | bytes, **options: Any) -> int:
        """Send messages to `session` by xhr_send; return the status."""
        return (await self.request("POST", session + "/xhr_send", body, **options)).status

    def websocket(self, path: str = "/000/x/websocket", **options: Any) -> Any:
        """Open a WebSocket: an async context manager."""
        return self.session.ws_connect(self.url(path), **options)

    async def until_listening(self) -> None:
        """Wait until connections are accepted."""
        async with async_timeout.timeout(20):
            while True:
                try:
                    (await self._connect()).close()
                    return
                except OSError:
                    await asyncio.sleep(0.02)

    async def hang_up(self) -> None:
        """Close all connections."""
        for wire in self.wires:
            wire.close()
        for socket in self.sockets:  # those that were aborted have not given back their connection
            socket._response.close()
        await self.session.close()
