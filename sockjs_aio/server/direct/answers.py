"""What the direct lane answers: xhr_send and xhr.

The answers are those of `sending` and `polling`, byte for byte.
"""

from sockjs_aio.core.request_session import RequestSession
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
from sockjs_aio.server.direct.grammar import DirectRequest
from sockjs_aio.server.direct.lane import DirectLane
from sockjs_aio.server.direct.response import LaneResponse
from sockjs_aio.server.headers import JAVASCRIPT, PLAIN, Head, head_for
from sockjs_aio.server.responses import complete
from sockjs_aio.server.service import Service


def xhr_send(
    lane: DirectLane, service: Service, session: RequestSession, request: DirectRequest
) -> bool:
    """Answer ``POST .../xhr_send`` with 204, if its messages can be accepted at once."""
    body, settings = request.body, service.settings
    if len(body) > settings.max_message_size:
        return False
    try:
        messages = decode_messages(body, settings.max_messages)
    except (PayloadMissingError, PayloadBrokenError, PayloadTooLargeError):
        return False
    pace = session.pace
    now = 0.0 if pace is None else service.registry.now()
    if pace is not None and pace.delay(len(messages), now) > 0:
        return False
    if not session.hooks.takes_now(len(messages), len(body)):
        return False
    if pace is not None:
        pace.spend(len(messages), now)
    service.registry.counters.received(len(messages), len(body))
    service.missed_sends.found()
    lane.respond(complete(head_for(request.fields.origin, 204, PLAIN), None))
    session.hooks.handle_now(messages, len(body))
    return True


def xhr(lane: DirectLane, service: Service, session: Session, request: DirectRequest) -> bool:
    """Answer ``POST .../xhr`` with one frame and a line feed."""
    if len(request.body) > IDLE_BODY_LIMIT:
        return False
    head = head_for(request.fields.origin, 200, JAVASCRIPT)
    lane.begin()
    poll = DirectPoll(lane, session, head, service)
    try:
        session.attach(poll)
    except ReceiverRefusedError as refusal:
        lane.write(complete(head, line(refusal.frame)))
        lane.finish(lane.end)
        return True
    poll.start()
    return True


class DirectPoll(LaneResponse):
    """A poll: it waits for one frame, which becomes the response.

    Args:
        lane: The lane of its connection, which has begun the request.
        session: The session, which writes here.
        head: The response's head.
        service: Its service.
    """

    __slots__ = (
        "is_full",
        "is_done",
        "delivery",
        "lane",
        "session",
        "has_started",
        "is_over",
        "_head",
        "_service",
        "_frame",
    )

    is_http = True
    buffered = 0

    def __init__(self, lane: DirectLane, session: Session, head: Head, service: Service) -> None:
        self.is_full: bool = False
        self.is_done: bool = False
        self.delivery: Delivery = Delivery(lane.transport)
        self.lane: DirectLane = lane
        self.session: Session = session
        self.has_started: bool = False
        self.is_over: bool = False
        self._head = head
        self._service = service
        self._frame: bytes | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the client is still waiting."""
        return self.lane.transport is not None

    @property
    def is_left(self) -> bool:
        """True if the client closed its side, even if we have not read the EOF yet."""
        transport = self.lane.transport
        return transport is None or is_left(transport)

    def write(self, frame: bytes) -> None:
        """Take the frame that becomes the response."""
        self._frame = frame
        self.is_full = self.is_done = self.delivery.is_unfinished = True

    def flush(self) -> int:
        """Return 0: nothing is buffered here."""
        return 0

    def send(self, frame: bytes) -> int:
        """Do what `write` and `flush` do."""
        self.write(frame)
        return 0

    def conclude(self) -> None:
        """Answer with a heartbeat frame, so that the client polls again."""
        self.write(HEARTBEAT)

    def probe(self, busy: bool) -> bool:
        """Return True: a waiting request is not asked for signs of life."""
        return True

    def abort(self) -> None:
        """Cut the connection."""
        if self.lane.transport is not None:
            self.lane.transport.abort()

    def complete(self) -> None:
        """Write the response; it is empty if the session has left this without a frame."""
        lane, service = self.lane, self._service
        lane.give_up_after(PATIENCE * service.settings.heartbeat_delay)
        lane.client.use(self.delivery)
        frame, self._frame = self._frame, None
        body = b"" if frame is None else line(frame)
        if service.relay is not None and service.relay.is_retiring:
            lane.write(complete(self._head, body, is_last=True))
            lane.close_next()
        else:
            lane.write(complete(self._head, body))
