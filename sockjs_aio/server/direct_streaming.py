"""What the direct lane answers: xhr_streaming.

The response is that of `streaming`, byte for byte.
"""

from collections.abc import Callable

from sockjs_aio.core.session import Session
from sockjs_aio.errors import ReceiverRefusedError
from sockjs_aio.protocol.transports import line
from sockjs_aio.server.body import IDLE_BODY_LIMIT
from sockjs_aio.server.connection_writer import ConnectionWriter
from sockjs_aio.server.direct_grammar import DirectRequest
from sockjs_aio.server.direct_lane import DirectLane
from sockjs_aio.server.direct_response import DirectResponse
from sockjs_aio.server.headers import JAVASCRIPT, stream_head_for
from sockjs_aio.server.responses import begun
from sockjs_aio.server.service import Service
from sockjs_aio.server.streaming import XHR_PRELUDE, StreamWriter

LAST_CHUNK = b"0\r\n\r\n"


def xhr_streaming(
    lane: DirectLane, service: Service, session: Session, request: DirectRequest
) -> bool:
    """Answer ``POST .../xhr_streaming`` with frames, one per line."""
    if len(request.body) > IDLE_BODY_LIMIT:
        return False
    head = begun(stream_head_for(request.fields.origin, JAVASCRIPT))
    lane.begin()
    output = ConnectionWriter(lane, service.settings, session)
    stream = DirectStream(lane, session, output, line, service.settings.response_limit)
    stream.begin(head, XHR_PRELUDE)
    try:
        session.attach(stream)
    except ReceiverRefusedError as refusal:
        stream.refuse(refusal.frame)
        return True
    stream.open()
    session.flush()
    session.hooks.start()
    stream.start()
    return True


class DirectStream(DirectResponse, StreamWriter):
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
        self.lane = lane
        self.session = session
        self.has_started = self.is_over = False

    def begin(self, head: bytes, prelude: bytes) -> None:
        """Take what comes before the first frame; it leaves with that."""
        self._parts.append(head)
        self.write_prelude(prelude)

    def refuse(self, frame: bytes) -> None:
        """Answer with `frame` only; the session does not write here."""
        self._add(line(frame))
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
