"""The state machine of one session; it does no I/O and reads no clock.

Whoever owns a machine calls one method per event and then looks at what came of it: frames to
write (`next_frame`), the state, and when to call `tick` (`deadline`).  Times are seconds on any
clock that does not go back.

::

    CONNECTING --attach--> OPEN --close, interrupt, ...--> CLOSING --tick--> CLOSED
         |                  |                                                    ^
         +------tick--------+----------------tick, end_now-----------------------+
"""

import enum

from sockjs_aio.errors import ReceiverConflictError
from sockjs_aio.protocol.ends import ANOTHER_CONNECTION, INTERRUPTED, SLOW_CONSUMER
from sockjs_aio.protocol.frames import CloseFrame, close_frame
from sockjs_aio.protocol.framing import Framing

FRAME_LIMIT = 65536
"""Bytes after which an array frame takes no further message, so that no write is too long."""

MESSAGE_OVERHEAD = 64
"""Bytes that a queued message costs besides its text; they count, or empty messages were free."""


class State(enum.Enum):
    """Where a session is in its life."""

    CONNECTING = 0  # made by the first request; nothing written yet
    OPEN = 1  # the open frame is written or about to be
    CLOSING = 2  # closed: the close frame is repeated to every later receiver
    CLOSED = 3  # over: the registry forgets it


# plain names: to look a member up in its class takes three times as long (Python 3.11)
CONNECTING, OPEN, CLOSING, CLOSED = State


