"""The connection that you use: messages come in through a queue, and go out through a transport.

One task reads from the transport.  It ends the connection when the transport cannot go on, and
pauses while the queue is full.
"""

import asyncio
import collections
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

import async_timeout

from sockjs_aio.client.options import ClientOptions
from sockjs_aio.client.silence import Silence
from sockjs_aio.client.transport import LOST, Transport, TransportError
from sockjs_aio.errors import ConnectionClosedError
from sockjs_aio.protocol.server_frames import ServerFrame

logger: logging.Logger = logging.getLogger("sockjs_aio")

_OVERHEAD = 64
"""Bytes that a queued message counts besides its text, so that empty ones are not free."""

_GRACE = 1.0
"""Seconds in which the server may still say why it ended a session that sends do not find."""


class ClientSocket:
    """A connection to a SockJS service; `connect` makes it.

    Iterate over it to get messages: the iteration ends when you close the connection or it ends
    normally, and raises a ConnectionClosedError when it ends otherwise.

    Args:
        transport: What carries it; it is open.
        options: The options of the connection.
        release: Awaited at the end.
    """

    def __init__(
        self, transport: Transport, options: ClientOptions, release: Callable[[], Awaitable[Any]]
    ) -> None:
        self.transport: str = transport.name
        """The name of the transport, such as ``"xhr_streaming"``."""
        self.on_heartbeat: Callable[[], object] = lambda: None
        """Called at each heartbeat, and at pings and pongs of a WebSocket; you may set it."""
        self._transport = transport
        self._transport.failed = self._send_failed
        self._options = options
        self._limit = options.receive_queue_limit
        self._release = release
        self._queue: collections.deque[tuple[Any, int]] = collections.deque()  # with its size
        self._size = 0
        self._changed = asyncio.Event()
        # the end
        self._end: ConnectionClosedError | None = None
        self._is_reading = True
        self._is_closing = False
        self._has_closed = asyncio.Event()
        self._released = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._silence = Silence(options.heartbeat_timeout, self._ask, self._is_silent)
        self._reader = asyncio.create_task(self._read())

    def __repr__(self) -> str:
        state = "open" if self._end is None else f"closed: {self._end}"
        return f"<ClientSocket {self.transport}, {state}>"

    @property
    def close_code(self) -> int | None:
        """The close code; None while the connection is open."""
        return self._end.code if self._end else None

    @property
    def close_reason(self) -> str | None:
        """The close reason; None while the connection is open."""
        return self._end.reason if self._end else None

    async def send(self, message: str | bytes) -> None:
        """Send a message, in order with the others.

        On HTTP transports this queues it, and waits while `send_queue_limit` bytes are queued.
        Only `rawwebsocket` takes `bytes`.

        Raises:
            ConnectionClosedError: If the connection has ended.
            TypeError: If `message` is of another type.
        """
        if not isinstance(message, (str, bytes)):
            raise TypeError(f"send takes a str, not {message!r}: encode it, for instance as JSON")
        self._check()
        try:
            await self._transport.send(message)
        except TransportError as error:
            raise await self._why_unsent(error) from error

    async def receive(self) -> Any:
        """Return the next message: a `str`, or with `rawwebsocket` also `bytes`.

        If the server sends other JSON values than strings, you get those, as with sockjs-client.

        Raises:
            ConnectionClosedError: If the connection has ended, normally or not, and there are no
                more messages.
        """
        while not self._queue:
            self._check()
            await self._wait()
        message, size = self._queue.popleft()
        self._size -= size
        self._changed.set()
        return message

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except ConnectionClosedError as error:
            if error.is_normal or self._is_closing:
                raise StopAsyncIteration from None
            raise

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Send what is queued, and close.  If the connection has ended, do nothing.

        This waits at most `close_timeout` seconds.  Only WebSockets carry code and reason to the
        server.

        Raises:
            ValueError: If `code` is not 1000 or from 3000 to 4999, or `reason` is too long.
        """
        if code != 1000 and not 3000 <= code <= 4999:
            raise ValueError(f"close(code={code!r}): it must be 1000, or from 3000 to 4999")
        if len(reason.encode()) > 123:
            raise ValueError("close(reason=...): it must have at most 123 bytes in UTF-8")
        if self._end is None:
            self._is_closing = True
            self._finish(ConnectionClosedError(code, reason))
            await self._close_transport(code, reason)
        await self._released.wait()

    def close_soon(self) -> "asyncio.Task[None]":
        """Begin to close; return the task in which `close` runs."""
        if self._closing is None:
            self._closing = asyncio.create_task(self.close())
        return self._closing

    async def __aenter__(self) -> "ClientSocket":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    # Inside.

    async def _close_transport(self, code: int, reason: str) -> None:
        try:  # the reader goes on meanwhile: a poll that is cut off would end the session
            with contextlib.suppress(TransportError, asyncio.TimeoutError):
                async with async_timeout.timeout(self._options.close_timeout):
                    await self._transport.close(code, reason)
        finally:  # also when you are cancelled
            self._has_closed.set()
            if self._is_reading:
                self._reader.cancel()

    def _check(self) -> None:
        if self._end is not None:
            raise ConnectionClosedError(self._end.code, self._end.reason)

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _read(self) -> None:
        """Read until the end; then release all, which nobody else does."""
        try:
            await self._read_frames()
        except TransportError as error:
            self._finish(ConnectionClosedError(error.code, str(error)))
        except Exception as error:  # such as one of `on_heartbeat`
            logger.exception("the client gives up its connection over %s", self.transport)
            self._finish(ConnectionClosedError(LOST, f"the client failed: {error!r}"))
        finally:  # also when the loop ends and cancels all tasks
            self._is_reading = False
            self._finish(ConnectionClosedError(LOST, "the event loop ended"))
            try:
                if self._is_closing:
                    await self._has_closed.wait()
            finally:
                await self._let_go()

    async def _let_go(self) -> None:
        for task in self._tasks:
            task.cancel()
        assert self._end is not None, "it is set by now"
        try:
            await self._transport.abort(self._end.code)
        finally:
            try:
                await self._release()
            finally:
                self._released.set()

    async def _read_frames(self) -> None:
        is_open = True
        while is_open:
            self._silence.listen()
            frame = await self._transport.receive()
            self._silence.heard()
            is_open = self._take(frame)
            while self._size > self._limit:
                await self._wait()

    def _take(self, frame: ServerFrame | bytes) -> bool:
        """Take a frame; return False if it is the last one."""
        if isinstance(frame, bytes):
            self._put((frame,), len(frame))
        elif frame.kind == "a":
            self._put(frame.messages, frame.size)
        elif frame.kind == "h":
            self.on_heartbeat()
        elif frame.kind == "c":
            self._finish(ConnectionClosedError(frame.code, frame.reason))
            return False
        elif frame.kind == "o":  # the server was restarted, say, and has opened another session
            self._finish(ConnectionClosedError(LOST, "the server has lost the session"))
            return False
        return True

    def _put(self, messages: Sequence[Any], size: int) -> None:
        if messages:
            share = size // len(messages) + _OVERHEAD
            self._queue += [(message, share) for message in messages]
            self._size += share * len(messages)
            self._changed.set()

    async def _why_unsent(self, error: TransportError) -> ConnectionClosedError:
        """Return how the connection has ended; the reader may be about to be told."""
        with contextlib.suppress(asyncio.TimeoutError):
            async with async_timeout.timeout(_GRACE):
                while self._end is None:
                    await self._wait()
        self._fail(ConnectionClosedError(error.code, str(error)))
        assert self._end is not None, "it has just been set"
        return ConnectionClosedError(self._end.code, self._end.reason)

    def _send_failed(self, error: TransportError) -> None:
        self._start(self._why_unsent(error))

    def _ask(self) -> None:
        self._start(self._ping())

    async def _ping(self) -> None:
        with contextlib.suppress(TransportError):  # the reader will notice
            await self._transport.ping()

    def _is_silent(self) -> None:
        seconds = self._options.heartbeat_timeout
        self._fail(ConnectionClosedError(LOST, f"the server was silent for {seconds:g} s"))

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fail(self, end: ConnectionClosedError) -> None:
        """Give the connection up, unless it has ended already."""
        if self._end is None:
            self._finish(end)
            self._reader.cancel()

    def _finish(self, end: ConnectionClosedError) -> None:
        """The connection has ended, or is about to; only the first end counts."""
        if self._end is None:
            self._end = end
            self._changed.set()
            self._silence.stop()
