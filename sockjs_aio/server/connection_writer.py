"""Writes to a connection without a coroutine, and pauses while the client does not read.

Callbacks of the event loop cannot await, and a task for each write is expensive.  So we write
directly to ``request.transport`` while little is buffered there.  Above that, we write nothing
until the buffer has emptied; one task waits for that.
"""

import asyncio
from typing import Protocol

from sockjs_aio.core.plain_write import write_plain
from sockjs_aio.core.session import Session
from sockjs_aio.core.tcp import Delivery, buffered_bytes, give_up_after, is_tls, limit_buffer
from sockjs_aio.server.aiohttp_internals import ResponseWriter
from sockjs_aio.settings import Settings

PATIENCE = 3
"""Heartbeats after which the kernel gives up on a peer that acknowledges nothing.  Sessions notice
sooner and can say why, unless the event loop is blocked."""

HIGH_WATER = 65536
"""Bytes buffered in a transport above which it is congested; asyncio's own limit."""


class Connected(Protocol):
    """What a writer needs of its request."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport of its connection, or None if that is lost."""


class ConnectionWriter:
    """Writes to the connection of one request; it counts as congested until `open` is called.

    Args:
        request: The request whose connection to write to.
        settings: A small `send_queue_limit` lowers the limit for congestion.  The kernel ends the
            connection if the peer acknowledges nothing for three times `heartbeat_delay`.
        session: Told when the connection is no longer congested, or is lost.
    """

    __slots__ = (
        "transport",
        "is_congested",
        "delivery",
        "_writer",
        "_is_plain",
        "_high_water",
        "_patience",
        "_session",
        "_waiting",
    )

    def __init__(self, request: Connected, settings: Settings, session: Session) -> None:
        self.transport: asyncio.Transport | None = request.transport
        self.is_congested: bool = True
        self.delivery: Delivery = Delivery(self.transport)
        self._writer: ResponseWriter | None = None
        self._high_water = min(HIGH_WATER, settings.send_queue_limit // 4)
        self._session = session
        self._waiting: asyncio.Task[None] | None = None
        self._is_plain = self.transport is not None and not is_tls(self.transport)
        self._patience = PATIENCE * settings.heartbeat_delay

    def open(self, writer: ResponseWriter) -> None:
        """Begin to write.  `writer` comes from the response's ``prepare`` and can wait for room.

        Socket options are set here and not earlier: if this request had been refused, the
        connection would go on to serve others.
        """
        if self.transport is not None:
            give_up_after(self.transport, self._patience)
            if self.is_limited:
                limit_buffer(self.transport, self._high_water)
        self._writer = writer
        self.is_congested = False

    @property
    def is_limited(self) -> bool:
        """Whether to set a buffer limit: if it is below asyncio's, or over TLS, whose differs."""
        return self._high_water < HIGH_WATER or not self._is_plain

    @property
    def buffered(self) -> int:
        """Number of written bytes that have not left the process."""
        return 0 if self.transport is None else buffered_bytes(self.transport)

    def write(self, data: bytes) -> int:
        """Write `data`, or nothing if the connection is lost; return `buffered` afterwards."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return self.buffered
        self.delivery.written += len(data)
        if self._is_plain:
            buffered = write_plain(transport, data)
        else:
            transport.write(data)
            buffered = buffered_bytes(transport)
        if buffered > self._high_water:
            assert self._writer is not None, "nothing is written before open()"
            self._wait(self._writer)
        return buffered

    def _wait(self, writer: ResponseWriter) -> None:
        """Stay congested until the buffer has emptied; no-op if already congested."""
        if self._waiting is None:
            self.is_congested = True
            waiting = asyncio.get_running_loop().create_task(self._drain(writer))
            if not waiting.done():  # an eager task may already be done (Python 3.12)
                self._waiting = waiting

    async def _drain(self, writer: ResponseWriter) -> None:
        try:
            await writer.drain()
            await self.delivery.passes_on(self._high_water)
        except OSError:
            pass  # the connection is lost
        finally:
            self._waiting = None
        self.is_congested = False
        self._session.writer_changed()

    def abort(self) -> None:
        """Cut the connection and drop what is buffered."""
        if self.transport is not None:
            self.transport.abort()
