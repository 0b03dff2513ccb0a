"""How a response of the direct lane ends, and what its session is told."""

from typing import TYPE_CHECKING, cast

from sockjs_aio.core.frame_writer import FrameWriter
from sockjs_aio.core.session import Session
from sockjs_aio.core.tcp import Delivery
from sockjs_aio.server.direct.lane import DirectLane


class LaneResponse:
    """The part of a frame writer that ends the response when the session releases it."""

    if not TYPE_CHECKING:  # mypy does not know that the classes which use this have the slots
        __slots__ = ()

    is_done: bool
    delivery: Delivery
    lane: DirectLane
    """The lane of its connection, which has begun the request."""
    session: Session
    """The session, which writes here."""
    has_started: bool
    """Whether the session may be told of the end: not while it still attaches this."""
    is_over: bool

    def start(self) -> None:
        """End as soon as the session releases this, or has done so already."""
        self.has_started = True
        if self.is_done:
            self._conclude()
        else:
            self.lane.client.lost = self._lose

    def release(self) -> None:
        """End the response."""
        if self.has_started and not self.is_over:
            self._conclude()

    def complete(self) -> None:
        """Write the rest of the response."""
        raise NotImplementedError

    def _conclude(self) -> None:
        self.is_over = True
        self.lane.client.lost = None
        if self.lane.is_closing:
            self._end(is_lost=True)
        else:
            self.complete()
            self.delivery.is_written = True
            self.lane.finish(self._end)

    def _lose(self) -> None:
        self.is_over = True
        self._end(is_lost=True)

    def _end(self, is_lost: bool = False) -> None:
        if is_lost or self.lane.transport is None:
            self.session.connection_lost(cast(FrameWriter, self))
        self.delivery.finish()
        self.session.delivered()
        self.lane.end()
