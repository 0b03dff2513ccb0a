"""Whether a session's client is still there: it must answer pings and take what was written.

What follows if it is not is in `core/session.py` (`_probe`).
"""

import math

from sockjs_aio.core.frame_writer import FrameWriter
from sockjs_aio.core.tcp import Delivery


class Liveness:
    """Asks the client for signs of life, and watches the delivery of the last response.

    A WebSocket is asked at regular intervals.  An HTTP writer is checked only while something
    that was written has not arrived.

    Args:
        delay: Seconds between two checks; a client has as long to answer.
    """

    __slots__ = ("due", "_delay", "_delivery")

    def __init__(self, delay: float) -> None:
        self.due: float = math.inf
        """When to call `ask`."""
        self._delay = delay
        self._delivery: Delivery | None = None

    def attach(self, writer: FrameWriter, now: float) -> None:
        """Watch what is written to `writer` from now on."""
        self._delivery = writer.delivery
        if not writer.is_http:
            self.due = now + self._delay

    def expect(self, now: float) -> None:
        """Something was written: check that it arrives."""
        if self.due == math.inf:
            self.due = now + self._delay

    def rest(self) -> None:
        """Stop asking, because the writer is gone or the session is closed."""
        self.due = math.inf

    def forget(self) -> None:
        """Stop asking, and stop watching the last response."""
        self.due = math.inf
        self._delivery = None

    def ask(self, writer: FrameWriter, busy: bool, now: float) -> bool:
        """Ask again; return False if the client did not answer in time (`FrameWriter.probe`)."""
        self.due = now + self._delay
        if not writer.probe(busy):
            return False
        delivery = writer.delivery
        if writer.is_http and delivery.has_arrived(delivery.written):
            self.due = math.inf  # until something is written again
        return True

    def is_of(self, writer: FrameWriter) -> bool:
        """Tell whether `writer` was the last writer."""
        return self._delivery is writer.delivery

    @property
    def is_delivering(self) -> bool:
        """True while the end of the last response has not left this process."""
        return self._delivery is not None and self._delivery.is_leaving

    @property
    def is_awaited(self) -> bool:
        """True while the client has not taken all that was written.  This does not ask it."""
        return self._delivery is not None and not self._delivery.has_arrived(self._delivery.written)

    def is_in_touch(self) -> bool:
        """Tell whether the client still takes the last response, or has sent the next request.

        A busy server may not have read that request yet.
        """
        delivery = self._delivery
        return delivery is not None and (delivery.progresses() or delivery.is_replied_to())

    def abort_response(self) -> None:
        """Cut the connection if the last response is unfinished."""
        if self._delivery is not None:
            self._delivery.abort()
