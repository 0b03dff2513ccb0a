"""The state machine of one session.  It does no I/O and reads no clock.

The rules of a session are here: its states, the order of its frames and its outgoing queue; when a
heartbeat or the expiry is due is in `heartbeat.py`.  Time is an argument and frames are return
values, so tests need no event loop and no sleeps, and property tests can try any order of events.

The owner, a session, calls one method for each event.  Then it asks what to do: write frames
(`next_frame`), look at the state, and call `tick` at the `deadline`.  An event changes only fields,
so a message costs no timer and no task: `tick` compares times, and a tick that comes too early does
nothing.  A frame is built only when a receiver can take it, so that a burst of messages leaves as
one frame.  Times are seconds on any monotonic clock.

::

    CONNECTING ---open---> OPEN --close, interrupt, ...--> CLOSING --tick--> CLOSED
         |                  |                                                    ^
         +------tick--------+----------------tick, end_now-----------------------+
"""

from collections.abc import Iterable

from sockjs_aio.errors import ReceiverConflictError
from sockjs_aio.protocol.ends import ANOTHER_CONNECTION, INTERRUPTED, SLOW_CONSUMER
from sockjs_aio.protocol.frames import CloseFrame, close_frame
from sockjs_aio.protocol.framing import Framing
from sockjs_aio.protocol.heartbeat import HeartbeatAndExpiry
from sockjs_aio.protocol.session_state import CLOSED, CLOSING, CONNECTING, OPEN, State

FRAME_LIMIT = 65536
"""Bytes after which an array frame takes no further message, so that no write is too large."""

MESSAGE_OVERHEAD = 64
"""Bytes that each queued message counts besides its text, so that empty messages are not free."""


class KeyedOutbox(list[bytes]):
    """Queued messages, some of which have a key under which a newer one replaces them."""

    __slots__ = ("places",)

    def __init__(self, pieces: Iterable[bytes]) -> None:
        super().__init__(pieces)
        self.places: dict[str, int] = {}
        """Where the last message of each key is; it may have been taken."""

    def drop_first(self, count: int) -> None:
        """Remove the first `count` messages, which were taken."""
        del self[:count]
        places = self.places.items()
        self.places = {key: place - count for key, place in places if place >= count}


