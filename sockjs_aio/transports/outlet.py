"""Write to a connection without a coroutine, and stop while the client does not read.

A call-back of the event loop cannot await, and a task for each write is dear.  So writes go to
aiohttp's ``request.transport`` itself, as long as little is buffered there; beyond that nothing is
written until the buffer has emptied, which one task waits for.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from sockjs_aio.tcp import Delivery

HIGH_WATER = 65536
"""Bytes buffered in a transport beyond which asyncio, and so this, calls it congested."""


class Outlet:
    """The connection of one request, for writing.

    Args:
        request: Whose connection to write to.
        writer: What ``prepare`` of its response has returned; used to wait for room.
        limit: The session's `send_queue_limit`; a small one lowers the mark for congestion.
        on_room: Called when the connection takes data again after it was congested.
    """

    __slots__ = ("transport", "is_congested", "_writer", "_high_water", "_on_room", "_waiting")

    def __init__(
        self,
        request: web.Request,
        writer: AbstractStreamWriter,
        limit: int,
        on_room: Callable[[], None],
    ) -> None:
        self.transport = request.transport
        self.is_congested = False
        self._writer = writer
        self._high_water = min(HIGH_WATER, limit // 4)
        self._on_room = on_room
        self._waiting: asyncio.Task[None] | None = None
        if self._high_water < HIGH_WATER and self.transport is not None:
            self.transport.set_write_buffer_limits(self._high_water)

    @property
    def buffered(self) -> int:
        """Bytes that have not left the process."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def delivery(self) -> Delivery:
        """Watch over what was written."""
        return Delivery(self.transport)

    def write(self, data: bytes) -> None:
        """Write `data`; once the connection is lost, do nothing."""
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.write(data)
        if self.transport.get_write_buffer_size() > self._high_water:
            self.wait(self._writer.drain)

    def wait(self, ready: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Be congested until what `ready` returns has been awaited."""
        if self._waiting is None:
            self.is_congested = True
            self._waiting = asyncio.get_running_loop().create_task(self._wait(ready))

    async def _wait(self, ready: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await ready()
        except (ConnectionError, asyncio.CancelledError):
            return  # the transport's own coroutine notices the loss
        finally:
            self._waiting = None
        self.is_congested = False
        self._on_room()

    def end(self, at_once: bool) -> None:
        """Write nothing more, and let the peer see so once it has got all.

        Closing would do that too, but drop what the peer is still sending, and with it, at times,
        what it has not read yet.  TLS has only that: then it is done if it has to be `at_once`.
        """
        if self.transport is None or self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        elif at_once:
            self.transport.close()

    def close(self) -> None:
        """Close the connection once what was written has left."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Cut the connection, with whatever is buffered."""
        if self.transport is not None:
            self.transport.abort()
