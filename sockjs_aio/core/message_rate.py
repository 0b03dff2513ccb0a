"""How fast the messages of one session may come: the settings `message_rate` and `message_burst`.

A token bucket in one number: the time at which it will be full again.  A message costs a comparison
and an addition, and no timer.  Only a session that is held back has one.
"""

import asyncio
import sys
from collections.abc import Callable

from sockjs_aio.settings import Settings

_ROUNDING = 1e-6
"""Seconds by which sums of times may be wrong: the last message of a burst that comes in one moment
of a coarse clock, such as uvloop's, must not be too early by a rounding error."""


class Pace:
    """The token bucket of one session.

    Args:
        rate: Messages a second.
        settings: `message_burst` is how many may come at once; `message_rate_policy` says what
            happens to a client that sends more.
    """

    __slots__ = ("closes", "_interval", "_burst", "_full_at", "_timer", "_resume")

    def __init__(self, rate: float, settings: Settings) -> None:
        self.closes: bool = settings.message_rate_policy == "close"
        """Whether to close the session instead of holding messages back."""
        self._interval = 1 / rate
        self._burst = min(settings.message_burst, sys.maxsize)  # a float can be no larger
        self._full_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._resume: Callable[[], object] | None = None

    @property
    def is_holding(self) -> bool:
        """True while messages are held back."""
        return self._timer is not None

    def delay(self, count: int, now: float) -> float:
        """Return the seconds until `count` messages may be handled; 0 for now.

        More than a whole burst, such as the messages of one large request, need a full bucket.
        They are always too many for a session that is closed instead of waiting.
        """
        if not count:
            return 0
        spare = self._burst - (count if self.closes else min(count, self._burst))
        delay = max(self._full_at, now) - spare * self._interval - now
        return delay if delay > _ROUNDING else 0

    def spend(self, count: int, now: float) -> None:
        """Count `count` messages that are being handled."""
        self._full_at = max(self._full_at, now) + count * self._interval

    def hold(self, seconds: float, resume: Callable[[], object]) -> None:
        """Call `resume` after `seconds`, or when `release` is called."""
        self._resume = resume
        self._timer = asyncio.get_running_loop().call_later(seconds, self.release)

    async def wait(self, seconds: float) -> None:
        """Wait for `seconds`, or until `release` is called."""
        released = asyncio.Event()
        self.hold(seconds, released.set)
        try:
            await released.wait()
        finally:
            self.release()

    def release(self) -> None:
        """Hold nothing back now, for example because the session has closed."""
        if self._timer is not None:
            self._timer.cancel()
            resume, self._timer, self._resume = self._resume, None, None
            if resume is not None:
                asyncio.get_running_loop().call_soon(resume)


def new_pace(settings: Settings) -> Pace | None:
    """Return the token bucket of a new session; None if the rate is not limited."""
    return None if settings.message_rate is None else Pace(settings.message_rate, settings)
