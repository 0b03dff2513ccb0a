"""The half of a session that sends: it queues messages until a writer takes them.

`send` encodes a message; at the end of the loop's turn, `flush` joins the queue into frames and
writes them.  So a burst leaves as one frame, and a slow client costs one copy of each message.
"""

import abc
import asyncio
from typing import Any, Protocol

from sockjs_aio import connection
from sockjs_aio.connection import SockJSConnection
from sockjs_aio.core.channels import Channels
from sockjs_aio.core.counters import Counters
from sockjs_aio.core.events import Events
from sockjs_aio.core.flusher import Flusher
from sockjs_aio.core.frame_writer import FrameWriter
from sockjs_aio.core.liveness import Liveness
from sockjs_aio.core.loop_thread import LoopThread
from sockjs_aio.protocol.framing import Framing, PreparedMessage
from sockjs_aio.protocol.session_machine import SessionMachine
from sockjs_aio.protocol.session_state import CLOSED, CLOSING, OPEN
from sockjs_aio.session_info import CloseInfo, ConnectionInfo
from sockjs_aio.settings import Settings


class SendingHost(Protocol):
    """What a session needs of its registry in order to send."""

    settings: Settings
    thread: LoopThread
    flusher: Flusher
    channels: Channels
    events: Events
    counters: Counters

    def now(self) -> float:
        """Return the time on the event loop's clock, in seconds."""
        ...

    def arm(self, session: Any) -> None:
        """Tick `session`, one of the registry's, at its deadline."""


class SendingSession(connection.Session):
    """A session's queue, writer and channels; `Session` adds how it opens and ends.

    Args:
        session_id: The id, as in the URL.
        info: About the request that opened the session.
        host: The registry that keeps the session.
        framing: How messages become frames.
    """

    __slots__ = (
        "id",
        "info",
        "connection",
        "close_info",
        "_host",
        "_framing",
        "_machine",
        "_writer",
        "_liveness",
        "is_flush_due",
        "_room",
    )

    connection: SockJSConnection
    _host: SendingHost

    def __init__(
        self, session_id: str, info: ConnectionInfo, host: SendingHost, framing: Framing
    ) -> None:
        settings = host.settings
        self.id: str = session_id
        self.info: ConnectionInfo = info
        self.close_info: CloseInfo | None = None
        self._host = host
        self._framing = framing
        self._machine = SessionMachine(
            framing,
            heartbeat_delay=settings.heartbeat_delay,
            disconnect_delay=settings.disconnect_delay,
            send_queue_limit=settings.send_queue_limit,
            now=host.now(),
        )
        # where frames go, and whether a client is there to take them
        self._writer: FrameWriter | None = None
        self._liveness = Liveness(settings.heartbeat_delay)
        # whether `flush` will be called anyway, so that nobody else needs to ask for it
        self.is_flush_due: bool = False
        # what drain() waits for
        self._room: asyncio.Future[None] | None = None

    @property
    def is_open(self) -> bool:
        """True while the session accepts messages, in both directions."""
        return self._machine.state is OPEN

    @property
    def is_closed(self) -> bool:
        """True once the session was closed, by either side or by a lost connection."""
        return self._machine.state in (CLOSING, CLOSED)

    @property
    def channels(self) -> Channels:
        """The subscriptions of all sessions of the router."""
        return self._host.channels

    @property
    def events(self) -> Events:
        """Tells the router's observers what happens."""
        return self._host.events

    @property
    def counters(self) -> Counters:
        """Counts the messages of all sessions of the router."""
        return self._host.counters

    @property
    def queued_bytes(self) -> int:
        """What waits for the client, here and in the buffers of its TCP connection."""
        return self._machine.queued + self._machine.downstream

    # For the connection.

    def send(self, message: str | bytes, key: str | None = None) -> None:
        """Queue `message`; it leaves at the end of this turn of the loop.

        Raises:
            TypeError: If the session's transport cannot carry a message of this type.
        """
        if self._machine.is_accepting:
            self._queue(self._framing.encode(message), key)

    def send_shared(self, message: PreparedMessage) -> None:
        """Like `send`, for a message that goes to many sessions and is encoded once."""
        if self._machine.is_accepting:
            self._queue(message.encoded(self._framing), message.key)

    def send_json(self, text: str) -> None:
        """Like `send`, for JSON text: the client receives the value instead of a string."""
        if self._machine.is_accepting:
            self._queue(self._framing.encode_json(text))

    async def drain(self) -> None:
        """Wait until the session is closed or at most a quarter of `send_queue_limit` is queued."""
        while self.is_open and self._is_crowded():
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    # To the writer.

    def flush(self, now: float | None = None) -> None:
        """Write queued messages at the time `now`, until the writer is full."""
        self.is_flush_due = False
        writer, machine = self._writer, self._machine
        if writer is None:
            return
        if now is None:
            now = self._host.thread.time()
        is_http = writer.is_http
        written = writer.delivery.written if is_http else 0
        while not writer.is_full and (frame := machine.next_frame(now)) is not None:
            self._host.counters.bytes_sent += len(frame)
            if machine.queued:  # more than one frame takes: see whether the writer is full now
                writer.send(frame)
            elif machine.close_due:
                writer.write(frame)
            else:
                machine.downstream = writer.send(frame)
                break
        else:
            machine.downstream = writer.flush()
        if is_http:
            if writer.is_done:
                self._let_go(writer, now)
            elif writer.delivery.written > written and self.is_open:
                self._liveness.expect(now)
        if self._room is not None and not self._is_crowded():
            self._announce_room()

    def flush_held(self) -> None:
        """Write what was queued since the caller set `is_flush_due`, in this turn of the loop."""
        if self._machine.queued or self._machine.close_due:
            self.flush()
        else:
            self.is_flush_due = False

    def end_response(self) -> None:
        """End the response that takes frames now, if any; the client sends another request."""
        self.flush()
        writer = self._writer
        if writer is not None and writer.is_http:
            writer.conclude()
            self._let_go(writer, self._host.now())

    @property
    def has_http_writer(self) -> bool:
        """True while a poll or a stream of the session takes frames."""
        return self._writer is not None and self._writer.is_http

    def _queue(self, piece: bytes, key: str | None = None) -> None:
        if self._host.thread.is_debug:
            self._host.thread.check()
        if not self.is_flush_due and self._writer is not None:
            self._host.flusher.schedule(self)
            self.is_flush_due = True
        if self._machine.queue(piece, key) or self._queue_again(piece, key):
            self._host.counters.messages_sent += 1
        else:
            self._overflow()

    def _queue_again(self, piece: bytes, key: str | None) -> bool:
        """Try again: the client may have taken data since the last flush, which makes room."""
        if self._writer is not None:
            self._machine.downstream = self._writer.buffered
        return self._machine.queue(piece, key)

    def _is_crowded(self) -> bool:
        return self.queued_bytes * 4 > self._host.settings.send_queue_limit

    def _announce_room(self) -> None:
        if self._room is not None:
            room, self._room = self._room, None
            room.set_result(None)

    @abc.abstractmethod
    def _let_go(self, writer: FrameWriter, now: float) -> None:
        """Stop writing to `writer`, whose response has ended at the time `now`."""

    @abc.abstractmethod
    def _overflow(self) -> None:
        """Close the session, because its client does not keep up."""
