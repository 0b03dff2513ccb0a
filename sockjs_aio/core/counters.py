"""What one service counts.  Reading it costs a walk over the sessions; counting, an addition."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

from sockjs_aio.brokers.base import Broker
from sockjs_aio.connection import Session
from sockjs_aio.core.events import Observer, Reason
from sockjs_aio.session_info import CloseInfo
from sockjs_aio.stats import Stats


class Counted(Protocol):
    """What is read of each session."""

    @property
    def queued_bytes(self) -> int:
        """What waits for its client."""

    @property
    def has_waiting_hook(self) -> bool:
        """Whether one of its hooks waits."""


class Counters(Observer):
    """Counts events.  Sessions and transports count messages and bytes here by themselves."""

    __slots__ = (
        "messages_received",
        "messages_sent",
        "bytes_received",
        "bytes_sent",
        "loop_lag",
        "loop_blocked",
        "_opened",
        "_closed",
        "_forgotten",
        "_refused",
        "_hooks_failed",
        "_relayed",
    )

    def __init__(self) -> None:
        self.messages_received: int = 0
        self.messages_sent: int = 0
        self.bytes_received: int = 0
        self.bytes_sent: int = 0
        self.loop_lag: float = 0.0
        self.loop_blocked: float = 0.0
        self._opened: Counter[str] = Counter()
        self._closed: Counter[tuple[str, str]] = Counter()
        self._forgotten: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._hooks_failed = 0
        self._relayed = 0

    def received(self, messages: int, size: int) -> None:
        """Count the messages of a send, whose body has `size` bytes."""
        self.messages_received += messages
        self.bytes_received += size

    def opened(self, session: Session) -> None:
        """See `Observer`."""
        self._opened[session.transport] += 1

    def closed(self, session: Session, info: CloseInfo) -> None:
        """See `Observer`."""
        self._closed[session.transport, info.status] += 1

    def forgotten(self, transport: str) -> None:
        """Count a session whose last hook has returned."""
        self._forgotten[transport] += 1

    def refused(self, reason: Reason, transport: str, ip: str | None) -> None:
        """See `Observer`."""
        self._refused[reason] += 1

    def hook_failed(self, session: Session, hook: str, error: BaseException) -> None:
        """See `Observer`."""
        self._hooks_failed += 1

    def relayed(self, transport: str) -> None:
        """See `Observer`."""
        self._relayed += 1

    @property
    def open_sessions(self) -> int:
        """How many sessions are open."""
        return sum(self._opened.values()) - sum(self._closed.values())

    def stats(self, sessions: Iterable[Counted], broker: Broker) -> Stats:
        """Return the numbers of this moment."""
        opened, closed = dict(self._opened), dict(self._closed)
        queued = running = 0
        for session in sessions:
            queued += session.queued_bytes
            running += session.has_waiting_hook
        return Stats(
            sessions=_by_state(opened, closed, dict(self._forgotten)),
            opened=opened,
            closed=closed,
            refused=dict(self._refused),
            messages_received=self.messages_received,
            messages_sent=self.messages_sent,
            bytes_received=self.bytes_received,
            bytes_sent=self.bytes_sent,
            queued_bytes=queued,
            hooks_running=running,
            hooks_failed=self._hooks_failed,
            relayed=self._relayed,
            broker=broker.state,
            broker_gaps=broker.gaps,
            loop_lag=self.loop_lag,
            loop_blocked=self.loop_blocked,
        )


def _by_state(
    opened: Mapping[str, int], closed: Mapping[tuple[str, str], int], forgotten: Mapping[str, int]
) -> dict[tuple[str, str], int]:
    """Return how many sessions there are, by transport and state."""
    found = {}
    for transport, count in opened.items():
        ended = sum(number for (name, _), number in closed.items() if name == transport)
        found[transport, "open"] = count - ended
        found[transport, "closing"] = ended - forgotten.get(transport, 0)
    return {key: count for key, count in found.items() if count}
