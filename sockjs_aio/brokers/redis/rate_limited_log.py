"""Says in the log what goes wrong again and again, without filling it."""

import logging
import time

logger = logging.getLogger("sockjs_aio")

INTERVAL = 60.0
"""Seconds for which one line of a kind is enough."""

MAX_REASONS = 10
"""Different reasons that are logged while one thing lasts."""


class RateLimitedLog:
    """Logs a warning of each kind once in `INTERVAL`."""

    def __init__(self) -> None:
        self._silent_until: dict[str, float] = {}

    def warn(self, kind: str, text: str, *arguments: object) -> None:
        """Log `text`, unless one of its kind was logged a short time ago."""
        now = time.monotonic()
        if now >= self._silent_until.get(kind, 0):
            self._silent_until[kind] = now + INTERVAL
            logger.warning(text, *arguments)


class Reasons:
    """Says which reasons for something that lasts are new: each is logged once."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def is_new(self, reason: str) -> bool:
        """Note `reason`; return whether to log it."""
        if reason in self._known or len(self._known) >= MAX_REASONS:
            return False
        self._known.add(reason)
        return True

    def clear(self) -> None:
        """It is over."""
        self._known.clear()
