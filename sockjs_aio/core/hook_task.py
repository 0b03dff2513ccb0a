"""A task in whose name hooks run, although they start outside it.

A hook that never waits needs no turn of the event loop, so we call it where its message comes in.
But a hook must see the same `asyncio.current_task` from its first line to its last, and only a task
can wait.  So a hook starts in the name of a task that waits for work: the caller makes that the
current one (`asyncio.tasks._enter_task`).  If the hook waits, that task runs the rest of it.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from typing import Any

Returned = Callable[[Any, BaseException | None], object]
"""Called with what a hook returned, or with None and what it raised."""


class HookTask:
    """Runs the rest of hooks that wait, one after the other.

    Must be created in a running event loop.
    """

    __slots__ = ("task", "_loop", "_work", "_rest", "_returned")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._work = self._loop.create_future()
        self._rest: Rest | None = None
        self._returned: Returned | None = None
        # an empty context: hooks run in that of their session
        self.task: asyncio.Task[None] = contextvars.Context().run(
            self._loop.create_task, self._run()
        )
        self.task.add_done_callback(self._ended)

    def go_on(self, rest: "Rest", returned: Returned) -> None:
        """Run `rest` to its end, then call `returned`."""
        self._rest, self._returned = rest, returned
        if not self._work.done():  # the hook may have cancelled the task: it goes on with that
            self._work.set_result(None)

    @property
    def is_ready(self) -> bool:
        """Whether it waits for work; False once it was cancelled."""
        return not (self._work.done() or self.task.done())

    def end(self) -> None:
        """End the task, which must have nothing to run."""
        if not self._work.done():
            self._work.set_result(None)

    async def _run(self) -> None:
        while True:
            try:
                await self._work
            except asyncio.CancelledError as error:
                if self._rest is not None:
                    self._rest.cancel(error)
            rest, returned = self._rest, self._returned
            if rest is None or returned is None:
                return
            self._work = self._loop.create_future()
            result, failure = None, None
            try:
                result = await rest
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # also CancelledError: the hook is over, not this task
                failure = error
            self._rest = self._returned = rest = None
            self._forget_cancellations()
            returned(result, failure)
            failure = returned = None  # its traceback refers to this stack frame: a cycle

    def _ended(self, task: "asyncio.Task[None]") -> None:
        rest, returned = self._rest, self._returned
        if rest is not None and returned is not None:  # it was cancelled before its first step
            self._rest = self._returned = None
            failure: BaseException = asyncio.CancelledError()
            try:
                rest.close()
            except BaseException as error:  # such as RuntimeError: it awaits in a `finally`
                failure = error
            returned(None, failure)

    def _forget_cancellations(self) -> None:
        """The next hook must not take those of the last one for its own (Python 3.11)."""
        uncancel = getattr(self.task, "uncancel", None)
        while uncancel is not None and self.task.cancelling():
            uncancel()


class Rest:
    """The rest of a coroutine that has started and waits; await it for its result.

    Args:
        context: The context in which each step runs.
        coroutine: A coroutine after its first step, ``context.run(coroutine.send, None)``.
        awaited: What that step returned: the future that the coroutine waits for, or None.
    """

    __slots__ = ("_context", "_coroutine", "_awaited", "_failure")

    def __init__(
        self, context: contextvars.Context, coroutine: Coroutine[Any, Any, Any], awaited: object
    ) -> None:
        self._context = context
        self._coroutine = coroutine
        self._awaited = awaited
        self._failure: BaseException | None = None

    def cancel(self, error: asyncio.CancelledError) -> None:
        """Do what `asyncio.Task.cancel` does: cancel what is awaited, or else the coroutine."""
        if not (asyncio.isfuture(self._awaited) and self._awaited.cancel()):
            self._failure = error

    def close(self) -> None:
        """Give up: raise GeneratorExit in the coroutine."""
        self._context.run(self._coroutine.close)

    def __await__(self) -> Generator[Any, None, Any]:
        run, coroutine, awaited = self._context.run, self._coroutine, self._awaited
        failure = self._failure
        # a failed future keeps its exception, whose traceback keeps this frame: avoid a cycle
        self._awaited = self._failure = None
        while True:
            if failure is None:
                try:
                    yield awaited
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
