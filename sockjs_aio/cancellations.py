"""Keeps apart the cancellations of what runs in one task, one after the other."""

import asyncio
import contextlib
import sys


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
