"""How long to wait before trying again after a failure."""

import random

FIRST_DELAY = 0.1
"""Seconds before the first new attempt; each further delay is twice as long."""


def delay(attempts: int, limit: float) -> float:
    """Return the seconds to wait after `attempts` failed attempts, at most `limit`.

    Up to half of the delay is cut at random, so that processes do not all reconnect at once.
    """
    return min(FIRST_DELAY * float(1 << min(attempts, 20)), limit) * random.uniform(0.5, 1)
