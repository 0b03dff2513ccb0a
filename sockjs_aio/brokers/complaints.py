"""Says in the log what goes wrong again and again, without filling it."""

import logging
import time

logger = logging.getLogger("sockjs_aio")

INTERVAL = 60.0
"""Seconds for which one line of a kind is enough."""


class Complaints:
    """Logs a warning of each kind once in `INTERVAL`."""

    def __init__(self) -> None:
        self._silent_until: dict[str, float] = {}

    def make(self, kind: str, text: str, *arguments: object) -> None:
        """Log `text`, unless one of its kind was logged a short time ago."""
        now = time.monotonic()
        if now >= self._silent_until.get(kind, 0):
            self._silent_until[kind] = now + INTERVAL
            logger.warning(text, *arguments)
