"""Runs a hook in the session's context, and lets it finish when its client disconnects.

aiohttp's ``handler_cancellation`` cancels the handler of a lost connection.  That is right for a
handler that waits for the client.  It is wrong for an application's hook that is half way through:
the hook would be interrupted on a WebSocket, but not with other transports.  `asyncio.shield` would
need a task for each message, which is expensive, and a hook must see the same
`asyncio.current_task` from its first line to its last.  So the hook runs in the handler's task.
That task does not wait for the hook's own future, which would be cancelled, but for a stand-in.

The context is the session's, not the handler's: all hooks of a session share one (see `Hooks`).
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from typing import Any, cast


class Shielded:
    """The rest of a coroutine that has started and waits.

    Await it to run `coroutine` to its end in `context`, and to get its result.

    Args:
        context: The context in which each step runs.
        coroutine: A coroutine after its first step, ``context.run(coroutine.send, None)``.
        awaited: What that step returned: the future that the coroutine waits for, or None.
        forgive: Called at each cancellation; returns True if it is not meant for `coroutine`.
    """

    __slots__ = ("_context", "_coroutine", "_awaited", "_forgive")

    def __init__(
        self,
        context: contextvars.Context,
        coroutine: Coroutine[Any, Any, Any],
        awaited: object,
        forgive: Callable[[], bool],
    ) -> None:
        self._context = context
        self._coroutine = coroutine
        self._awaited = awaited
        self._forgive = forgive

    def __await__(self) -> Generator[Any, None, Any]:
        run, coroutine, awaited = self._context.run, self._coroutine, self._awaited
        # a failed future keeps its exception, whose traceback keeps this frame: avoid a cycle
        self._awaited = None
        failure: BaseException | None = None
        while True:
            try:
                yield from self._wait(awaited)
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

    def _wait(self, awaited: object) -> Generator[Any, None, None]:
        if not asyncio.isfuture(awaited):  # a bare yield, as in asyncio.sleep(0)
            try:
                yield awaited
            except asyncio.CancelledError:
                if not self._forgive():
                    raise
            return
        # the coroutine has told asyncio that it waits for this future; now we wait instead
        cast(Any, awaited)._asyncio_future_blocking = False
        while not awaited.done():
            stand_in = awaited.get_loop().create_future()

            def wake(_: object, stand_in: "asyncio.Future[None]" = stand_in) -> None:
                if not stand_in.done():
                    stand_in.set_result(None)

            awaited.add_done_callback(wake)
            try:
                yield from stand_in
            except asyncio.CancelledError:
                # like Task.cancel(): cancel what is awaited, and let that decide how it ends
                if not self._forgive() and not awaited.cancel():
                    raise
            finally:
                awaited.remove_done_callback(wake)
