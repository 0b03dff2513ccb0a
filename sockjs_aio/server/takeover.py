"""Takes a connection over from aiohttp, once aiohttp has answered its handshake.

aiohttp's handler of the request then returns, so that request, parser and task are freed; what is
left is the transport and a protocol of ours (`asyncio.Transport.set_protocol`).  aiohttp's server
counts that protocol as one of its connections, and shuts it down with the others.
"""

import asyncio
from typing import Any

from aiohttp import web

from sockjs_aio.protocol.client_frames import Unmask
from sockjs_aio.protocol.client_frames import unmask as unmask_in_python
from sockjs_aio.server.client_loss import ClientConnection

unmask: Unmask
"""aiohttp's function in C if it has it: twenty times as fast for 4 KiB."""
try:
    from aiohttp._websocket.helpers import websocket_mask as unmask
except ImportError:
    unmask = unmask_in_python


class TakenOver(asyncio.Protocol):
    """A protocol for a connection that was aiohttp's.

    Args:
        transport: The connection.
    """

    __slots__ = ("transport", "_server")

    _task_handler = None  # aiohttp's server asks each of its connections for it

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._server: Any = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell aiohttp's server."""
        self._server.connection_lost(self, exc)

    def close(self) -> None:
        """Do nothing when the server stops listening: the router closes its sessions next."""

    async def shutdown(self, timeout: float | None = None) -> None:
        """Cut the connection: the server ends, and the router has closed its sessions."""
        self.transport.abort()


class Handshake:
    """Takes the connection of `request` over, in two steps.

    Args:
        request: The request for the handshake; its connection must not be lost.
    """

    __slots__ = ("_request", "_husk")

    def __init__(self, request: web.Request) -> None:
        assert request.transport is not None, "the connection is not lost"
        self._request = request
        self._husk = _Husk(request.transport)

    async def answer(self, response: web.StreamResponse) -> bytes | None:
        """Prepare `response`, with the application's signals.

        Return its head, which the caller must write, or None if the connection was lost.
        """
        handler = self._request.protocol
        handler.transport = self._husk
        try:
            await response.prepare(self._request)
        except BaseException:
            if handler.transport is self._husk:
                handler.transport = self._husk.transport
            raise
        return self._husk.written if handler.transport is self._husk else None

    def hand_over(self, heir: TakenOver) -> bytes:
        """Make `heir` the connection's protocol; return what came behind the handshake."""
        handler, transport = self._request.protocol, self._husk.transport
        rest = _Rest()
        handler.set_parser(rest)  # type: ignore[arg-type]
        handler.keep_alive(False)
        before = transport.get_protocol()
        if type(before) is ClientConnection:
            before.pass_on()
        server: Any = handler._manager
        server.connection_lost(handler)
        server.connection_made(heir, transport)
        heir._server = server
        self._husk.is_empty = True
        transport.set_protocol(heir)
        return rest.data


class _Husk(asyncio.Transport):
    """What aiohttp has instead of the connection's transport while it answers the handshake.

    It keeps what is written.  Once it `is_empty`, aiohttp can no longer close the connection.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self.transport = transport
        self.written = b""
        self.is_empty = False

    def write(self, data: Any) -> None:
        if not self.is_empty:
            self.written += data

    def is_closing(self) -> bool:
        return not self.is_empty and self.transport.is_closing()

    def close(self) -> None:
        if not self.is_empty:
            self.transport.close()

    def abort(self) -> None:
        if not self.is_empty:
            self.transport.abort()

    def pause_reading(self) -> None:
        if not self.is_empty:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.is_empty:
            self.transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return 0

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.transport.get_protocol()


class _Rest:
    """Gets from aiohttp what the client sent behind its handshake."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        pass
