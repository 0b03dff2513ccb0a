"""One clock for all that works on much at a time: after a few milliseconds the loop gets its turn.

A number of items would not do, as nobody knows what an item costs: a message may be an addition, or
a broadcast to thousands.
"""

import asyncio
import time

TURN = 0.005
"""Seconds of work after which the others get their turn."""

# not the loop's clock: uvloop's stands still while a callback runs
clock = time.perf_counter


class Turn:
    """A share of the loop's time, from when it is made until it is over."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = clock() + TURN

    @property
    def is_over(self) -> bool:
        """Whether it is time for the others."""
        return clock() >= self._end

    async def next(self) -> None:
        """Let the others have their turn; then the next one begins."""
        await asyncio.sleep(0)
        self._end = clock() + TURN
