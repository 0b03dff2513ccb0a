"""Calls the hooks of one connection: in order, one at a time, and `on_close` exactly once.

All hooks of a session run in one context (`contextvars`), a copy of that of the request that opened
the session, so each of them sees what a middleware has set there.  No hook starts inside the call
that caused it, such as `close`: an application's data must not change while its own code loops over
it.

`Hooks` knows which hook comes next and what follows from its end.  Who calls them when depends on
where messages come from: `websocket_session`, `request_session` and `awaited_hooks`.
"""

import contextvars
import inspect
from asyncio.tasks import _enter_task, _leave_task  # public: "Extending asyncio" in Python's docs
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from operator import methodcaller
from types import CoroutineType
from typing import Any, Concatenate, ParamSpec

from sockjs_aio.core.connection_checks import has_coroutine_message
from sockjs_aio.core.events import Observer
from sockjs_aio.core.hook_task import HookTask, Rest
from sockjs_aio.core.hooked_session import HookedSession
from sockjs_aio.core.process_exit import exit_soon
from sockjs_aio.gaps import GapSession
from sockjs_aio.protocol.ends import HOOK_FAILED
from sockjs_aio.turns import clock

P = ParamSpec("P")

CALL_ON_CLOSE = methodcaller("on_close")
"""Finds the hook where it calls it: a property may fail, like the hook itself."""


