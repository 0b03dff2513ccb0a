"""Let a coroutine finish in its own task when only its client has gone.

aiohttp's ``handler_cancellation`` cancels the handler of a lost connection.  That is right for a
handler that waits, and wrong for an application's hook that is half way through: it would be
interrupted on a WebSocket and not on the other transports.  A shield inside another task would do,
but a task for each message is dear, and a hook must see one `asyncio.current_task` from its first
line to its last.  So the hook runs in the handler's task, and what the task waits for is not the
hook's own future, which would be cancelled, but a stand-in for it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, cast

from aiohttp import web


class Shielded:
    """The rest of a coroutine that has begun and waits.

    Awaiting it runs `coroutine` to its end and gives its result.

    Args:
        coroutine: Has been stepped once, by ``coroutine.send(None)``.
        awaited: What that step gave: the future it waits for, or None.
        forgive: Asked at each cancellation: true means that it is not for `coroutine`.
    """

    __slots__ = ("_coroutine", "_awaited", "_forgive")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], awaited: object, forgive: Callable[[], bool]
    ) -> None:
        self._coroutine = coroutine
        self._awaited = awaited
        self._forgive = forgive

    def __await__(self) -> Generator[Any, None, Any]:
        coroutine, awaited = self._coroutine, self._awaited
        while True:
            failure: BaseException | None = None
            try:
                yield from self._wait(awaited)
            except BaseException as error:  # whatever it is, it goes on inside the coroutine
                failure = error
            try:
                awaited = coroutine.send(None) if failure is None else coroutine.throw(failure)
            except StopIteration as finished:
                return finished.value

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


def forgive_loss(request: web.Request) -> Callable[[], bool]:
    """Make the `forgive` for hooks that run in the handler of `request`: for its loss, once.

    aiohttp cancels ``request.task``, which passes it on to the task inside it that runs the
    handler, whereas a hook's own time-outs cancel only the inner one.
    """
    is_lost = _loss_sign(request)
    is_forgiven = False

    def forgive() -> bool:
        nonlocal is_forgiven
        if is_forgiven or not is_lost():
            return False
        is_forgiven = True
        uncancel = getattr(asyncio.current_task(), "uncancel", None)
        return uncancel is None or uncancel() == 0  # one that came besides is for the hook

    return forgive


def _loss_sign(request: web.Request) -> Callable[[], bool]:
    task: Any = request.task
    if hasattr(task, "cancelling"):
        return lambda: bool(task.cancelling())
    # Python 3.10 has no such count: there a cancellation is the loss's if the connection is lost
    # and aiohttp cancels at all.  Where that cannot be learnt any more, hooks are cancelled.
    server = getattr(request.protocol, "_manager", None)
    if not getattr(server, "handler_cancellation", False):
        return lambda: False
    return lambda: request.transport is None
