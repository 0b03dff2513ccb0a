"""Whether a session's peer is still there: what it is asked for, and what it has taken."""

import math

from sockjs_aio.core.frame_writer import FrameWriter
from sockjs_aio.core.tcp import Delivery


class Liveness:
    """Asks for signs of life while there is something to answer, and watches the last response.

    Args:
        delay: Seconds between two questions; a peer has as long to answer.
    """

    __slots__ = ("due", "_delay", "_delivery")

    def __init__(self, delay: float) -> None:
        self.due = math.inf
        """When to call `ask`."""
        self._delay = delay
        self._delivery: Delivery | None = None

    def attach(self, writer: FrameWriter, now: float) -> None:
        """Watch over what is written to `writer` from now on."""
        self._delivery = writer.delivery
        if not writer.is_http:
            self.due = now + self._delay

    def expect(self, now: float) -> None:
        """Something was written: it has to arrive."""
        if self.due == math.inf:
            self.due = now + self._delay

    def rest(self) -> None:
        """Ask no more: the writer is gone, or the session is closed."""
        self.due = math.inf

    def forget(self) -> None:
        """Watch over nothing any more."""
        self.due = math.inf
        self._delivery = None

    def ask(self, writer: FrameWriter, busy: bool, now: float) -> bool:
        """Return False if the peer owed a sign of life and gave none; see `FrameWriter.probe`."""
        self.due = now + self._delay
        if not writer.probe(busy):
            return False
        delivery = writer.delivery
        if writer.is_http and delivery.has_arrived(delivery.written):
            self.due = math.inf  # until something is written again
        return True

    def is_of(self, writer: FrameWriter) -> bool:
        """Tell whether `writer` was the last one."""
        return self._delivery is writer.delivery

    @property
    def is_delivering(self) -> bool:
        """Whether the end of a response has not left."""
        return self._delivery is not None and self._delivery.is_unfinished

    @property
    def is_awaited(self) -> bool:
        """Whether the peer has not taken all that was written to it; this is no `ask`."""
        return self._delivery is not None and not self._delivery.has_arrived(self._delivery.written)

    def is_in_touch(self) -> bool:
        """Tell whether the last response is still on its way, or the next request has come and the
        server is too busy to look at it.
        """
        delivery = self._delivery
        return delivery is not None and (delivery.progresses() or delivery.is_replied_to())

    def abort_response(self) -> None:
        """Cut the connection of a response that is unfinished."""
        if self._delivery is not None:
            self._delivery.abort()
