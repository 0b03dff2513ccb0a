"""Long work in the event loop: after a few milliseconds it lets other tasks run.

It measures time instead of counting items because the cost of an item is unknown: handling a
message may take a microsecond, or broadcast to thousands.
"""

import asyncio
import time
from collections.abc import Callable

TURN = 0.005
"""Seconds of work after which other tasks run."""

# not the loop's clock: uvloop's does not advance while a callback runs
clock: Callable[[], float] = time.perf_counter


class Turn:
    """A share of the loop's time; it starts when it is created."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = clock() + TURN

    @property
    def is_over(self) -> bool:
        """True once other tasks should run."""
        return clock() >= self._end

    async def next(self) -> None:
        """Let other tasks run, then start the next turn."""
        await asyncio.sleep(0)
        self._end = clock() + TURN
