"""Logs errors that repeat, without filling the log."""

import logging
import time

INTERVAL = 60.0
"""Seconds between two lines of one kind."""

MAX_REASONS = 10
"""How many different reasons to log while one condition lasts."""


class RateLimitedLog:
    """Logs a warning of each kind once in `INTERVAL`.

    Args:
        logger: Where to.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._silent_until: dict[str, float] = {}

    def warn(self, kind: str, text: str, *arguments: object) -> None:
        """Log `text`, unless a line of its kind was logged less than `INTERVAL` ago."""
        now = time.monotonic()
        if now >= self._silent_until.get(kind, 0):
            self._silent_until[kind] = now + INTERVAL
            self._logger.warning(text, *arguments)


class Reasons:
    """Remembers the reasons for a condition that lasts, so that each is logged once."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def is_new(self, reason: str) -> bool:
        """Remember `reason`; return True if it should be logged."""
        if reason in self._known or len(self._known) >= MAX_REASONS:
            return False
        self._known.add(reason)
        return True

    def clear(self) -> None:
        """Forget the reasons, because the condition has ended."""
        self._known.clear()
