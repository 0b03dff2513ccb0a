"""What the direct lane answers: xhr_streaming and eventsource.

The responses are those of `streaming`, byte for byte.
"""

from collections.abc import Callable

from sockjs_aio.core.session import Session
from sockjs_aio.errors import ReceiverRefusedError
from sockjs_aio.protocol.transports import event, line
from sockjs_aio.server.body import IDLE_BODY_LIMIT
from sockjs_aio.server.connection_writer import ConnectionWriter
from sockjs_aio.server.direct.grammar import DirectRequest
from sockjs_aio.server.direct.lane import DirectLane
from sockjs_aio.server.direct.response import LaneResponse
from sockjs_aio.server.headers import EVENT_STREAM, JAVASCRIPT, Head, stream_head_for
from sockjs_aio.server.responses import begun
from sockjs_aio.server.service import Service
from sockjs_aio.server.streaming import EVENTS_PRELUDE, XHR_PRELUDE, StreamWriter

LAST_CHUNK = b"0\r\n\r\n"


def xhr_streaming(
    lane: DirectLane, service: Service, session: Session, request: DirectRequest
) -> bool:
    """Answer ``POST .../xhr_streaming`` with frames, one per line."""
    if len(request.body) > IDLE_BODY_LIMIT:
        return False
    head = stream_head_for(request.fields.origin, JAVASCRIPT)
    _stream(lane, service, session, head, XHR_PRELUDE, line)
    return True


def eventsource(
    lane: DirectLane, service: Service, session: Session, request: DirectRequest
) -> bool:
    """Answer ``GET .../eventsource`` with frames, one per event."""
    head = stream_head_for(request.fields.origin, EVENT_STREAM)
    _stream(lane, service, session, head, EVENTS_PRELUDE, event)
    return True


def _stream(
    lane: DirectLane,
    service: Service,
    session: Session,
    head: Head,
    prelude: bytes,
    dress: Callable[[bytes], bytes],
) -> None:
    lane.begin()
    output = ConnectionWriter(lane, service.settings, session)
    stream = DirectStream(lane, session, output, dress, service.settings.response_limit)
    stream.begin(begun(head), prelude)
    try:
        session.attach(stream)
    except ReceiverRefusedError as refusal:
        stream.refuse(dress(refusal.frame))
        return
    stream.open()
    session.flush()
    stream.start()


class DirectStream(LaneResponse, StreamWriter):
    """A stream in the lane: the frame writer, and the response.

    Args:
        lane: The lane of its connection, which has begun the request.
        session: The session, which writes here.
        output: Writes to the connection.
        dress: Turns a frame into the bytes to write.
        limit: Bytes after which the response ends.
    """

    __slots__ = ("lane", "session", "has_started", "is_over")

    def __init__(
        self,
        lane: DirectLane,
        session: Session,
        output: ConnectionWriter,
        dress: Callable[[bytes], bytes],
        limit: int,
    ) -> None:
        super().__init__(lane, output, dress, limit)
        self.lane: DirectLane = lane
        self.session: Session = session
        self.has_started: bool = False
        self.is_over: bool = False

    def begin(self, head: bytes, prelude: bytes) -> None:
        """Take what comes before the first frame; it leaves with that."""
        self._parts.append(head)
        self.write_prelude(prelude)

    def refuse(self, data: bytes) -> None:
        """Answer with a frame, dressed as `data`, and end; the session does not write here."""
        self._add(data)
        self.lane.write(b"".join(self._parts) + LAST_CHUNK)
        self.lane.finish(self.lane.end)

    def open(self) -> None:
        """Let the session write."""
        self._output.open(self.lane.writer())
        self.lane.client.use(self.delivery, is_limited=self._output.is_limited)
        self.delivery.is_unfinished = True

    def complete(self) -> None:
        """Write the end of the response."""
        if not self.is_done:  # the session has left this early
            self.session.connection_lost(self)
        self.lane.write(LAST_CHUNK)
