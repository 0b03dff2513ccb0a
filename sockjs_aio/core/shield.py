"""Step a coroutine in a context of its own, and let it finish when only its client has gone.

aiohttp's ``handler_cancellation`` cancels the handler of a lost connection.  That is right for a
handler that waits, and wrong for an application's hook that is half way through: it would be
interrupted on a WebSocket and not on the other transports.  A shield inside another task would do,
but a task for each message is dear, and a hook must see one `asyncio.current_task` from its first
line to its last.  So the hook runs in the handler's task, and what the task waits for is not the
hook's own future, which would be cancelled, but a stand-in for it.

The context is the session's, not the handler's: the hooks of a session share one (see `Hooks`).
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from typing import Any, cast


class Shielded:
    """The rest of a coroutine that has begun and waits.

    Awaiting it runs `coroutine` to its end, in `context`, and gives its result.

    Args:
        context: Where each step runs.
        coroutine: Has been stepped once, by ``context.run(coroutine.send, None)``.
        awaited: What that step gave: the future it waits for, or None.
        forgive: Asked at each cancellation: true means that it is not for `coroutine`.
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
        # what failed keeps its exception, whose traceback keeps this frame, which must not keep it
        self._awaited = None
        failure: BaseException | None = None
        while True:
            try:
                yield from self._wait(awaited)
            except BaseException as error:  # whatever it is, it goes on inside the coroutine
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
        # the coroutine has announced that it waits for this future; from here on we do
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
                # as Task.cancel(): what is awaited is cancelled, and says itself how it ends
                if not self._forgive() and not awaited.cancel():
                    raise
            finally:
                awaited.remove_done_callback(wake)
