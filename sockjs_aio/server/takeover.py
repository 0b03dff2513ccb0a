"""Takes a connection over from aiohttp, once aiohttp has answered its handshake.

aiohttp's handler of the request then returns, so that request, parser and task are freed; what is
left is the transport and a protocol of ours (`asyncio.Transport.set_protocol`).  aiohttp's server
counts that protocol as one of its connections, and shuts it down with the others.
"""

import asyncio
from typing import Any, ClassVar, cast

from aiohttp import web

from sockjs_aio.core.tcp import extra_info, pause_reading, protocol_of, resume_reading
from sockjs_aio.server import aiohttp_internals
from sockjs_aio.server.client_loss import ClientConnection
from sockjs_aio.server.direct.lane import DirectLane


class TakenOver(asyncio.Protocol):
    """A protocol for a connection that was aiohttp's.

    Args:
        transport: The connection.
    """

    __slots__ = ("transport", "server")

    _task_handler: ClassVar[None] = None  # aiohttp's server asks each of its connections for it

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport: asyncio.Transport = transport
        self.server: Any = None  # aiohttp's

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell aiohttp's server."""
        self.server.connection_lost(self, exc)
        self.transport.close()  # Python 3.10 takes a TLS transport for open until then

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
        request, husk = self._request, self._husk
        aiohttp_internals.set_transport(request, husk)
        try:
            await response.prepare(request)
        except BaseException:
            if aiohttp_internals.transport_of(request) is husk:
                aiohttp_internals.set_transport(request, husk.transport)
            raise
        is_lost = protocol_of(husk.transport) is None
        if is_lost or aiohttp_internals.transport_of(request) is not husk:
            return None
        return husk.written

    def hand_over(self, heir: TakenOver) -> bytes:
        """Make `heir` the connection's protocol; return what came behind the handshake."""
        transport = self._husk.transport
        before = protocol_of(transport)
        lane = before if type(before) is DirectLane else None
        client = before if lane is None else lane.client
        if type(client) is ClientConnection:
            client.pass_on()
        heir.server = aiohttp_internals.server_of(self._request)
        rest = aiohttp_internals.release(self._request, heir, transport)
        if lane is not None:
            rest += lane.take_held()
        self._husk.is_empty = True
        transport.set_protocol(heir)
        return rest


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
            pause_reading(self.transport)

    def resume_reading(self) -> None:
        if not self.is_empty:
            resume_reading(self.transport)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return extra_info(self.transport, name, default)

    def get_write_buffer_size(self) -> int:
        return 0

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast(asyncio.BaseProtocol, protocol_of(self.transport))  # None once it is lost
