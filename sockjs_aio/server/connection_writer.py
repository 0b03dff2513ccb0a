"""Write to a connection without a coroutine, and stop while the client does not read.

A call-back of the event loop cannot await, and a task for each write is dear.  So writes go to
aiohttp's ``request.transport`` itself, as long as little is buffered there; beyond that nothing is
written until the buffer has emptied, which one task waits for.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import async_timeout
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from sockjs_aio.core.session import Session
from sockjs_aio.core.tcp import Delivery, buffered_bytes, give_up_after, is_tls, limit_buffer
from sockjs_aio.settings import Settings

PATIENCE = 3
"""Heartbeats after which the kernel gives up on a peer that acknowledges nothing: sessions notice
that sooner and can say so, unless the event loop is held up."""

HIGH_WATER = 65536
"""Bytes buffered in a transport beyond which asyncio, and so this, calls it congested."""


class ConnectionWriter:
    """The connection of one request, for writing; it counts as congested until it is opened.

    Args:
        request: Whose connection to write to.
        settings: A small `send_queue_limit` lowers the mark for congestion; the kernel gives the
            connection up when the peer acknowledges nothing for three times `heartbeat_delay`.
        session: Told when the connection takes data again after it was congested, or is lost.
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

    def __init__(self, request: web.Request, settings: Settings, session: Session) -> None:
        self.transport = request.transport
        self.is_congested = True
        self.delivery = Delivery(self.transport)
        self._writer: AbstractStreamWriter | None = None
        self._high_water = min(HIGH_WATER, settings.send_queue_limit // 4)
        self._session = session
        self._waiting: asyncio.Task[None] | None = None
        self._is_plain = self.transport is not None and not is_tls(self.transport)
        self._patience = PATIENCE * settings.heartbeat_delay

    def open(self, writer: AbstractStreamWriter) -> None:
        """Begin, with what ``prepare`` of the response has returned, which waits for room.

        Nothing is set on the connection before: it may serve others if this request is refused.
        """
        if self.transport is not None:
            give_up_after(self.transport, self._patience)
            if self.is_limited:
                limit_buffer(self.transport, self._high_water)
        self._writer = writer
        self.is_congested = False

    @property
    def is_limited(self) -> bool:
        """Whether the connection's mark is not asyncio's own; TLS has another one by itself."""
        return self._high_water < HIGH_WATER or not self._is_plain

    @property
    def buffered(self) -> int:
        """Bytes that have not left the process."""
        return 0 if self.transport is None else buffered_bytes(self.transport)

    def write(self, data: bytes) -> int:
        """Write `data`, or nothing once the connection is lost; return what is `buffered` then."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return self.buffered
        transport.write(data)
        self.delivery.written += len(data)
        # micro-optimisation: without TLS no guard is needed
        plain = self._is_plain
        buffered = transport.get_write_buffer_size() if plain else buffered_bytes(transport)
        if buffered > self._high_water:
            assert self._writer is not None, "nothing is written before open()"
            self.wait(self._writer.drain)
        return buffered

    def wait(self, ready: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Be congested until what `ready` returns has been awaited; if congested already, do not
        call it.
        """
        if self._waiting is None:
            self.is_congested = True
            waiting = asyncio.get_running_loop().create_task(self._wait(ready))
            if not waiting.done():  # eager tasks may be (Python 3.12)
                self._waiting = waiting

    async def _wait(self, ready: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await ready()
            await self.delivery.passes_on(self._high_water)
        except OSError:
            pass  # it is lost
        finally:
            self._waiting = None
        self.is_congested = False
        self._session.writer_changed()

    def end(self, at_once: bool) -> None:
        """Write nothing more, and let the peer see so once it has got all.

        Closing would do that too, but drop what the peer is still sending, and with it, at times,
        what it has not read yet.  TLS has only that: then it is done if it has to be `at_once`.
        """
        if self.transport is None or self.transport.is_closing():
            return
        try:
            if self.transport.can_write_eof():
                self.transport.write_eof()
            elif at_once:
                self.transport.close()
        except OSError:
            pass  # the connection was lost in this very turn

    async def finish(self, timeout: float) -> None:
        """Wait until all has left the process, and cut the connection if it has not in `timeout`
        seconds.
        """
        if self._waiting is None and not self.buffered:
            return  # as a rule, and so there is no timer for it
        try:
            async with async_timeout.timeout(timeout):
                while self._waiting is not None:
                    await asyncio.wait([self._waiting])
                if self.buffered and self.transport is not None and self._writer is not None:
                    limit_buffer(self.transport, 0)
                    await self._writer.drain()
                    await self.delivery.passes_on(0)
        except (OSError, asyncio.TimeoutError):
            self.abort()

    def close(self) -> None:
        """Close the connection once what was written has left."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Cut the connection, with whatever is buffered."""
        if self.transport is not None:
            self.transport.abort()
