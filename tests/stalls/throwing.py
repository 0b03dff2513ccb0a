"""Runs attempts to hold up the loop."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.stalls.watch import LEAST_ALLOWANCE, Watch, allowance, watching

TRIES = 3


@dataclass(order=True)
class Result:
    """The longest callback of one test."""

    seconds: float
    test: str
    callback: str

    def __str__(self) -> str:
        return f"{1000 * self.seconds:8.1f} ms  {self.test}  {self.callback}"


results: list[Result] = []


async def run(attempt: Callable[[], Awaitable[object]]) -> None:
    await attempt()


class Thrower:
    """Runs what has to stay below the limit once in three times.

    Args:
        name: Of the test.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    async def __call__(
        self,
        attempt: Callable[[], Awaitable[object]],
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        """Run `attempt`, each time after `prepare`, which is not measured."""
        best = Watch(float("inf"))
        limit = LEAST_ALLOWANCE
        for _ in range(TRIES):
            prepare()
            await asyncio.sleep(0)
            with watching() as watch:
                await asyncio.create_task(run(attempt))  # all of it in callbacks of its own
            if watch.longest < best.longest:
                best = watch
            if best.longest > limit:  # to calibrate takes as long as most attempts
                limit = max(limit, allowance())
            if best.longest <= limit:
                break
        results.append(Result(best.longest, self._name, best.callback[:150]))
        assert best.longest <= limit, f"{best.longest * 1000:.1f} ms in {best.callback}"
