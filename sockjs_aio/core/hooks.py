"""Call the hooks of one connection: in order, one at a time, each as often as promised.

Requests of HTTP transports come and go, so nobody is there to await a hook.  A task does, which
exists only while there is something to call: an idle session costs none.  WebSockets have a task of
their own already, and call their hooks in it: see `core.inline`.

All hooks of a session run in one context (`contextvars`), a copy of that of the request that opened
it, so that what a middleware has set there is seen in each; and none starts inside the code that
caused it, so an application's data never changes in the middle of its own loop.
"""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import CoroutineType
from typing import Any, Protocol

from sockjs_aio.close_info import CloseInfo
from sockjs_aio.connection import SockJSConnection
from sockjs_aio.core.inbox import Inbox
from sockjs_aio.info import ConnectionInfo
from sockjs_aio.protocol.ends import GO_AWAY, HOOK_FAILED, End, Initiator
from sockjs_aio.turns import Turn

logger = logging.getLogger("sockjs_aio")


class HookedSession(Protocol):
    """What hooks need of their session."""

    connection: SockJSConnection
    close_info: CloseInfo | None

    @property
    def info(self) -> ConnectionInfo:
        """About the request that opened it."""

    @property
    def is_open(self) -> bool:
        """Whether messages are accepted."""

    def close(
        self,
        code: int = GO_AWAY.code,
        reason: str = GO_AWAY.reason,
        initiator: Initiator = "server",
    ) -> None:
        """Close it: a hook has failed, or has refused the client."""

    def peer_failed(self, end: End) -> None:
        """Its client has gone while a hook ran."""

    def hooks_returned(self) -> None:
        """No hook runs now."""


class Hooks:
    """Runs `on_open`, then `on_message` for each message, then `on_close` once.

    Transports call `start` once, and `accept` in the turns of `inbox`.

    Args:
        session: Whose hooks they are.
        receive_queue_limit: Bytes of messages that may wait.
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
        "is_cancelled",
        "is_dropping",
    )

    def __init__(self, session: HookedSession, receive_queue_limit: int) -> None:
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
        # what does that, while there is something to do
        self._task: asyncio.Task[None] | None = None
        self._is_starting = False
        self.is_cancelled = False  # the server is ending, and the hook took too long
        self.is_dropping = False  # messages are handled no more

    @property
    def is_finished(self) -> bool:
        """Whether no hook will be called any more, once the session is closed."""
        return not self.is_running and self._task is None and (self._closed or not self._opened)

    def start(self) -> None:
        """Have `on_open` called; from the second call on, or if the session is over, do nothing."""
        if not self._opened and self._session.is_open:
            self._wake()

    async def open(self) -> None:
        """Call `on_open`; the session is closed when it refuses or fails.

        If the session is over already no hook is ever called.
        """
        if self._session.close_info is not None:
            self.discard()
            return
        self._opened = True
        connection, info = self._session.connection, self._session.info
        if await self._call("on_open", connection.on_open, info) is False:
            self._session.close(GO_AWAY.code, GO_AWAY.reason)

    async def message(self, message: str | bytes) -> None:
        """Call `on_message`; the session is closed when it fails."""
        await self._call("on_message", self._session.connection.on_message, message)

    async def finish(self) -> None:
        """Have `on_close` called, or wait for it if it is being called."""
        if self._task is not None:
            await asyncio.wait([self._task])
        else:
            await self._close()

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
        if self._opened and not self.is_running and self._is_on_its_own():
            self._wake()

    def cancel(self) -> None:
        """Cancel the hook that runs, and forget what would come before `on_close`: time is over."""
        self.discard()
        task = self._running_task()
        if self.is_running and task is not None:
            self.is_cancelled = True
            task.cancel()

    def log(
        self, level: int, text: str, *arguments: object, exc_info: BaseException | None = None
    ) -> None:
        """Log something about the session with the context variables that its hooks see."""
        # in a copy: a hook that closes its session is in the context already
        self.context.copy().run(logger.log, level, text, *arguments, exc_info=exc_info)

    def break_cycles(self) -> None:
        """Forget the session, which is over: it must not wait for the garbage collector."""
        del self._session

    # The task.

    def _is_on_its_own(self) -> bool:
        """Tell whether nobody comes to `finish` by themselves."""
        return True

    def _running_task(self) -> "asyncio.Task[Any] | None":
        """Return the task that runs hooks, if there is one now."""
        return self._task

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
            self._keep_context()
            self._task = None
            self._session.hooks_returned()

    def _keep_context(self) -> None:
        self.context = contextvars.copy_context()

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
        return await checked_hook(name, hook(*arguments))

    async def _guard(self, name: str, running: Awaitable[Any]) -> Any:
        try:
            return await running
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # CancelledError: of what it waited for, or of itself
            self._fail(name, error)
        finally:
            self.is_running = self.is_cancelled = False

    def _fail(self, name: str, error: BaseException) -> None:
        hook = self._session.connection._sockjs_hook_name(name)
        if self.is_cancelled:
            text = "session %s: %s took too long and was cancelled"
            self.log(logging.WARNING, text, self._session, hook)
        else:
            text = "session %s: %s failed%s"
            self.log(logging.ERROR, text, self._session, hook, _hint(error), exc_info=error)
        self.discard()
        self._session.close(*HOOK_FAILED)


def _hint(error: BaseException) -> str:
    """Say what the commonest mistake is, whose own message does not."""
    text = str(error) if isinstance(error, TypeError) else ""
    if "NoneType" in text and "await" in text:  # the words differ between versions of Python
        return ": send, broadcast and close are plain functions, do not await them"
    return ""


def checked_hook(name: str, awaitable: Any) -> Coroutine[Any, Any, Any]:
    """Return what calling the hook `name` has given, as a coroutine.

    Raises:
        TypeError: If it is nothing to await.
    """
    if type(awaitable) is CoroutineType:
        return awaitable
    if not inspect.isawaitable(awaitable):
        raise TypeError(f"{name} has to be a coroutine: write async def {name}")
    return _coroutine(awaitable)


async def _coroutine(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
