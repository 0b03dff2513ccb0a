"""Call the hooks of one connection: in order, one at a time, each as often as promised."""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from sockjs_aio.close_info import LOST
from sockjs_aio.core.inbox import Inbox
from sockjs_aio.core.shield import Shielded
from sockjs_aio.core.turns import Turn
from sockjs_aio.protocol.frames import GO_AWAY, INTERNAL_ERROR

if TYPE_CHECKING:
    from sockjs_aio.core.session import Session

logger = logging.getLogger("sockjs_aio")


class Hooks:
    """Runs `on_open`, then `on_message` for each message, then `on_close` once.

    A transport that reads messages in a coroutine of its own (WebSocket) calls `run_inline`, and
    then awaits `open`, what `step` returns, and `finish`.  The others call `start`, and `accept`
    in the turns of `inbox`: what is to be done is then done by a task that exists only while there
    is something to do.

    All of them run in one context (`contextvars`), a copy of that of the request that opened the
    session, and never inside the code that caused them to be called.
    """

    __slots__ = (
        "context",
        "_session",
        "_limit",
        "_inbox",
        "is_running",
        "_opened",
        "_closed",
        "_task",
        "_is_starting",
        "_reader",
        "_forgive",
        "_is_plain",
        "is_cancelled",
        "is_dropping",
    )

    def __init__(self, session: "Session", receive_queue_limit: int) -> None:
        self.context = contextvars.copy_context()
        """What each hook of the session runs in, or a copy that takes its place afterwards: tasks
        cannot share a context before Python 3.11."""
        self._session = session
        self._limit = receive_queue_limit
        self._inbox: Inbox | None = None
        # what has been called
        self.is_running = False
        self._opened = False
        self._closed = False
        # where hooks run: a task for what there is to do, or the transport's own
        self._task: asyncio.Task[None] | None = None
        self._is_starting = False
        self._reader: asyncio.Task[Any] | None = None
        self._forgive: Callable[[], bool] | None = None
        self._is_plain = True  # whether `on_message` may be no coroutine function
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
        code = getattr(self._session.connection.on_message, "__code__", None)
        self._is_plain = code is None or not code.co_flags & inspect.CO_COROUTINE
        self._forgive = forgive

    async def open(self) -> None:
        """Call `on_open`; the session is closed when it refuses or fails.

        If it is over already no hook is ever called, as with `start`.
        """
        if self._session.close_info is not None:
            self.discard()
            return
        self._opened = True
        connection, info = self._session.connection, self._session.info
        if await self._call("on_open", connection.on_open, info) is False:
            self._session.close(*GO_AWAY)

    async def message(self, message: str | bytes) -> None:
        """Call `on_message`; the session is closed when it fails."""
        await self._call("on_message", self._session.connection.on_message, message)

    def step(self, message: str | bytes) -> Awaitable[None] | None:
        """As `message`, up to where the hook waits: return what is to be awaited then.

        Most hooks do not wait, and then no coroutine is made besides theirs.
        """
        assert self._forgive is not None, "run_inline comes first"
        self.is_running = True
        coroutine: Coroutine[Any, Any, Any] | None = None
        try:
            hook = self._session.connection.on_message
            if self._is_plain:
                coroutine, awaited = self.context.run(_started, "on_message", hook, message)
            else:  # micro-optimisation: none of its code runs before it is stepped
                coroutine = hook(message)
                awaited = self.context.run(coroutine.send, None)
        except StopIteration:  # it did not have to wait
            coroutine = None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            coroutine = None
            self._fail("on_message", error)
        if coroutine is not None:
            rest = Shielded(self.context, coroutine, awaited, self._forgive_hook)
            return self._guard("on_message", rest)
        self.is_running = self.is_cancelled = False
        return None

    async def finish(self) -> None:
        """Have `on_close` called, or wait for it if it is being called."""
        if self._task is not None:
            await asyncio.wait([self._task])
        else:
            await self._close()
        self._reader = self._forgive = None

    def is_forgiven(self) -> bool:
        """Tell whether the cancellation that has come only says that the client has gone."""
        if self.is_cancelled or self._forgive is None:
            return False
        # `on_close` may run in a task of its own, which the loss does not cancel
        return asyncio.current_task() is self._reader and self._forgive()

    def _is_read(self) -> bool:
        """Tell whether there is a reader that comes to `finish` by itself: it is what runs now, or
        it is not told to drop messages, so that its connection has ended and it handles the rest.
        """
        if self._reader is None:
            return False
        return not self.is_dropping or asyncio.current_task() is self._reader

    # For requests that come and go.

    def start(self) -> None:
        """Have `on_open` called; from the second call on, or if the session is over, do nothing."""
        if not self._opened and self._session.is_open:
            self._wake()

    @property
    def inbox(self) -> Inbox:
        """Where requests queue what they bring: see `accept`."""
        if self._inbox is None:
            self._inbox = Inbox(self._limit)
        return self._inbox

    async def accept(self, messages: Sequence[str], size: int) -> bool:
        """Queue `messages` of `size` bytes in all, in one's turn; wait while the queue is full.

        Return whether they were queued: not if the session has closed meanwhile.
        """
        if not self._session.is_open or not await self.inbox.put(messages, size):
            return False
        if messages:
            self._wake()
        return True

    def discard(self) -> None:
        """Forget the messages that were accepted and not handled."""
        self.is_dropping = True
        if self._inbox is not None:
            self._inbox.clear()

    def close(self) -> None:
        """The session has closed: have `on_close` called once the hook that runs has returned."""
        if self._inbox is not None:
            self._inbox.close()
        if self._opened and not self.is_running and not self._is_read():
            self._wake()

    def cancel(self) -> None:
        """Cancel the hook that runs, and forget what would come before `on_close`: time is over."""
        self.discard()
        task = self._task or self._reader
        if self.is_running and task is not None:
            self.is_cancelled = True
            task.cancel()

    def log(
        self, level: int, text: str, *arguments: object, exc_info: BaseException | None = None
    ) -> None:
        """Log something about the session with the context variables that its hooks see."""
        # in a copy: a hook that closes its session is in the context already
        self.context.copy().run(logger.log, level, text, *arguments, exc_info=exc_info)

    def unbind(self) -> None:
        """Forget the session, which is over: it must not wait for the garbage collector."""
        del self._session

    # The task.

    def _wake(self) -> None:
        if self._task is None:
            self._is_starting = True
            create_task = asyncio.get_running_loop().create_task
            self._task = self.context.run(create_task, self._run())
            self._is_starting = False

    async def _run(self) -> None:
        try:
            if self._is_starting:  # an eager task (Python 3.12): its maker goes on first
                await asyncio.sleep(0)
            if not self._opened:
                await self.open()
            await self._handle_inbox()
            if not self._session.is_open:
                await self._close()
        finally:
            if self._forgive is None:
                self.context = contextvars.copy_context()
            self._task = None
            self._session.hooks_returned()

    async def _handle_inbox(self) -> None:
        turn = Turn()
        while self._inbox:
            await self.message(self._inbox.take())
            if turn.is_over and self._inbox:
                await turn.next()

    async def _close(self) -> None:
        if self._opened and not self._closed:
            self._closed = True
            await self._call("on_close", self._session.connection.on_close)

    # One hook.

    def _call(
        self, name: str, hook: Callable[..., Any], *arguments: Any
    ) -> Coroutine[Any, Any, Any]:
        self.is_running = True
        return self._guard(name, self._begin(name, hook, *arguments))

    async def _begin(self, name: str, hook: Callable[..., Any], *arguments: Any) -> Any:
        if self._forgive is None:  # in a task that has the context
            return await _checked(name, hook(*arguments))
        context = self.context
        try:
            coroutine, awaited = context.run(_started, name, hook, *arguments)
        except StopIteration as finished:  # it did not have to wait
            return finished.value
        return await Shielded(context, coroutine, awaited, self._forgive_hook)

    async def _guard(self, name: str, running: Awaitable[Any]) -> Any:
        try:
            return await running
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # CancelledError: of what it waited for, or of itself
            self._fail(name, error)
        finally:
            self.is_running = self.is_cancelled = False

    def _forgive_hook(self) -> bool:
        is_forgiven = self.is_forgiven()
        if is_forgiven:
            self._session.fail(LOST)
        return is_forgiven

    def _fail(self, name: str, error: BaseException) -> None:
        hook = self._session.connection._sockjs_hook_name(name)
        if self.is_cancelled:
            text = "session %s: %s took too long and was cancelled"
            self.log(logging.WARNING, text, self._session, hook)
        else:
            text = "session %s: %s failed%s"
            self.log(logging.ERROR, text, self._session, hook, _hint(error), exc_info=error)
        self.discard()
        self._session.close(*INTERNAL_ERROR, "error")


def _hint(error: BaseException) -> str:
    """Say what the commonest mistake is, whose own message does not."""
    text = str(error) if isinstance(error, TypeError) else ""
    if "NoneType" in text and "await" in text:  # the words differ between versions of Python
        return ": send, broadcast and close are plain functions, do not await them"
    return ""


def _started(
    name: str, hook: Callable[..., Any], *arguments: Any
) -> tuple[Coroutine[Any, Any, Any], Any]:
    """Call a hook, up to where it waits for the first time, and for what.

    Raises:
        StopIteration: If it did not have to wait.
    """
    try:
        coroutine = _checked(name, hook(*arguments))
    except StopIteration as error:  # of a plain function; as if a coroutine had raised it
        raise RuntimeError(f"{name} raised StopIteration") from error
    return coroutine, coroutine.send(None)


def _checked(name: str, awaitable: Any) -> Coroutine[Any, Any, Any]:
    if type(awaitable) is CoroutineType:
        return awaitable
    if not inspect.isawaitable(awaitable):
        raise TypeError(f"{name} has to be a coroutine: write async def {name}")
    return _coroutine(awaitable)


async def _coroutine(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
