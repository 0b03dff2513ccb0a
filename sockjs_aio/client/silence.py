"""Notices when nothing comes from the server any more."""

import asyncio
import math
from collections.abc import Callable

_SHORTEST = 0.001
"""Minimum number of seconds until the next look: what is left of a limit may be a rounding error,
which added to the time would not change it."""


class Silence:
    """Watches for how long the server has been silent, while somebody listens.

    There is one timer, which is lazy: what comes from the server costs a look at the clock.

    Args:
        limit: Seconds of silence that are too many.
        ask: Called after half of them, to ask the server for a sign of life.
        too_long: Called after `limit`.
    """

    def __init__(
        self, limit: float, ask: Callable[[], object], too_long: Callable[[], object]
    ) -> None:
        self._limit = limit
        self._ask = ask
        self._too_long = too_long
        self._loop = asyncio.get_running_loop()
        self._since = math.inf
        self._has_asked = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when it goes off

    def listen(self) -> None:
        """Begin to listen."""
        self._since = self._loop.time()
        if self._timer is None:
            self._look_in(self._limit / 2)

    def heard(self) -> None:
        """Something came; until `listen`, nobody listens."""
        self._since = math.inf
        self._has_asked = False

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if self._since < now:
            # while this process was held up, the server was not silent: nothing was read
            self._since = min(self._since + (now - self._due), now)
        silent = now - self._since
        if silent >= self._limit:
            self._too_long()
            return
        if silent >= self._limit / 2 and not self._has_asked:
            self._has_asked = True
            self._ask()
        next_step = self._limit if self._has_asked else self._limit / 2
        # while nobody listens, `silent` is minus infinity
        pause = min(max(next_step - silent, _SHORTEST), self._limit / 2)
        self._look_in(pause)

    def _look_in(self, pause: float) -> None:
        self._due = self._loop.time() + pause
        self._timer = self._loop.call_later(pause, self._look)
