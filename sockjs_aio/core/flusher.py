"""Writes what sessions have queued, at the end of the event loop's turn.

`send` only queues a message and asks for a flush.  All messages that a session gets within one turn
then leave as one frame and one write, which is much cheaper than a write for each message.

One callback serves all sessions: a broadcast would otherwise schedule one for each of thousands.
Sessions that ask while it runs wait for the next turn, so that it always comes to an end.  After a
few milliseconds (see `turns`) it stops and schedules itself again, so that a broadcast to many
sessions does not block the loop.
"""

import asyncio
import logging
from collections import deque
from typing import Protocol

from sockjs_aio.core.loop_thread import WRONG_THREAD
from sockjs_aio.turns import Turn

logger: logging.Logger = logging.getLogger("sockjs_aio.session")


FEW = 16
"""Sessions to flush before looking at the clock; each writes 64 KiB at most."""


class Flushable(Protocol):
    """What the flusher needs of a session."""

    def flush(self, now: float | None = None) -> None:
        """Write queued messages, at the time `now`."""


class Flusher:
    """Calls `flush` for each session that asks for it, at the end of the turn."""

    __slots__ = ("_waiting", "_is_scheduled")

    def __init__(self) -> None:
        self._waiting: deque[Flushable] = deque()
        self._is_scheduled = False

    def schedule(self, session: Flushable) -> None:
        """Flush `session` at the end of the turn.  Do not call this again before that.

        Raises:
            RuntimeError: If no event loop runs in this thread, unless a flush is scheduled already.
        """
        if not self._is_scheduled:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                raise RuntimeError(WRONG_THREAD) from None
            loop.call_soon(self._run)
            self._is_scheduled = True
        self._waiting.append(session)

    def _run(self) -> None:
        now = asyncio.get_running_loop().time()
        count = len(self._waiting)  # sessions that ask from now on wait for the next turn
        turn = Turn() if count > FEW else None
        try:
            for number in range(1, count + 1):
                session = self._waiting.popleft()
                try:
                    session.flush(now)
                except Exception:
                    logger.exception("session %s: writing failed", session)
                if turn is not None and number % FEW == 0 and turn.is_over:
                    break
        finally:  # if a signal's handler ends the process here, the shutdown still needs this
            self._is_scheduled = bool(self._waiting)
            if self._is_scheduled:
                asyncio.get_running_loop().call_soon(self._run)
