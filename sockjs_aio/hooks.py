"""Call the hooks of one connection: in order, one at a time, each as often as promised."""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Literal

from sockjs_aio.close_info import LOST
from sockjs_aio.protocol.frames import GO_AWAY, INTERNAL_ERROR
from sockjs_aio.protocol.machine import MESSAGE_OVERHEAD
from sockjs_aio.shield import Shielded

if TYPE_CHECKING:
    from sockjs_aio.session import Session

logger = logging.getLogger("sockjs_aio")

YIELD_EVERY = 100
"""Messages of one batch after which the loop gets its turn."""

MAX_WAITING = 64
"""Requests of one session that wait for their turn; sockjs-client has one on its way at a time."""


class Turn(asyncio.Lock):
    """A lock that knows how many wait for it."""

    waiting = 0

    async def acquire(self) -> Literal[True]:
        """Wait for the turn."""
        self.waiting += 1
        try:
            return await super().acquire()
        finally:
            self.waiting -= 1


class Hooks:
    """Runs `on_open`, then `on_message` for each message, then `on_close` once.

    A transport that reads messages in a coroutine of its own (WebSocket) calls `run_inline` and
    awaits `open`, `message` and `finish`.  The others call `start`, and `accept` in their `turn`:
    what is to be done is then done by a task that exists only while there is something to do.
    """

    __slots__ = (
        "_session",
        "_limit",
        "_inbox",
        "_inbox_size",
        "_turn",
        "_room",
        "is_running",
        "_opened",
        "_closed",
        "_task",
        "_reader",
        "_forgive",
        "is_cancelled",
        "is_dropping",
    )

    def __init__(self, session: "Session", receive_queue_limit: int) -> None:
        self._session = session
        # incoming: messages accepted and not handled, their bytes, and who waits for room
        self._limit = receive_queue_limit
        self._inbox: deque[tuple[str, int]] | None = None
        self._inbox_size = 0
        self._turn: Turn | None = None
        self._room: asyncio.Future[None] | None = None
        # what has been called
        self.is_running = False
        self._opened = False
        self._closed = False
        # where hooks run: a task for what there is to do, or the transport's own
        self._task: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._forgive: Callable[[], bool] | None = None
        self.is_cancelled = False
        self.is_dropping = False  # messages are handled no more

    @property
    def is_finished(self) -> bool:
        """Whether no hook will be called any more, once the session is closed."""
        return not self.is_running and self._task is None and (self._closed or not self._opened)

    # In a coroutine that reads messages itself.

    def run_inline(self, forgive: Callable[[], bool]) -> None:
        """Say that hooks will be awaited in the present task, and see `Shielded` for `forgive`."""
        self._reader = asyncio.current_task()
        self._forgive = forgive

    async def open(self) -> None:
        """Call `on_open`; the session is closed when it refuses or fails."""
        self._opened = True
        connection, info = self._session.connection, self._session.info
        if await self._call("on_open", connection.on_open, info) is False:
            self._session.close(*GO_AWAY)

    async def message(self, message: str | bytes) -> None:
        """Call `on_message`; the session is closed when it fails."""
        await self._call("on_message", self._session.connection.on_message, message)

    async def finish(self) -> None:
        """Have `on_close` called, or wait for it if it is being called."""
        if self._task is not None:
            await asyncio.wait([self._task])
        elif self._opened and not self._closed:
            await self._close()
        self._reader = self._forgive = None

    def is_forgiven(self) -> bool:
        """Tell whether the cancellation that has come only says that the client has gone."""
        if self.is_cancelled or self._forgive is None:
            return False
        # `on_close` may run in a task of its own, which the loss does not cancel
        return asyncio.current_task() is self._reader and self._forgive()

    def client_left(self) -> None:
        """Have the hook that runs see it; what came before is handled after it, as over HTTP."""
        if self._session.is_open:
            self._session.fail(LOST)
            self.is_dropping = False

    # For requests that come and go.

    def start(self) -> None:
        """Have `on_open` called; from the second call on, or if the session is over, do nothing."""
        if not self._opened and self._session.is_open:
            self._wake()

    @property
    def turn(self) -> asyncio.Lock:
        """To be held from before a request's body is read until its messages are queued.

        So whoever came first is served first, and a session has one body in memory, however many
        requests wait: theirs stay with the connections.
        """
        if self._turn is None:
            self._turn = Turn()
        return self._turn

    @property
    def is_crowded(self) -> bool:
        """Whether so many wait for their turn that nobody else may."""
        return self._turn is not None and self._turn.waiting >= MAX_WAITING

    async def accept(self, messages: Sequence[str], size: int) -> bool:
        """Queue `messages` of `size` bytes in all, in one's `turn`; wait while the queue is full.

        Return whether they were queued: not if the session has closed meanwhile.
        """
        session = self._session
        size += len(messages) * MESSAGE_OVERHEAD
        await self._wait_for_room(session, size)
        if not session.is_open:
            return False
        self._put(messages, size)
        return True

    def discard(self) -> None:
        """Forget the messages that were accepted and not handled."""
        self.is_dropping = True
        self._inbox = None
        self._inbox_size = 0
        self._make_room()

    def close(self) -> None:
        """The session has closed: have `on_close` called once the hook that runs has returned."""
        self._make_room()
        if self._opened and not self.is_running:
            self._wake()

    def cancel(self) -> None:
        """Cancel the hook that runs, and forget what would come before `on_close`: time is over."""
        self.discard()
        task = self._task or self._reader
        if self.is_running and task is not None:
            self.is_cancelled = True
            task.cancel()

    def unbind(self) -> None:
        """Forget the session, which is over: it must not wait for the garbage collector."""
        del self._session

    # Incoming queue.

    def _is_full(self, size: int) -> bool:
        return self._inbox_size > 0 and self._inbox_size + size > self._limit

    async def _wait_for_room(self, session: "Session", size: int) -> None:
        while self._is_full(size) and session.is_open:
            self._room = asyncio.get_running_loop().create_future()
            try:
                await self._room
            finally:
                self._room = None

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _put(self, messages: Sequence[str], size: int) -> None:
        if not messages:
            return
        if self._inbox is None:
            self._inbox = deque()
        share = size // len(messages)
        self._inbox.extend([(message, share) for message in messages])
        self._inbox_size += share * len(messages)
        self._wake()

    # The task.

    def _wake(self) -> None:
        if self._task is None:
            task = asyncio.get_running_loop().create_task(self._run())
            if not task.done():  # eager tasks may be (Python 3.12)
                self._task = task

    async def _run(self) -> None:
        try:
            if not self._opened:
                await self.open()
            await self._handle_inbox()
            if not self._session.is_open:
                await self._close()
        finally:
            self._task = None
            self._session.hooks_returned()

    async def _handle_inbox(self) -> None:
        handled = 0
        while self._inbox:
            message, size = self._inbox.popleft()
            self._inbox_size -= size
            self._make_room()
            await self.message(message)
            handled += 1
            if handled % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        self._inbox = None

    async def _close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._call("on_close", self._session.connection.on_close)

    # One hook.

    async def _call(self, name: str, hook: Callable[..., Any], *arguments: Any) -> Any:
        self.is_running = True
        try:
            awaitable = hook(*arguments)
            if type(awaitable) is not CoroutineType and not inspect.isawaitable(awaitable):
                raise TypeError(f"{name} has to be a coroutine: write async def {name}")
            if self._forgive is None:
                return await awaitable
            if type(awaitable) is not CoroutineType:
                awaitable = _coroutine(awaitable)
            try:
                awaited = awaitable.send(None)
            except StopIteration as finished:  # it did not have to wait
                return finished.value
            return await Shielded(awaitable, awaited, self._forgive_hook)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # CancelledError: of what it waited for, or of itself
            self._fail(name, error)
        finally:
            self.is_running = self.is_cancelled = False

    def _forgive_hook(self) -> bool:
        is_forgiven = self.is_forgiven()
        if is_forgiven:
            self.client_left()
        return is_forgiven

    def _fail(self, name: str, error: BaseException) -> None:
        hook = f"{type(self._session.connection).__name__}.{name}"
        if self.is_cancelled:
            logger.warning("session %s: %s took too long and was cancelled", self._session, hook)
        else:
            logger.error("session %s: %s failed", self._session, hook, exc_info=error)
        self.discard()
        self._session.close(*INTERNAL_ERROR, "error")


async def _coroutine(awaitable: Any) -> Any:
    return await awaitable
