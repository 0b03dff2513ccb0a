"""A task in whose name hooks run, although they start outside it.

A hook that never waits needs no turn of the event loop, so we call it where its message comes in.
But a hook must see the same `asyncio.current_task` from its first line to its last, and only a task
can wait.  So a hook starts in the name of a task that waits for work: the caller makes that the
current one (`asyncio.tasks._enter_task`).  If the hook waits, that task runs the rest of it.
"""

import asyncio
import contextvars
import sys
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

Returned = Callable[[Any, BaseException | None], object]
"""Called with what a hook returned, or with None and what it raised."""


class HookTask:
    """Runs the rest of hooks that wait, one after the other.

    Must be created in a running event loop.
    """

    __slots__ = ("task", "loop", "is_spent", "rest", "_work", "_returned")

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.is_spent: Callable[[], bool] = self._is_spent_early
        """Tells whether it cannot run a hook: the last one waits, or has cancelled the task.

        Micro-optimisation: once the task has begun, this is a method of its future, in C.
        """
        self._work = self.loop.create_future()
        self.rest: Rest | None = None
        """What it runs: the rest of a hook that waits."""
        self._returned: Returned | None = None
        coroutine = self._run()
        coroutine.send(None)  # a task that is cancelled before its first step would not begin it
        # an empty context: hooks run in that of their session.  Not `create_task`: a task factory,
        # such as Sentry's, may put a coroutine of its own around one that has begun
        self.task: asyncio.Task[None] = contextvars.Context().run(
            asyncio.Task, coroutine, loop=self.loop
        )

    def go_on(self, rest: "Rest", returned: Returned) -> None:
        """Run `rest` to its end, then call `returned`."""
        self.rest, self._returned = rest, returned
        if not self._work.done():  # the hook may have cancelled the task: it goes on with that
            self._work.set_result(None)

    def end(self) -> None:
        """End the task, which must have nothing to run."""
        if not self._work.done():
            self._work.set_result(None)

    async def _run(self) -> None:
        try:
            await _begin()
        except asyncio.CancelledError as error:
            if self.rest is None:
                self._work.cancel()
                raise
            self._cancel(error)
        finally:
            self.is_spent = self._work.done
        while True:
            try:
                await self._work
            except asyncio.CancelledError as error:
                self._cancel(error)
            rest, returned = self.rest, self._returned
            if rest is None or returned is None:
                return
            self._work = self.loop.create_future()
            self.is_spent = self._work.done
            result, failure = None, None
            try:
                result = await rest
            except BaseException as error:  # also CancelledError: the hook is over, not this task
                if rest.is_given_up:  # the event loop has ended without this task
                    raise
                failure = error
            self.rest = self._returned = rest = None
            self._forget_cancellations()
            returned(result, failure)
            failure = returned = None  # its traceback refers to this stack frame: a cycle

    def _is_spent_early(self) -> bool:
        """Tell what `is_spent` does for a task that has not begun."""
        return self._work.done() or _is_cancelled(self.task)

    def _cancel(self, error: asyncio.CancelledError) -> None:
        if self.rest is not None and not _is_taken_back(self.task):
            self.rest.cancel(error)

    def _forget_cancellations(self) -> None:
        """The next hook must not take those of the last one for its own (Python 3.11)."""
        uncancel = getattr(self.task, "uncancel", None)
        while uncancel is not None and self.task.cancelling():
            uncancel()


@types.coroutine
def _begin() -> Generator[None, None, None]:
    """Wait for the first step of a task."""
    yield


def _is_cancelled(task: "asyncio.Task[None]") -> bool:
    """Tell whether a task was cancelled that has not begun."""
    if sys.version_info >= (3, 11):
        return task.cancelling() > 0
    return bool(task._must_cancel)


def _is_taken_back(task: "asyncio.Task[None]") -> bool:
    """Tell whether `uncancel` was called after `cancel`; then Python 3.13 does not cancel."""
    return sys.version_info >= (3, 13) and task.cancelling() == 0


class Rest:
    """The rest of a coroutine that has started and waits; await it for its result.

    Args:
        context: The context in which each step runs.
        coroutine: A coroutine after its first step, ``context.run(coroutine.send, None)``.
        awaited: What that step returned: the future that the coroutine waits for, or None.
    """

    __slots__ = ("is_given_up", "_context", "_coroutine", "_awaited", "_failure")

    def __init__(
        self, context: contextvars.Context, coroutine: Coroutine[Any, Any, Any], awaited: object
    ) -> None:
        self.is_given_up: bool = False
        self._context = context
        self._coroutine = coroutine
        self._awaited = awaited
        self._failure: BaseException | None = None

    def cancel(self, error: asyncio.CancelledError) -> None:
        """Do what `asyncio.Task.cancel` does: cancel what is awaited, or else the coroutine."""
        if not (asyncio.isfuture(self._awaited) and self._awaited.cancel()):
            self._failure = error

    def __await__(self) -> Generator[Any, None, Any]:
        run, coroutine, awaited = self._context.run, self._coroutine, self._awaited
        failure = self._failure
        # a failed future keeps its exception, whose traceback keeps this frame: avoid a cycle
        self._awaited = self._failure = None
        while True:
            if failure is None:
                try:
                    yield awaited
                except GeneratorExit:
                    self.is_given_up = True
                    coroutine.close()
                    raise
                except BaseException as error:  # any exception is raised inside the coroutine
                    failure = error
            awaited = None
            try:
                if failure is None:
                    awaited = run(coroutine.send, None)
                else:
                    awaited = run(coroutine.throw, failure)
            except StopIteration as finished:
                return finished.value
            finally:
                failure = None
