"""The ids of ended sessions, so that late requests do not open them a second time.

A client whose network stalled for longer than `disconnect_delay` continues with its old id.  If
that opened a new session, the application would get the second half of a conversation that it has
already closed.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Protocol

from sockjs_aio.protocol.frames import CloseFrame

Ended = tuple[str, float, CloseFrame]
"""The id of a session that has ended, the time, and what late requests get."""


class Journal(Protocol):
    """Records which sessions there are, in a place that outlives this process."""

    def opened(self, session_id: str) -> None:
        """Record that a session has opened."""

    def ended(self, session_id: str, frame: CloseFrame) -> None:
        """Record that it has ended, and what late requests get."""


class EndedSessions:
    """Remembers the close frames of ended sessions.

    Args:
        delay: Seconds after which an ended session is forgotten.
        limit: How many to remember.  Above it, the oldest is forgotten.
    """

    __slots__ = ("_delay", "_limit", "_frames")

    def __init__(self, delay: float, limit: int) -> None:
        self._delay = delay
        self._limit = limit
        # In the order of their ends.  To find the first key of a `dict`, Python looks at each key
        # that was deleted before it.
        self._frames: OrderedDict[str, tuple[float, CloseFrame]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, session_id: str, frame: CloseFrame, now: float) -> None:
        """Remember that a session ended at the time `now`, and forget those that are too old."""
        self._frames.pop(session_id, None)
        self._frames[session_id] = (now, frame)
        while self._frames:
            oldest = next(iter(self._frames))
            if len(self._frames) <= self._limit and not self._is_old(oldest, now):
                break
            del self._frames[oldest]

    def get(self, session_id: str, now: float) -> CloseFrame | None:
        """Return the close frame of an ended session; None if it is not remembered."""
        if session_id not in self._frames or self._is_old(session_id, now):
            return None
        return self._frames[session_id][1]

    def items(self) -> list[Ended]:
        """Return what is remembered, the oldest first."""
        return [(session_id, *ended) for session_id, ended in self._frames.items()]

    def take_over(self, ended: Iterable[Ended]) -> None:
        """Remember sessions of another process too, given oldest first; sessions here are newer."""
        own = self._frames
        # thousands at once, so it must be quick
        self._frames = OrderedDict((name, (time, frame)) for name, time, frame in ended)
        for session_id, ending in own.items():
            self._frames.pop(session_id, None)
            self._frames[session_id] = ending
        while len(self._frames) > self._limit:
            self._frames.popitem(last=False)

    def ended_at(self, session_id: str) -> float | None:
        """Return when a session ended; None if it is not remembered."""
        ended = self._frames.get(session_id)
        return None if ended is None else ended[0]

    def _is_old(self, session_id: str, now: float) -> bool:
        return now - self._frames[session_id][0] >= self._delay
