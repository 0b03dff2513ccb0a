"""Write what sessions have queued: one callback a turn of the loop, however many sessions."""

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from sockjs_aio.turns import Turn

if TYPE_CHECKING:
    from sockjs_aio.session import Session

logger = logging.getLogger("sockjs_aio")


class Flusher:
    """Calls `Session.flush` for each session that asks for it, at the end of the turn."""

    __slots__ = ("_waiting", "_is_scheduled")

    def __init__(self) -> None:
        self._waiting: deque[Session] = deque()
        self._is_scheduled = False

    def schedule(self, session: "Session") -> None:
        """Have `session` flushed; to be called once until that has happened."""
        if not self._is_scheduled:
            asyncio.get_running_loop().call_soon(self._run)  # raises in a thread without a loop
            self._is_scheduled = True
        self._waiting.append(session)

    def _run(self) -> None:
        now = asyncio.get_running_loop().time()
        turn = Turn()
        for _ in range(len(self._waiting)):  # who comes meanwhile is written to in the next turn
            session = self._waiting.popleft()
            try:
                session.flush(now)
            except Exception:
                logger.exception("session %s: could not be written to", session)
            if turn.is_over:
                break
        self._is_scheduled = bool(self._waiting)
        if self._is_scheduled:
            asyncio.get_running_loop().call_soon(self._run)
