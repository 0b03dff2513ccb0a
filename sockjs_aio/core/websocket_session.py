"""The life of a session whose connection brings messages itself: a WebSocket's.

Its hooks start where their bytes come in, one after the other.  The next message is not looked at
before the last hook has returned, so back-pressure costs nothing.  A hook that does not wait needs
no coroutine besides its own, and no turn of the event loop; see `core.hook_task` for one that does.
"""

import asyncio
import inspect
from asyncio import get_running_loop
from asyncio.tasks import _enter_task, _leave_task  # public: "Extending asyncio" in Python's docs
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ClassVar, Protocol

from sockjs_aio.core.frame_writer import FrameWriter
from sockjs_aio.core.hook_task import HookTask, Rest
from sockjs_aio.core.hooked_session import HookedSession
from sockjs_aio.core.hooks import Hooks
from sockjs_aio.core.session import Session
from sockjs_aio.turns import clock


class Resumable(Protocol):
    """A connection whose session's hooks may wait."""

    def process(self) -> None:
        """Go on: no hook waits now."""


class InlineHooks(Hooks):
    """Runs hooks at once; `is_running` tells whether one waits.

    A connection calls `begin` once.  Then it calls `open_now`, `call_gaps_now` before messages,
    `steps` for messages, and `close_now` when the session has closed and no message is left,
    each only while no hook runs.
    """

    __slots__ = ("_caller", "_worker", "_is_plain")

    is_running: bool
    is_cancelled: bool

    def __init__(self, session: HookedSession, receive_queue_limit: int) -> None:
        super().__init__(session, receive_queue_limit)
        self._caller: Resumable | None = None
        self._worker: HookTask | None = None  # an idle session has none
        self._is_plain = True  # unless `on_message` is a coroutine function that nobody watches

    def begin(self, caller: Resumable) -> None:
        """Have `caller` go on in a turn of its own when a hook that waited has returned, and when
        the session has closed.
        """
        self._caller = caller  # not a method of it, which would take 64 bytes more
        code = getattr(self._session.connection.on_message, "__code__", None)
        is_coroutine = code is not None and bool(code.co_flags & inspect.CO_COROUTINE)
        self._is_plain = not is_coroutine or self._session.events.watches_hooks

    def open_now(self) -> None:
        """Call `on_open`.  If the session has ended already, no hook is ever called."""
        if self._session.close_info is not None:
            self.discard()
            return
        self._opened = True
        self._start("on_open", self._session.connection.on_open, self._session.info)

    def steps(self, messages: list[Any], until: float) -> None:
        """Call `on_message` for each of `messages`, the last one first, and remove it there.

        Stop when a hook waits, when the others are to be dropped, and at the time `until`.
        """
        worker = self._worker
        task = worker.task if worker is not None and worker.is_ready else self._begin_hook()
        # micro-optimisation: Python 3.11's `get_running_loop` asks the kernel for the process's id
        _enter_task(loop := task.get_loop(), task)
        try:  # once for all of them: this takes as long as many a hook
            self.context.run(self._steps, messages, until)
        finally:
            _leave_task(loop, task)

    def _steps(self, messages: list[Any], until: float) -> None:
        connection, worker = self._session.connection, self._worker
        assert worker is not None, "hooks run in the name of a task"
        while True:
            self.is_running = True
            hook = connection.on_message
            try:
                if self._is_plain:
                    coroutine, awaited = self._started("on_message", hook, messages.pop())
                else:  # micro-optimisation: creating a coroutine runs none of its code
                    coroutine = hook(messages.pop())
                    awaited = coroutine.send(None)
            except StopIteration:  # it returned without waiting
                self.is_running = self.is_cancelled = False
            except (KeyboardInterrupt, SystemExit):  # the shutdown that follows calls `on_close`
                self.is_running = self.is_cancelled = False
                raise
            except BaseException as error:
                self._returned("on_message", None, error)
            else:
                self._wait("on_message", coroutine, awaited)
                return
            if not messages or self.is_dropping or not worker.is_ready or clock() > until:
                return

    def call_gaps_now(self) -> None:
        """Call `on_gap` for each gap that is due, unless a hook waits."""
        while not self.is_running and (gap := self._next_gap()) is not None:
            self._start("on_gap", gap[0].call_on_gap, gap[1])

    def close_now(self) -> None:
        """Call `on_close`, unless it was called or `on_open` was not."""
        if self._opened and not self._closed:
            self._closed = True
            self._start("on_close", self._session.connection.on_close)

    def close(self) -> None:
        """The session has closed: have `on_close` called when the running hook has returned."""
        if self._opened and not self.is_running:
            self._resume_soon()

    def rest(self) -> None:
        """Free what only a busy session needs."""
        if self._worker is not None and not self.is_running:
            self._worker.end()
            self._worker = None

    def break_cycles(self) -> None:
        """Forget the session and its connection."""
        super().break_cycles()
        self.rest()
        self._caller = None

    def _running_task(self) -> "asyncio.Task[Any] | None":
        return None if self._worker is None else self._worker.task

    def _gaps_changed(self) -> None:
        self._resume_soon()

    def _begin_hook(self) -> "asyncio.Task[None]":
        """Return the task in whose name a hook runs, which starts now."""
        self.is_running = True
        if self._worker is None or not self._worker.is_ready:  # an application may cancel it
            self._worker = HookTask()
        return self._worker.task

    def _start(self, name: str, hook: Callable[..., Any], *arguments: Any) -> None:
        task = self._begin_hook()
        _enter_task(loop := get_running_loop(), task)
        try:
            coroutine, awaited = self.context.run(self._started, name, hook, *arguments)
        except StopIteration as finished:  # it returned without waiting
            self._returned(name, finished.value, None)
        except (KeyboardInterrupt, SystemExit):  # the shutdown that follows calls `on_close`
            self.is_running = self.is_cancelled = False
            raise
        except BaseException as error:
            self._returned(name, None, error)
        else:
            self._wait(name, coroutine, awaited)
        finally:
            _leave_task(loop, task)

    def _wait(self, name: str, coroutine: Coroutine[Any, Any, Any], awaited: object) -> None:
        assert self._worker is not None, "a hook runs in the name of a task"
        rest = Rest(self.context, coroutine, awaited)
        self._worker.go_on(rest, partial(self._returned_later, name))

    def _returned_later(self, name: str, result: Any, error: BaseException | None) -> None:
        self._returned(name, result, error)
        self._resume_soon()

    def _returned(self, name: str, result: Any, error: BaseException | None) -> None:
        if error is not None:
            self._fail(name, error)
        self.is_running = self.is_cancelled = False
        if result is False and name == "on_open":
            self._session.close()

    def _resume_soon(self) -> None:
        if self._caller is not None:
            asyncio.get_running_loop().call_soon(self._caller.process)


class InlineSession(Session):
    """A session that lives as long as its WebSocket's TCP connection."""

    __slots__ = ()

    HOOKS: ClassVar[type[Hooks]] = InlineHooks

    hooks: InlineHooks

    def _probe(self, writer: FrameWriter, now: float) -> None:
        super()._probe(writer, now)
        self.hooks.rest()
