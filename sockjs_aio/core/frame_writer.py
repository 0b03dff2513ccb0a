"""The contract between a session and the writer of its frames; the transports implement it.

The session calls `write` for each frame while the writer is not full, then `flush` once; `send`
does both for one frame.  If the writer `is_done` after that, the session calls `release` at once,
and the response ends.  When a full writer can take frames again, or its connection is lost
meanwhile, it calls `Session.writer_changed`.  When a request is lost, its own coroutine calls
`Session.connection_lost`.
"""

from typing import Protocol

from sockjs_aio.core.tcp import Delivery


class FrameWriter(Protocol):
    """What a session writes frames to: a waiting response, a stream or a WebSocket."""

    @property
    def is_full(self) -> bool:
        """True while it takes no frames.  Then it calls the session's `writer_changed`."""

    @property
    def is_done(self) -> bool:
        """True if its response ends with what was written; the session releases it."""

    @property
    def is_http(self) -> bool:
        """True if the session outlives it, and so must check whether the client is still there."""

    @property
    def is_alive(self) -> bool:
        """True while its connection is not lost."""

    @property
    def is_left(self) -> bool:
        """True if the client closed its side, even if we have not read the EOF yet."""

    @property
    def buffered(self) -> int:
        """Bytes that were written to it and have not left the process."""

    @property
    def delivery(self) -> Delivery:
        """Tells what the client has taken of what was written."""

    def write(self, frame: bytes) -> None:
        """Take one frame."""

    def flush(self) -> int:
        """Send the frames that were taken; return the bytes still `buffered` after that."""
        ...

    def send(self, frame: bytes) -> int:
        """Do what `write` and `flush` do."""
        ...

    def conclude(self) -> None:
        """End the response soon, even if it has room for more.  Called only for HTTP."""

    def release(self) -> None:
        """The session no longer writes here: end the response, unless it has ended."""

    def probe(self, busy: bool) -> bool:
        """Ask the client for a sign of life, sent with the next `flush`.

        Return False if the client has not answered the last one in time.
        """

    def abort(self) -> None:
        """Cut its connection at once."""
