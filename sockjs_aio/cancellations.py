"""Keeps apart the cancellations of what runs in one task, and ends tasks that may lose one."""

import asyncio
import contextlib
import sys
from typing import Any

AGAIN = 0.5
"""Seconds after which a task that goes on is cancelled once more."""


async def end(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel tasks that have little to do at their end, and wait for it, even if cancelled.

    Before Python 3.11, a task loses a cancellation that comes in the turn in which one of its
    timeouts ends: it sees only the timeout.  If it tries again for ever, it would never end.
    """
    cancelled: asyncio.CancelledError | None = None
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        try:
            await asyncio.wait(left, timeout=AGAIN)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


class Cancellations:
    """Those of the current task that are under way when this is created.

    A hook may cancel its own task and return without waiting.  What the task awaits after that
    would be cancelled, though it has nothing to do with it.
    """

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = _count()

    async def forget_later_ones(self) -> None:
        """Have what comes next in this task see no others."""
        if sys.version_info >= (3, 11) and _count() <= self._count:
            return  # before Python 3.11, nothing tells whether there are any
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)  # where one that is still to come is raised
        task = asyncio.current_task()
        while sys.version_info >= (3, 11) and task is not None and _count() > self._count:
            task.uncancel()


def _count() -> int:
    task = asyncio.current_task()
    return task.cancelling() if sys.version_info >= (3, 11) and task is not None else 0
