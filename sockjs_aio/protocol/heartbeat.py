"""When a session's heartbeat is due, and when the session expires.

A receiver that is attached gets a heartbeat `heartbeat_delay` seconds after the last frame.  A
session without a receiver expires after `disconnect_delay` seconds.  Time is an argument: an event
stores it, and `tick` compares, so a message costs no timer.

Who calls `tick`: `core/session_clock.py`.  WebSocket's pings are for `core/liveness.py`.
"""

import abc

from sockjs_aio.protocol.framing import Framing
from sockjs_aio.protocol.session_state import CLOSED, CONNECTING, OPEN, State


class HeartbeatAndExpiry(abc.ABC):
    """The two clocks of one session.

    Args:
        framing: Has the heartbeat frame, or None if its transport has no heartbeats.
        heartbeat_delay: Seconds without a frame after which an attached receiver gets a heartbeat.
        disconnect_delay: Seconds that a session lives without a receiver.
        now: The current time.
    """

    __slots__ = (
        "state",
        "framing",
        "is_receiving",
        "heartbeat_due",
        "last_frame",
        "idle_since",
        "_heartbeat_delay",
        "_disconnect_delay",
    )

    def __init__(
        self, framing: Framing, heartbeat_delay: float, disconnect_delay: float, now: float
    ) -> None:
        self.state: State = CONNECTING
        self.framing: Framing = framing
        self.is_receiving: bool = False
        """Whether a receiver is attached."""
        self.heartbeat_due: bool = False
        self.last_frame: float = now
        """When the receiver got its last frame, or came."""
        self.idle_since: float = now
        """When the last receiver left."""
        self._heartbeat_delay = heartbeat_delay
        self._disconnect_delay = disconnect_delay

    def deadline(self) -> float:
        """Return the time at which `tick` has something to do, or infinity."""
        if self.state is CLOSED:
            return float("inf")
        if self.is_receiving and self.state is OPEN:
            return self.last_frame + self._heartbeat_delay
        return self.idle_since + self._disconnect_delay

    def tick(self, now: float) -> bool:
        """Time has passed: make a heartbeat due, or expire.

        Before the deadline, do nothing and return False.
        """
        if now < self.deadline():
            return False
        if self.is_receiving and self.state is OPEN:
            self.heartbeat_due = self.framing.heartbeat is not None
            self.last_frame = now
        else:
            self.end_now()
        return True

    def postpone(self, now: float) -> None:
        """The last response, or the close frame, is still on its way: restart the expiry clock."""
        self.idle_since = now

    def was_blocked(self, seconds: float, now: float) -> None:
        """Nobody was served for `seconds`: the session lives longer by as much of that time as it
        had no receiver.
        """
        if not self.is_receiving:
            self.idle_since += min(seconds, now - self.idle_since)

    @abc.abstractmethod
    def end_now(self) -> None:
        """End the session at once, and write nothing more."""
