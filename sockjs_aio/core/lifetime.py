"""When a session ends although its client is there: its age, its authorization, or a gap.

Only sessions that have such a limit have a `Lifetime`.
"""

import math
import random

from sockjs_aio.grant import Until, seconds_left
from sockjs_aio.protocol.ends import AUTHORIZATION_EXPIRED, MESSAGES_MISSED, TOO_OLD, End

AGE_SPREAD = 0.2
"""The part of `max_session_age` by which sessions end earlier, at random.

Otherwise clients that have connected together would all connect again together.
"""

GAP_SPREAD = 2.0
"""Seconds within which the sessions that have missed messages end, for the same reason."""


class Lifetime:
    """The times at which a session ends, in seconds on the loop's clock; infinity for never."""

    __slots__ = ("age_limit", "authorized_until", "stale_until")

    def __init__(self) -> None:
        self.age_limit: float = math.inf
        self.authorized_until: float = math.inf
        self.stale_until: float = math.inf

    @property
    def due(self) -> float:
        """When the session ends."""
        return min(self.age_limit, self.authorized_until, self.stale_until)

    def end(self, now: float) -> End:
        """Return how a session ends whose time is over at `now`."""
        if self.authorized_until <= now:
            return AUTHORIZATION_EXPIRED
        return MESSAGES_MISSED if self.stale_until <= now else TOO_OLD


def new_lifetime(max_age: float | None, until: Until, now: float) -> Lifetime | None:
    """Return the lifetime of a session that is made at `now`; None if it has no limit.

    Args:
        max_age: The setting `max_session_age`.
        until: The time of day at which the authorization ends.
        now: The time on the loop's clock.
    """
    lifetime = None if until is None else extended(None, until, now)
    if max_age is not None:
        lifetime = lifetime or Lifetime()
        lifetime.age_limit = now + max_age * random.uniform(1 - AGE_SPREAD, 1)
    return lifetime


def extended(lifetime: Lifetime | None, until: Until, now: float) -> Lifetime:
    """Return `lifetime`, or a new one, with another end of the authorization."""
    lifetime = lifetime or Lifetime()
    left = seconds_left(until)
    lifetime.authorized_until = math.inf if left is None else now + left
    return lifetime


def ended_soon(lifetime: Lifetime | None, now: float) -> Lifetime:
    """Return `lifetime`, or a new one, of a session that has missed messages."""
    lifetime = lifetime or Lifetime()
    lifetime.stale_until = min(lifetime.stale_until, now + random.uniform(0, GAP_SPREAD))
    return lifetime
