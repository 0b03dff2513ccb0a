"""What the direct lane answers: xhr_send and xhr.

The answers are those of `sending` and `polling`, byte for byte.
"""

from sockjs_aio.core.session import Session
from sockjs_aio.core.tcp import Delivery, is_left
from sockjs_aio.errors import (
    PayloadBrokenError,
    PayloadMissingError,
    PayloadTooLargeError,
    ReceiverRefusedError,
)
from sockjs_aio.protocol.frames import HEARTBEAT, decode_messages
from sockjs_aio.protocol.transports import line
from sockjs_aio.server.body import IDLE_BODY_LIMIT
from sockjs_aio.server.connection_writer import PATIENCE
from sockjs_aio.server.direct_grammar import DirectRequest
from sockjs_aio.server.direct_lane import DirectLane
from sockjs_aio.server.headers import JAVASCRIPT, PLAIN, Head, head_for
from sockjs_aio.server.responses import complete
from sockjs_aio.server.service import Service


def xhr_send(lane: DirectLane, service: Service, session: Session, request: DirectRequest) -> bool:
    """Answer ``POST .../xhr_send`` with 204, if its messages can be accepted at once."""
    body, settings = request.body, service.settings
    if not session.is_open or len(body) > settings.max_message_size:
        return False
    try:
        messages = decode_messages(body, settings.max_messages)
    except (PayloadMissingError, PayloadBrokenError, PayloadTooLargeError):
        return False
    if not session.hooks.accept_now(messages, len(body)):
        return False
    service.stickiness.found()
    lane.respond(complete(head_for(request.fields.origin, 204, PLAIN), None))
    return True


def xhr(lane: DirectLane, service: Service, session: Session, request: DirectRequest) -> bool:
    """Answer ``POST .../xhr`` with one frame and a line feed."""
    if len(request.body) > IDLE_BODY_LIMIT:
        return False
    head = head_for(request.fields.origin, 200, JAVASCRIPT)
    lane.begin()
    poll = DirectPoll(lane, session, head, PATIENCE * service.settings.heartbeat_delay)
    try:
        session.attach(poll)
    except ReceiverRefusedError as refusal:
        lane.write(complete(head, line(refusal.frame)))
        lane.finish(lane.end)
        return True
    session.hooks.start()
    poll.start()
    return True


class DirectPoll:
    """A poll that waits for its frame: the frame writer, and the response.

    Args:
        lane: The lane of its connection, which has begun the request.
        session: The session, which writes here.
        head: The response's head.
        patience: Seconds for which the client may take no data.
    """

    __slots__ = (
        "is_full",
        "is_done",
        "delivery",
        "_lane",
        "_session",
        "_head",
        "_patience",
        "_frame",
        "_has_started",
        "_is_over",
    )

    is_http = True
    buffered = 0

    def __init__(self, lane: DirectLane, session: Session, head: Head, patience: float) -> None:
        self.is_full = self.is_done = False
        self.delivery = Delivery(lane.transport)
        self._lane = lane
        self._session = session
        self._head = head
        self._patience = patience
        self._frame: bytes | None = None
        self._has_started = self._is_over = False

    def start(self) -> None:
        """Respond if there is a frame already, and else as soon as the session releases this."""
        self._has_started = True
        if self.is_done:
            self._respond()
        else:
            self._lane.client.lost = self._lose

    @property
    def is_alive(self) -> bool:
        """Whether the client is still waiting."""
        return self._lane.transport is not None

    @property
    def is_left(self) -> bool:
        """True if the client closed its side, even if we have not read the EOF yet."""
        transport = self._lane.transport
        return transport is None or is_left(transport)

    def write(self, frame: bytes) -> None:
        """Take the frame that becomes the response."""
        self._frame = frame
        self.is_full = self.is_done = self.delivery.is_unfinished = True

    def flush(self) -> int:
        """Return 0: nothing is buffered here."""
        return 0

    def conclude(self) -> None:
        """Answer with a heartbeat frame, so that the client polls again."""
        self.write(HEARTBEAT)

    def release(self) -> None:
        """Respond."""
        if self._has_started and not self._is_over:
            self._respond()

    def probe(self, busy: bool) -> bool:
        """Return True: a waiting request is not asked for signs of life."""
        return True

    def abort(self) -> None:
        """Cut the connection."""
        if self._lane.transport is not None:
            self._lane.transport.abort()

    def _respond(self) -> None:
        self._is_over = True
        lane = self._lane
        lane.client.lost = None
        if lane.is_closing:
            self._end_lost()
            return
        lane.give_up_after(self._patience)
        lane.client.use(self.delivery)
        body = b"" if self._frame is None else line(self._frame)
        self._frame = None
        lane.write(complete(self._head, body))
        lane.finish(self._end)

    def _lose(self) -> None:
        self._is_over = True
        self._end_lost()

    def _end(self) -> None:
        if self._lane.transport is None:
            self._end_lost()
            return
        self.delivery.finish()
        self._session.delivered()
        self._lane.end()

    def _end_lost(self) -> None:
        self._session.connection_lost(self)
        self.delivery.finish()
        self._session.delivered()
        self._lane.end()