class Hooks:
    """Starts hooks at once, in the name of a task of the session; `is_running` tells if one waits.

    The owner calls `open_now`, `call_gaps_now` before messages, `steps` for messages, and
    `close_now` when the session has closed and no message is left, each only while no hook runs and
    no task is the current one.  It goes on when `_resume_soon` tells it to.

    Args:
        session: Whose hooks they are.
    """

    __slots__ = (
        "context",
        "_session",
        "is_running",
        "_opened",
        "_closed",
        "is_cancelled",
        "is_dropping",
        "_has_exited",
        "gaps",
        "_worker",
        "_is_plain",
    )

    def __init__(self, session: HookedSession) -> None:
        self.context: contextvars.Context = contextvars.copy_context()
        """The context in which the session's hooks run, whatever task runs them."""
        self._session = session
        # whether a hook runs, and which were called
        self.is_running: bool = False
        self._opened = False
        self._closed = False
        self.is_cancelled: bool = False  # the server is shutting down, and the hook took too long
        self.is_dropping: bool = False  # no more messages are handled
        self._has_exited = False  # the running hook has ended the process, and never returns
        # gaps that `on_gap` was not called for yet; nearly always None
        self.gaps: dict[tuple[GapSession, str], None] | None = None
        self._worker: HookTask | None = None  # an idle session has none
        self._is_plain = True  # unless `on_message` was a coroutine function at first

    @property
    def is_finished(self) -> bool:
        """For a closed session: True if no hook runs and none will be called."""
        return not self.is_running and (self._closed or not self._opened)

    # What comes next.

    def open_now(self) -> None:
        """Call `on_open`.  If the session has ended already, no hook is ever called."""
        session = self._session
        if session.close_info is not None:
            self.discard()
            return
        connection = session.connection
        self._is_plain = not has_coroutine_message(connection)
        self._opened = True
        self._start("on_open", methodcaller("on_open", session.info), connection)

    def steps(self, messages: list[Any], until: float) -> None:
        """Call `on_message` for each of `messages`, which are in reverse order, and remove it.

        Stop when a hook waits, when the others are to be dropped, when a gap comes before them, and
        at the time `until`.
        """
        worker = self._worker
        if worker is None or worker.is_spent():
            worker = self._new_worker()
        # micro-optimisation: Python 3.11's `get_running_loop` asks the kernel for the process's id
        loop, task = worker.loop, worker.task
        _enter_task(loop, task)
        try:  # once for all of them: this takes as long as a short hook
            self.context.run(self._steps, worker, messages, until)
        finally:
            _leave_task(loop, task)

    def call_gaps_now(self) -> None:
        """Call `on_gap` for each gap that is due, unless a hook waits."""
        while not self.is_running and (gap := self._next_gap()) is not None:
            self._start("on_gap", gap[0].call_on_gap, gap[1])

    def close_now(self) -> None:
        """Call `on_close`, unless it was called or `on_open` was not."""
        if self._opened and not self._closed:
            self._closed = True
            self._start("on_close", CALL_ON_CLOSE, self._session.connection)

    # What happens to the session.

    def insert_gap(self, session: GapSession, channel: str) -> None:
        """Call `session.call_on_gap` when the running hook has returned, before waiting messages.

        If that is due already, do nothing.
        """
        if self.gaps is None:
            self.gaps = {}
        self.gaps[session, channel] = None
        if self._opened:
            self._resume_soon()

    def discard(self) -> None:
        """Drop the messages that were accepted and not handled yet."""
        self.is_dropping = True

    def close(self) -> None:
        """The session has closed: have `on_close` called when the running hook has returned."""
        if self._has_exited:
            self._let_go()
        elif self._opened and not self.is_running:
            self._resume_soon()

    def cancel(self) -> None:
        """Cancel the running hook and drop messages; `on_close` comes next.  For shutdown."""
        self.discard()
        if self.is_running and self._worker is not None:
            self.is_cancelled = True
            self._worker.task.cancel()

    def rest(self) -> None:
        """Free what only a busy session needs."""
        if self._worker is not None and not self.is_running:
            self._worker.end()
            self._worker = None

    def break_cycles(self) -> None:
        """Forget the session, which has ended, so that it does not need the garbage collector."""
        self.rest()
        self.gaps = None
        del self._session

    def tell(
        self,
        event: Callable[Concatenate[Observer, P], None],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> None:
        """Tell observers about the session, with the context variables that its hooks see."""
        # in a copy: if a hook closes its session, the context is already entered
        self.context.copy().run(self._session.events.tell, event, *arguments, **named)

    # Inside.

    def _resume_soon(self) -> None:
        """Have the owner go on in a turn of its own."""
        raise NotImplementedError

    def _next_gap(self) -> tuple[GapSession, str] | None:
        while self.gaps:
            session, channel = first = next(iter(self.gaps))
            del self.gaps[first]
            if session.channels.is_subscribed(session, channel):
                return first
        self.gaps = None
        return None

    def _new_worker(self) -> HookTask:
        """Return a task of which nobody knows, to run a hook in its name."""
        if self._worker is not None:  # an application may cancel it
            self._worker.end()
        self._worker = worker = HookTask()
        return worker

    def _start(self, name: str, hook: Callable[..., Any], *arguments: Any) -> None:
        worker = self._worker
        if worker is None or worker.is_spent():
            worker = self._new_worker()
        loop, task = worker.loop, worker.task
        _enter_task(loop, task)
        self.is_running = True
        try:
            coroutine, awaited = self.context.run(self._started, name, hook, *arguments)
        except StopIteration as finished:  # it returned without waiting
            self._returned(name, finished.value, None)
        except (KeyboardInterrupt, SystemExit) as error:
            self._interrupted(error)
        except BaseException as error:
            self._returned(name, None, error)
        else:
            self._wait(name, coroutine, awaited)
        finally:
            _leave_task(loop, task)

    def _steps(self, worker: HookTask, messages: list[Any], until: float) -> None:
        self.is_running = True
        try:
            is_plain = self._is_plain or self._session.events.watches_hooks
            if is_plain or len(messages) > 1:
                coroutine: Any = self._each(worker, messages, until, is_plain)
            else:  # micro-optimisation: creating a coroutine runs none of its code
                try:
                    coroutine = self._session.connection.on_message(messages.pop())
                except StopIteration as error:  # as in `_started`
                    raise RuntimeError("on_message raised StopIteration") from error
                if type(coroutine) is not CoroutineType:  # a hook has replaced `on_message`
                    coroutine = checked_hook("on_message", coroutine)
            awaited = coroutine.send(None)
        except StopIteration:  # it returned without waiting
            self.is_running = self.is_cancelled = False
        except (KeyboardInterrupt, SystemExit) as error:
            self._interrupted(error)
        except BaseException as error:
            self._returned("on_message", None, error)
        else:
            self._wait("on_message", coroutine, awaited)

    async def _each(
        self, worker: HookTask, messages: list[Any], until: float, is_plain: bool
    ) -> None:
        """Await `on_message` for one message after the other, until one of them waits.

        Micro-optimisation: a hook that is awaited ends without `StopIteration`.
        """
        connection = self._session.connection
        while True:
            if is_plain:
                coroutine = self._called("on_message", connection.on_message, messages.pop())
            elif type(coroutine := connection.on_message(messages.pop())) is not CoroutineType:
                coroutine = checked_hook("on_message", coroutine)
            await coroutine
            if worker.rest is not None:  # a hook has waited: `_returned_later` goes on
                return
            if not messages or self.is_dropping or self.gaps:
                return
            if worker.is_spent() or clock() > until:
                return

    def _started(
        self, name: str, hook: Callable[..., Any], *arguments: Any
    ) -> tuple[Coroutine[Any, Any, Any], Any]:
        """Call a hook and run it until it first waits; return its coroutine and what that awaits.

        Raises:
            StopIteration: If it returned without waiting.
        """
        coroutine = self._called(name, hook, *arguments)
        return coroutine, coroutine.send(None)

    def _called(
        self, name: str, hook: Callable[..., Any], *arguments: Any
    ) -> Coroutine[Any, Any, Any]:
        try:
            coroutine = checked_hook(name, hook(*arguments))
        except StopIteration as error:  # from a plain function; Python does this for a coroutine
            raise RuntimeError(f"{name} raised StopIteration") from error
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

    def _wait(self, name: str, coroutine: Coroutine[Any, Any, Any], awaited: object) -> None:
        assert self._worker is not None, "a hook runs in the name of a task"
        rest = Rest(self.context, coroutine, awaited)
        self._worker.go_on(rest, partial(self._returned_later, name))

    def _returned_later(self, name: str, result: Any, error: BaseException | None) -> None:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._interrupted(error)
        else:
            self._returned(name, result, error)
            self._resume_soon()

    def _returned(self, name: str, result: Any, error: BaseException | None) -> None:
        if error is not None:
            self._fail(name, error)
        self.is_running = self.is_cancelled = False
        if result is False and name == "on_open":
            self._session.close()

    def _interrupted(self, error: BaseException) -> None:
        """A hook ends the process: stop the event loop."""
        exit_soon(error, self._let_go)

    def _let_go(self) -> None:
        # the loop goes on for a shutdown, which closes the session: no further message is handled
        self.discard()
        self._has_exited = self._session.is_open
        if not self._has_exited:
            self.is_running = self.is_cancelled = False
            self._resume_soon()

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
