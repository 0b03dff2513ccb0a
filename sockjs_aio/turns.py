"""Long work in the event loop: after a few milliseconds it lets other tasks run.

It measures time instead of counting items because the cost of an item is unknown: handling a
message may take a microsecond, or broadcast to thousands.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

TURN = 0.005
"""Seconds of work after which other tasks run."""

T = TypeVar("T")

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


def in_turns(
    items: Iterable[T], do: Callable[[T], object], then: Callable[[], object] = lambda: None
) -> None:
    """Call `do` with each of `items`, then call `then`; this begins now.

    Other tasks run every few milliseconds, so an item may be out of date when its turn comes.  If
    `do` fails, the others have their turns nevertheless.
    """
    _go_on(deque(items), do, then)


def _go_on(left: deque[T], do: Callable[[T], object], then: Callable[[], object]) -> None:
    turn = Turn()
    try:
        while left:
            do(left.popleft())
            if turn.is_over:
                break
    finally:
        if left:
            asyncio.get_running_loop().call_soon(_go_on, left, do, then)
        else:
            then()