class SessionMachine(HeartbeatAndExpiry):
    """States, outgoing queue and clocks of one session.

    Args:
        framing: How messages become frames.
        heartbeat_delay: Seconds without a frame after which an attached receiver gets a heartbeat.
        disconnect_delay: Seconds that a session lives without a receiver.
        send_queue_limit: Bytes that may be queued, here and downstream together.
        now: The current time.
    """

    # type checkers would infer these, which the base class has, from what the methods assign
    state: State
    is_receiving: bool
    heartbeat_due: bool
    last_frame: float
    idle_since: float

    __slots__ = (
        "is_accepting",
        "queued",
        "downstream",
        "close_frame",
        "_send_queue_limit",
        "_greeting",
        "_outbox",
        "_taken",
        "close_due",
        "told_at",
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
        super().__init__(framing, heartbeat_delay, disconnect_delay, now)
        self.is_accepting: bool = True
        """Whether messages are queued: until the session is closed."""
        self._send_queue_limit = send_queue_limit
        # outgoing: encoded messages, how many of them are taken, the bytes of the others, and the
        # bytes that the receiver has not passed on yet
        # (a single message is kept without a list, which the garbage collector would track)
        self._outbox: bytes | list[bytes] | None = None
        self._taken = 0
        self.queued: int = 0
        self.downstream: int = 0
        # frames that the attached receiver must still get
        self._greeting: bytes | None = None
        self.close_frame: CloseFrame | None = None
        self.close_due: bool = False
        self.told_at: float | None = None
        """When a receiver took the close frame; None if none did."""

    def __repr__(self) -> str:
        receiver = "attached" if self.is_receiving else "detached"
        return f"<SessionMachine {self.state.name} {receiver} {self.queued} bytes queued>"

    # Events.

    def open(self) -> None:
        """The client is let in: the first receiver gets the open frame.  `attach` does this too."""
        if self.state is CONNECTING:
            self.state = OPEN
            self._greeting = self.framing.greeting

    def attach(self, now: float) -> None:
        """A receiver has come.

        Raises:
            ReceiverConflictError: If there is one already.  Then nothing changes.
        """
        assert self.state is not CLOSED, "requests do not find a session that has ended"
        if self.is_receiving:
            raise ReceiverConflictError(close_frame(*ANOTHER_CONNECTION))
        self.open()
        self.is_receiving = True
        self.close_due = self.close_frame is not None
        self.last_frame = now

    def detach(self, now: float) -> None:
        """The server has ended the receiver's response."""
        self.is_receiving = False
        self.heartbeat_due = False
        self.downstream = 0
        if self.told_at is None:  # asking for the close frame again does not prolong the session
            self.idle_since = now

    def interrupt(self, now: float) -> None:
        """The receiver's connection was lost: close, and drop queued messages."""
        self.detach(now)
        if self.state is OPEN:
            self._drop()
            self.close(*INTERRUPTED, now=now)

    def queue(self, piece: bytes, key: str | None = None) -> bool:
        """Queue a message that the framing has encoded; once closed, ignore it.

        If a message with the same `key` is still queued, replace it, in its place.

        Return False if it does not fit into `send_queue_limit`: then call `overflow`.  A message
        always fits if it is alone in the queue and at most a quarter of the limit is downstream.
        """
        if not self.is_accepting:
            return True
        size = len(piece) + MESSAGE_OVERHEAD
        replaced = 0 if key is None else self._size_under(key)
        queued = self.queued - replaced
        limit = self._send_queue_limit
        if queued + self.downstream + size > limit and size > replaced:
            is_alone = not queued and self.downstream * 4 <= limit
            if not is_alone:
                return False
        self.queued = queued + size
        if key is not None:
            self._put_under(key, piece, replaced > 0)
        elif self._outbox is None:
            self._outbox = piece
        elif isinstance(self._outbox, list):
            self._outbox.append(piece)
        else:
            self._outbox = [self._outbox, piece]
        return True

    def overflow(self, now: float) -> None:
        """The client does not keep up: close with 1008, and drop queued messages."""
        self._drop()
        self.close(SLOW_CONSUMER.code, SLOW_CONSUMER.reason, now=now)

    def close(self, code: int, reason: str, *, now: float) -> bool:
        """Close the session once its queue is written.  Return whether it was open until now."""
        if not self.is_accepting:
            return False
        self.close_frame = close_frame(code, reason)  # first: it fails if one has the wrong type
        self.state = CLOSING
        self.is_accepting = False
        self.close_due = self.is_receiving
        self.last_frame = self.idle_since = now
        return True

    def peer_failed(self, now: float) -> None:
        """The client left or broke the protocol: write nothing more; the receiver must end."""
        self._drop()
        if self.is_accepting:
            self.state = CLOSING
            self.is_accepting = False
            self.idle_since = now
        self.close_due = False

    def end_now(self) -> None:
        """End the session at once, and write nothing more."""
        self._drop()
        self.is_receiving = self.close_due = self.is_accepting = False
        self.state = CLOSED

    # Results.

    @property
    def is_told(self) -> bool:
        """True once the close frame is written, or the session is CLOSED and nobody will ask."""
        return self.told_at is not None or self.state is CLOSED

    def next_frame(self, now: float) -> bytes | None:
        """Take the next frame for the attached receiver; None if there is nothing to write."""
        if self._greeting is not None:
            frame, self._greeting = self._greeting, None
        elif self._outbox is not None:
            outbox = self._outbox
            if isinstance(outbox, list):
                frame = self._take_messages(outbox)
            else:
                self._outbox, self.queued = None, 0
                frame = self.framing.alone(outbox)
        elif self.close_due:
            assert self.close_frame is not None, "only a closed session has a close frame due"
            frame, self.close_due = self.close_frame, False
            if self.told_at is None:
                self.told_at = now
        elif self.heartbeat_due:
            assert self.framing.heartbeat is not None, "only some framings have heartbeats"
            frame = self.framing.heartbeat
        else:
            return None
        self.heartbeat_due = False
        self.last_frame = now
        return frame

    def _take_messages(self, outbox: list[bytes]) -> bytes:
        framing = self.framing
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
        outbox[start : self._taken] = [b""] * len(pieces)  # free their memory
        self.queued -= size
        if self._taken == len(outbox):
            self._outbox, self._taken = None, 0
        elif self._taken * 2 > len(outbox):  # not at each frame: deleting moves the rest
            if isinstance(outbox, KeyedOutbox):
                outbox.drop_first(self._taken)
            else:
                del outbox[: self._taken]
            self._taken = 0
        return framing.join(pieces)

    def _size_under(self, key: str) -> int:
        """Return the bytes of the message that is queued under `key`; 0 if there is none."""
        outbox = self._outbox
        if isinstance(outbox, KeyedOutbox):
            place = outbox.places.get(key, -1)
            if place >= self._taken:
                return len(outbox[place]) + MESSAGE_OVERHEAD
        return 0

    def _put_under(self, key: str, piece: bytes, replaces: bool) -> None:
        outbox = self._outbox
        if not isinstance(outbox, KeyedOutbox):
            pieces = (outbox,) if isinstance(outbox, bytes) else outbox or ()
            self._outbox = outbox = KeyedOutbox(pieces)
        if replaces:
            outbox[outbox.places[key]] = piece
        else:
            outbox.places[key] = len(outbox)
            outbox.append(piece)

    def _drop(self) -> None:
        self._outbox = None
        self._taken = self.queued = 0
        self._greeting = None
        self.heartbeat_due = False
