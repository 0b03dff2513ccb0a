"""An authorization that ends: what `authorize` may return, and how its time is given."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

Until: TypeAlias = "float | datetime | None"
"""A moment: seconds since 1970 (UTC), or a `datetime` with a timezone.  None for no end."""

LATEST = 1e11
"""The latest time in seconds since 1970, in the year 5138.  What is later is in milliseconds."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Returned by `authorize` to accept a client until a time, at which its session is closed.

    The client gets its queued messages and ``c[4401,"Authorization expired"]``, at most
    `session_check_interval` later.  `SockJSConnection.extend` moves the time.  A time that has
    passed already refuses the client with 403.

    Args:
        identity: What `authorize` would return without an end: True, or who the client is.
        until: Seconds since 1970, such as ``exp`` of a JSON Web Token, or a `datetime` with a
            timezone.  None for no end.

    Raises:
        TypeError: If `until` is something else.
        ValueError: If it has no timezone or is not in seconds.
    """

    identity: Any
    until: Until = None

    def __post_init__(self) -> None:
        seconds_left(self.until)

    @property
    def has_ended(self) -> bool:
        """Whether the time has passed."""
        left = seconds_left(self.until)
        return left is not None and left <= 0


def seconds_left(until: Until) -> float | None:
    """Return how many seconds it is until that time; None if there is no end.

    Raises:
        TypeError: If `until` is not an `Until`.
        ValueError: If it is a `datetime` without a timezone, or is not in seconds.
    """
    if until is None:
        return None
    if isinstance(until, datetime):
        if until.utcoffset() is None:
            raise ValueError(
                f"until={until!r} has no timezone: use datetime.now(timezone.utc) instead of "
                "datetime.utcnow(), for example"
            )
        return until.timestamp() - time.time()
    if not isinstance(until, (int, float)) or isinstance(until, bool):
        raise TypeError(
            f"until={until!r} must be a number of seconds since 1970, a datetime with a timezone, "
            "or None"
        )
    if not -LATEST < until < LATEST:
        raise ValueError(f"until={until!r} is not a time in seconds since 1970")
    return until - time.time()
