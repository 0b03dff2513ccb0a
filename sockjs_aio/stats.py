"""What a service tells about itself: numbers, and events for its observers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Telling(Protocol):
    """Tells observers what happens; `core.events` has them."""

    @property
    def watches_hooks(self) -> bool:
        """Whether someone wants to know when each hook starts or returns."""

    def tell(self, event: Callable[..., None], *arguments: Any) -> None:
        """Call the method `event` of each observer with `arguments`."""


@dataclass(frozen=True)
class Stats:
    """What a service has done since its router was made, and what it is doing now.

    Transports are named as in URLs, such as ``"xhr_streaming"``.  Nothing is listed that has never
    happened, so read the mappings with ``get``.  Sizes are in bytes, times in seconds.
    """

    sessions: Mapping[tuple[str, str], int]
    """How many sessions there are, by transport and state: ``"open"``, or ``"closing"`` while the
    client must still learn of the end, or a hook runs."""
    opened: Mapping[str, int]
    """How many sessions were opened, by transport."""
    closed: Mapping[tuple[str, str], int]
    """How many sessions were closed, by transport and `CloseInfo.status`."""
    refused: Mapping[str, int]
    """How many requests were refused, by reason: see `Observer.refused`."""
    messages_received: int
    """How many messages clients have sent."""
    messages_sent: int
    """How many messages were queued for clients; one that goes to three clients counts as three."""
    bytes_received: int
    """WebSocket frames and the bodies of other sends, as they came in."""
    bytes_sent: int
    """SockJS frames, before compression and without what the transport wraps around them."""
    queued_bytes: int
    """What waits for clients now, here and in the buffers of their TCP connections."""
    hooks_running: int
    """How many sessions have a hook that waits for something now."""
    hooks_failed: int
    """How many hooks have raised an exception."""
    relayed: int
    """How many requests were passed on to the process that has their session."""
    broker: str
    """The state of the broker: see `Broker.state`."""
    broker_gaps: int
    """How many times messages from other processes may have been missed."""
    loop_lag: float
    """By how much the event loop was late when this was last measured.  It is measured once in
    `session_check_interval`, while there are sessions."""
    loop_blocked: float
    """The sum of all delays of the event loop that were long enough to matter: more than a quarter
    of `session_check_interval`."""
