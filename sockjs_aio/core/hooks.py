"""Calls the hooks of one connection: in order, one at a time, and `on_close` exactly once.

With HTTP transports, requests come and go, so no request can await a hook.  A task does that.  It
exists only while there is a hook to call, so an idle session costs no task.  A WebSocket's hooks
start where its messages come in: see `core.websocket_session`.

All hooks of a session run in one context (`contextvars`), a copy of that of the request that opened
the session, so each of them sees what a middleware has set there.  No hook starts inside the call
that caused it, such as `close`: an application's data must not change while its own code loops over
it.
"""

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import CoroutineType
from typing import Any, Concatenate, ParamSpec

from sockjs_aio.core.events import Observer
from sockjs_aio.core.hook_task import Rest
from sockjs_aio.core.hooked_session import HookedSession
from sockjs_aio.core.inbox import Inbox
from sockjs_aio.gaps import GapSession
from sockjs_aio.protocol.ends import GO_AWAY, HOOK_FAILED
from sockjs_aio.turns import Turn, clock

P = ParamSpec("P")


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
        "_gaps",
    )

    def __init__(self, session: HookedSession, receive_queue_limit: int) -> None:
        self.context: contextvars.Context = contextvars.copy_context()
        """The context in which the session's hooks run, whatever task runs them."""
        self._session = session
        self._limit = receive_queue_limit
        self._inbox: Inbox | None = None
        # whether a hook runs, and which were called
        self.is_running: bool = False
        self._opened = False
        self._closed = False
        # the task that calls them, while there is something to call
        self._task: asyncio.Task[None] | None = None
        self._is_starting = False
        self.is_cancelled: bool = False  # the server is shutting down, and the hook took too long
        self.is_dropping: bool = False  # no more messages are handled
        # gaps that `on_gap` was not called for yet; nearly always None
        self._gaps: dict[tuple[GapSession, str], None] | None = None

    @property
    def is_finished(self) -> bool:
        """For a closed session: True if no hook runs and none will be called."""
        return not self.is_running and self._task is None and (self._closed or not self._opened)

    def start(self) -> bool:
        """Have `on_open` called in the next turn of the event loop; return whether it will be.

        A second call, or one after the session's end, does nothing.
        """
        if self._opened or not self._session.is_open:
            return False
        self._wake()
        return True

    async def open(self) -> None:
        """Call `on_open`; close the session if it returns False or fails.

        If the session has ended already, no hook is ever called.
        """
        if self._session.close_info is not None:
            self.discard()
            return
        self._opened = True
        connection, info = self._session.connection, self._session.info
        if await self._call("on_open", connection.on_open, info) is False:
            self._session.close(GO_AWAY.code, GO_AWAY.reason)

    async def message(self, message: str | bytes) -> None:
        """Call `on_message`; close the session if it fails."""
        await self._call("on_message", self._session.connection.on_message, message)

    async def gap(self, channel: str) -> None:
        """Call `on_gap`; close the session if it fails."""
        await self._call("on_gap", self._session.connection.on_gap, channel)

    async def finish(self) -> None:
        """Have `on_close` called, or wait for it if it is being called."""
        if self._task is not None:
            await asyncio.wait([self._task])
        else:
            await self._close()

    @property
    def inbox(self) -> Inbox:
        """The queue for messages of requests: see `accept`."""
        if self._inbox is None:
            self._inbox = Inbox(self._limit)
        return self._inbox

    async def accept(self, messages: Sequence[str], size: int) -> bool:
        """Queue `messages` of `size` bytes in all; wait while the queue is full.

        The caller must hold `inbox.turn`.  Return False if the session was closed meanwhile; then
        nothing is queued.
        """
        if not self._session.is_open or not await self.inbox.put(messages, size):
            return False
        if messages:
            self._wake()
        return True

    def accept_now(self, messages: Sequence[str], size: int) -> bool:
        """Do what `accept` does if it does not need to wait; otherwise return False.

        The caller must not hold `inbox.turn`.
        """
        if not self._session.is_open or not self.inbox.put_now(messages, size):
            return False
        if messages:
            self._wake()
        return True

    def insert_gap(self, session: GapSession, channel: str) -> None:
        """Call `session.call_on_gap` when the running hook has returned, before waiting messages.

        If that is due already, do nothing.
        """
        if self._gaps is None:
            self._gaps = {}
        self._gaps[session, channel] = None
        self._gaps_changed()

    def _gaps_changed(self) -> None:
        if self._opened:
            self._wake()

    def _next_gap(self) -> tuple[GapSession, str] | None:
        while self._gaps:
            session, channel = first = next(iter(self._gaps))
            del self._gaps[first]
            if session.channels.is_subscribed(session, channel):
                return first
        self._gaps = None
        return None

    def discard(self) -> None:
        """Drop the messages that were accepted and not handled yet."""
        self.is_dropping = True
        if self._inbox is not None:
            self._inbox.clear()

    def close(self) -> None:
        """The session has closed: have `on_close` called when the running hook has returned."""
        if self._inbox is not None:
            self._inbox.close()
        if self._opened and not self.is_running:
            self._wake()

    def cancel(self) -> None:
        """Cancel the running hook and drop messages; `on_close` comes next.  For shutdown."""
        self.discard()
        task = self._running_task()
        if self.is_running and task is not None:
            self.is_cancelled = True
            task.cancel()

    def tell(
        self,
        event: Callable[Concatenate[Observer, P], None],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> None:
        """Tell observers about the session, with the context variables that its hooks see."""
        # in a copy: if a hook closes its session, the context is already entered
        self.context.copy().run(self._session.events.tell, event, *arguments, **named)

    def break_cycles(self) -> None:
        """Forget the session, which has ended, so that it does not need the garbage collector."""
        self._gaps = None
        del self._session

    # The task.

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
            if self._is_starting:  # an eager task (Python 3.12): the code that made it goes first
                await asyncio.sleep(0)
            if not self._opened:
                await self.open()
            await self._handle_inbox()
            if not self._session.is_open:
                await self._close()
        finally:
            self._task = None
            if self._inbox or not (self._opened and (self._closed or self._session.is_open)):
                self._go_on()
            self._session.hooks_returned()

    def _go_on(self) -> None:
        """Call the other hooks: something cancelled the task between two of them.

        A hook may have passed its `asyncio.current_task` to something that cancels it later.
        """
        if self._opened or self._session.close_info is None:
            self._wake()

    async def _handle_inbox(self) -> None:
        turn = Turn()
        while True:
            while self._gaps:
                if (gap := self._next_gap()) is not None:
                    await self._call("on_gap", gap[0].call_on_gap, gap[1])
            if not self._inbox:
                return
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
        # not the task's context, which is a copy: in a copy, a hook could not reset variables that
        # an earlier hook has set
        try:
            coroutine, awaited = self.context.run(self._started, name, hook, *arguments)
        except StopIteration as finished:  # it returned without waiting
            return finished.value
        return await Rest(self.context, coroutine, awaited)

    def _started(
        self, name: str, hook: Callable[..., Any], *arguments: Any
    ) -> tuple[Coroutine[Any, Any, Any], Any]:
        """Call a hook and run it until it first waits; return its coroutine and what that awaits.

        Raises:
            StopIteration: If it returned without waiting.
        """
        try:
            coroutine = self._coroutine(name, hook(*arguments))
        except StopIteration as error:  # from a plain function; Python does this for a coroutine
            raise RuntimeError(f"{name} raised StopIteration") from error
        return coroutine, coroutine.send(None)

    def _coroutine(self, name: str, awaitable: Any) -> Coroutine[Any, Any, Any]:
        """Return the coroutine to run for what calling the hook `name` has returned."""
        coroutine = checked_hook(name, awaitable)
        return self._watched(name, coroutine) if self._session.events.watches_hooks else coroutine

    async def _watched(self, name: str, coroutine: Coroutine[Any, Any, Any]) -> Any:
        tell, session = self._session.events.tell, self._session.connection.session
        hook = self._hook_name(name)
        tell(Observer.hook_started, session, hook)
        start = clock()
        try:
            result = await coroutine
        except BaseException as error:
            tell(Observer.hook_returned, session, hook, clock() - start, error)
            raise
        tell(Observer.hook_returned, session, hook, clock() - start, None)
        return result

    async def _guard(self, name: str, running: Awaitable[Any]) -> Any:
        try:
            return await running
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # also CancelledError: what it awaited, or it itself
            self._fail(name, error)
        finally:
            self.is_running = self.is_cancelled = False

    def _fail(self, name: str, error: BaseException) -> None:
        session = self._session.connection.session
        self.tell(Observer.hook_failed, session, self._hook_name(name), error)
        self.discard()
        self._session.close(*HOOK_FAILED)

    def _hook_name(self, name: str) -> str:
        return self._session.connection._sockjs_hook_name(name)


def checked_hook(name: str, awaitable: Any) -> Coroutine[Any, Any, Any]:
    """Return the result of calling the hook `name` as a coroutine.

    Raises:
        TypeError: If the hook did not return an awaitable.
    """
    if type(awaitable) is CoroutineType:
        return awaitable
    if not inspect.isawaitable(awaitable):
        raise TypeError(f"{name} must be a coroutine function: write async def {name}")
    return _coroutine(awaitable)


async def _coroutine(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