class SessionMachine:
    """States, outgoing queue and clocks of one session.

    Args:
        framing: How messages become frames.
        heartbeat_delay: Seconds without a frame after which an attached receiver gets a heartbeat.
        disconnect_delay: Seconds that a session lives without a receiver.
        send_queue_limit: Bytes that may be queued, here and downstream together.
        now: The present time.
    """

    __slots__ = (
        "state",
        "is_accepting",
        "queued",
        "downstream",
        "close_frame",
        "_framing",
        "_heartbeat_delay",
        "_disconnect_delay",
        "_send_queue_limit",
        "_greeting",
        "_outbox",
        "_taken",
        "_receiving",
        "close_due",
        "told_at",
        "_beat_due",
        "_last_frame",
        "_idle_since",
    )

    def __init__(
        self,
        framing: Framing,
        *,
        heartbeat_delay: float,
        disconnect_delay: float,
        send_queue_limit: int,
        now: float,
    ) -> None:
        self.state = CONNECTING
        self.is_accepting = True
        """Whether messages are queued: until the session is closed."""
        self._framing = framing
        self._heartbeat_delay = heartbeat_delay
        self._disconnect_delay = disconnect_delay
        self._send_queue_limit = send_queue_limit
        # outgoing: encoded messages, how many of them are taken, the bytes of the others, and the
        # bytes that the receiver has not passed on
        # one message needs no list, which the garbage collector would count
        self._outbox: bytes | list[bytes] | None = None
        self._taken = 0
        self.queued = 0
        self.downstream = 0
        # frames owed to the receiver that is attached
        self._greeting: bytes | None = None
        self.close_frame: CloseFrame | None = None
        self.close_due = False
        self.told_at: float | None = None
        """When the close frame was handed to a receiver; None if it was not."""
        self._beat_due = False
        # clocks
        self._receiving = False
        self._last_frame = now
        self._idle_since = now

    def __repr__(self) -> str:
        receiver = "attached" if self._receiving else "detached"
        return f"<SessionMachine {self.state.name} {receiver} {self.queued} bytes queued>"

    # Events.

    def attach(self, now: float) -> None:
        """A receiver came.

        Raises:
            ReceiverConflictError: If there is one already; nothing has changed then.
        """
        assert self.state is not CLOSED, "nobody finds a session that is over"
        if self._receiving:
            raise ReceiverConflictError(close_frame(*ANOTHER_CONNECTION))
        if self.state is CONNECTING:
            self.state = OPEN
            self._greeting = self._framing.greeting
        self._receiving = True
        self.close_due = self.close_frame is not None
        self._last_frame = now

    def detach(self, now: float) -> None:
        """The server has ended the receiver's response."""
        self._receiving = False
        self._beat_due = False
        self.downstream = 0
        if self.told_at is None:  # who was told gets no more time by asking again
            self._idle_since = now

    def interrupt(self, now: float) -> None:
        """The network has ended it: the session closes, and what is queued is lost."""
        self.detach(now)
        if self.state is OPEN:
            self._drop()
            self.close(*INTERRUPTED, now=now)

    def queue(self, piece: bytes) -> bool:
        """Queue a message that the framing has encoded; once closed, ignore it.

        Return False if it does not fit within `send_queue_limit`: then `overflow` is the next
        event.  A message always fits if it is alone in the queue and not much is downstream.
        """
        if not self.is_accepting:
            return True
        size = len(piece) + MESSAGE_OVERHEAD
        limit = self._send_queue_limit
        if self.queued + self.downstream + size > limit:
            is_alone = not self.queued and self.downstream * 4 <= limit
            if not is_alone:
                return False
        if self._outbox is None:
            self._outbox = piece
        elif isinstance(self._outbox, list):
            self._outbox.append(piece)
        else:
            self._outbox = [self._outbox, piece]
        self.queued += size
        return True

    def overflow(self, now: float) -> None:
        """The client does not keep up: close, and free what is queued (1008)."""
        self._drop()
        self.close(SLOW_CONSUMER.code, SLOW_CONSUMER.reason, now=now)

    def close(self, code: int, reason: str, *, now: float) -> bool:
        """Close the session once its queue is written.  Return whether it was open until now."""
        if not self.is_accepting:
            return False
        self.state = CLOSING
        self.is_accepting = False
        self.close_frame = close_frame(code, reason)
        self.close_due = self._receiving
        self._last_frame = self._idle_since = now
        return True

    def peer_failed(self, now: float) -> None:
        """The peer has broken the protocol: nothing more is written, the receiver has to go."""
        self._drop()
        if self.is_accepting:
            self.state = CLOSING
            self.is_accepting = False
            self._idle_since = now
        self.close_due = False

    def end_now(self) -> None:
        """The session is over at once; nothing more is written."""
        self._drop()
        self._receiving = self.close_due = self.is_accepting = False
        self.state = CLOSED

    def tick(self, now: float) -> None:
        """Time has passed: owe a heartbeat, or expire.  Too early, this does nothing."""
        if now < self.deadline():
            return
        if self._receiving and self.state is OPEN:
            self._beat_due = self._framing.heartbeat is not None
            self._last_frame = now
        else:
            self.end_now()

    def postpone(self, now: float) -> None:
        """The last response, or the close frame, is still on its way: start the clock again."""
        self._idle_since = now

    # What came of them.

    @property
    def is_told(self) -> bool:
        """Whether the close frame was written, or nobody will ask for it any more."""
        return self.told_at is not None or self.state is CLOSED

    def deadline(self) -> float:
        """Return the time at which `tick` has something to do; infinity when there is none."""
        if self.state is CLOSED:
            return float("inf")
        if self._receiving and self.state is OPEN:
            return self._last_frame + self._heartbeat_delay
        return self._idle_since + self._disconnect_delay

    def next_frame(self, now: float) -> bytes | None:
        """Take the next frame for the attached receiver; None when there is nothing to write."""
        if self._greeting is not None:
            frame, self._greeting = self._greeting, None
        elif self._outbox is not None:
            frame = self._take_messages(self._outbox)
        elif self.close_due:
            assert self.close_frame is not None, "only a closed session owes a close frame"
            frame, self.close_due = self.close_frame, False
            if self.told_at is None:
                self.told_at = now
        elif self._beat_due:
            assert self._framing.heartbeat is not None, "only some framings have heartbeats"
            frame = self._framing.heartbeat
        else:
            return None
        self._beat_due = False
        self._last_frame = now
        return frame

    def _take_messages(self, outbox: bytes | list[bytes]) -> bytes:
        framing = self._framing
        if isinstance(outbox, bytes):
            self._outbox, self.queued = None, 0
            return framing.join((outbox,))
        if self.queued <= FRAME_LIMIT:
            pieces = outbox[self._taken :] if self._taken else outbox
            self._outbox = None
            self._taken = self.queued = 0
            return framing.join(pieces)
        size, start = 0, self._taken
        while size < FRAME_LIMIT and self._taken < len(outbox):
            size += len(outbox[self._taken]) + MESSAGE_OVERHEAD
            self._taken += 1
        pieces = outbox[start : self._taken]
        outbox[start : self._taken] = [b""] * len(pieces)  # they must not live on in the queue
        self.queued -= size
        if self._taken == len(outbox):
            self._outbox, self._taken = None, 0
        elif self._taken * 2 > len(outbox):  # not at each frame: the rest has to move
            del outbox[: self._taken]
            self._taken = 0
        return framing.join(pieces)

    def _drop(self) -> None:
        self._outbox = None
        self._taken = self.queued = 0
        self._greeting = None
        self._beat_due = False
