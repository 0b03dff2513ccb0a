"""The contract between a session and what it writes to; the transports implement it.

The session calls `write` for each frame while the receiver is not full, then `flush` once.  A
receiver that `is_done` is let go of in the same turn: the session calls `release`, and the response
ends.  When a full receiver takes frames again, or its connection is lost meanwhile, it calls
`Session.writer_changed`; its own coroutine calls `Session.connection_lost` when its request is
lost.
"""

from typing import Protocol

from sockjs_aio.core.tcp import Delivery


class FrameWriter(Protocol):
    """What a session writes frames to: a waiting response, a stream or a WebSocket."""

    @property
    def is_full(self) -> bool:
        """Whether it takes no frame now; its session's `writer_changed` tells when it does."""

    @property
    def is_done(self) -> bool:
        """Whether its response ends with what was written: the session lets go of it."""

    @property
    def is_http(self) -> bool:
        """Whether the session outlives it, and has to look whether it is still there."""

    @property
    def is_alive(self) -> bool:
        """Whether its connection has not been lost."""

    @property
    def is_left(self) -> bool:
        """Whether its client has ended the connection, be it that nobody has read so far."""

    @property
    def buffered(self) -> int:
        """Bytes that were written to it and have not left the process."""

    @property
    def delivery(self) -> Delivery:
        """Watches over what was written to it."""

    def write(self, frame: bytes) -> None:
        """Take one frame."""

    def flush(self) -> int:
        """Put what was taken on the wire; return what is `buffered` then."""
        ...

    def conclude(self) -> None:
        """End the response soon, be there room for more; of HTTP only."""

    def release(self) -> None:
        """The session has let go of it: end the response, if it has not ended."""

    def probe(self, busy: bool) -> bool:
        """Ask the peer for a sign of life, with the next `flush`; return False if it owed one and
        gave none.
        """

    def abort(self) -> None:
        """End its connection at once."""
