"""How long to wait before something that has failed is tried again."""

import random

FIRST_DELAY = 0.1
"""Seconds before the first attempt; each next delay is twice as long."""


def delay(attempts: int, limit: float) -> float:
    """Return the seconds to wait after `attempts` that have failed before, at most `limit`.

    Up to a half is cut at random, so that processes do not all come at once.
    """
    return min(FIRST_DELAY * float(1 << min(attempts, 20)), limit) * random.uniform(0.5, 1)
