"""Write what sessions have queued: one callback a turn of the loop, however many sessions."""

import asyncio
import logging
from collections import deque
from typing import Protocol

from sockjs_aio.turns import Turn

logger = logging.getLogger("sockjs_aio")


FEW = 16
"""Sessions that are written to without a look at the clock: a write is 64 KiB at most."""


class Flushable(Protocol):
    """What has something to write: a session."""

    def flush(self, now: float | None = None) -> None:
        """Write what is queued, at the time `now`."""


class Flusher:
    """Calls `flush` for each session that asks for it, at the end of the turn."""

    __slots__ = ("_waiting", "_is_scheduled")

    def __init__(self) -> None:
        self._waiting: deque[Flushable] = deque()
        self._is_scheduled = False

    def schedule(self, session: Flushable) -> None:
        """Have `session` flushed; to be called once until that has happened."""
        if not self._is_scheduled:
            asyncio.get_running_loop().call_soon(self._run)  # raises in a thread without a loop
            self._is_scheduled = True
        self._waiting.append(session)

    def _run(self) -> None:
        now = asyncio.get_running_loop().time()
        count = len(self._waiting)  # who comes meanwhile is written to in the next turn
        turn = Turn() if count > FEW else None
        for number in range(1, count + 1):
            session = self._waiting.popleft()
            try:
                session.flush(now)
            except Exception:
                logger.exception("session %s: could not be written to", session)
            if turn is not None and number % FEW == 0 and turn.is_over:
                break
        self._is_scheduled = bool(self._waiting)
        if self._is_scheduled:
            asyncio.get_running_loop().call_soon(self._run)
