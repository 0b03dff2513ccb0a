"""The connection of a WebSocket after its handshake: from bytes to the session's hooks.

A message is handled where its bytes come in: no task, no queue and no future stand between the
event loop and the application's hook.  While a hook waits, up to `READ_AHEAD` bytes are read, so
that we notice if the client leaves.

Sections of the protocol: "WebSocket protocol", "Raw WebSocket"; RFC 6455, section 7.
"""

import asyncio
from typing import Any

from sockjs_aio.core.message_rate import Pace
from sockjs_aio.core.tcp import pause_reading, resume_reading
from sockjs_aio.core.websocket_session import InlineHooks, InlineSession
from sockjs_aio.errors import PayloadBrokenError, PayloadTooLargeError
from sockjs_aio.protocol.client_frames import PONG_START, ClientFrames
from sockjs_aio.protocol.ends import (
    BROKEN_JSON,
    LOST,
    NOT_TEXT,
    TOO_BIG,
    TOO_MANY,
    ClientEndedError,
)
from sockjs_aio.protocol.frames import decode_websocket_messages, raw_messages
from sockjs_aio.protocol.websocket import MESSAGES, PING, TEXT
from sockjs_aio.server.takeover import TakenOver
from sockjs_aio.server.websocket_writer import WebSocketWriter
from sockjs_aio.turns import TURN, clock

READ_AHEAD = 65536
"""Bytes that are read while a hook waits or other tasks have their turn."""


class WebSocketConnection(TakenOver):
    """Passes the messages of a WebSocket to its session's hooks, and tells how it ended.

    Args:
        transport: The connection.
        session: Its session, with `writer` attached.
        writer: Answers pings and close frames.
        frames: Reads frames.
        max_messages: Maximum number of messages in one array.
    """

    __slots__ = (
        "_session",
        "_writer",
        "_frames",
        "_max_messages",
        "_counters",
        "_messages",
        "_is_held",
        "_is_paused",
        "_is_over",
        "_is_lost",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        session: InlineSession,
        writer: WebSocketWriter,
        frames: ClientFrames,
        max_messages: int,
    ) -> None:
        super().__init__(transport)
        self._session = session
        self._writer = writer
        self._frames = frames
        self._max_messages = max_messages
        self._counters = session.counters
        # read and not handled yet, the last one first
        self._messages: list[Any] | None = None
        # until `on_open` was called, while other tasks have a turn, and above `message_rate`
        self._is_held = True
        self._is_paused = False  # we do not read
        self._is_over = False  # no further frame counts
        self._is_lost = False

    def begin(self, data: bytes) -> None:
        """Call `on_open` in the next turn of the event loop, then write and handle messages.

        Args:
            data: What has come behind the handshake.
        """
        if data:
            self.data_received(data)
        self._session.hooks.begin(self)
        asyncio.get_running_loop().call_soon(self._open)

    def _open(self) -> None:
        self._session.is_flush_due = True
        try:
            self._session.hooks.open_now()
        finally:  # if the hook ends the process, the shutdown still needs the session
            self._session.flush()  # not earlier: `on_open` has begun when its client hears from us
            self._is_held = False
        self.process()

    # Events of the connection.

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the client, or keep them while a hook waits or `on_gap` is due."""
        self._writer.is_heard = True
        if self._is_over:
            return  # it has not read our close frame yet
        self._counters.bytes_received += len(data)
        frames = self._frames
        if data[0] == PONG_START and frames.is_pong(data):
            return
        if frames.data:
            frames.feed(data)
        else:
            frames.data = data
        hooks = self._session.hooks
        if not (hooks.is_running or self._is_held or hooks.gaps):
            self._process(hooks)
        elif len(frames) > READ_AHEAD and not self._is_paused:
            self._is_paused = True
            pause_reading(self.transport)

    def pause_writing(self) -> None:
        """Write no more until `resume_writing`."""
        self._writer.pause()

    def resume_writing(self) -> None:
        """Write again."""
        self._writer.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session, once the messages that have come are handled."""
        super().connection_lost(exc)
        self._is_lost = True
        self._writer.lost()
        self._session.peer_failed(LOST)
        self.process()

    # Messages.

    def process(self) -> None:
        """Handle what has come, unless a hook waits or other tasks have a turn."""
        hooks = self._session.hooks
        if not (hooks.is_running or self._is_held):
            hooks.call_gaps_now()
            if not hooks.is_running:
                self._process(hooks)

    def _process(self, hooks: InlineHooks) -> None:
        if not self._is_over:
            # what the hooks send leaves at once: a flush at the end of the turn would cost a
            # callback for each message
            session = self._session
            is_flush_due, session.is_flush_due = session.is_flush_due, True
            try:
                self._handle(hooks)
            except ClientEndedError as ended:
                self._end(ended)
            except PayloadBrokenError:
                self._end_reading()
                session.peer_failed(BROKEN_JSON)
                self._writer.hang_up()
            finally:
                if not is_flush_due:
                    session.flush_held()
        if self._is_over or self._is_lost or hooks.is_dropping:
            self._finish(hooks)

    def _handle(self, hooks: InlineHooks) -> None:
        """Call `on_message` for one message after the other.

        Raises:
            ClientEndedError: If the client closes its WebSocket or breaks its protocol.
            PayloadBrokenError: If a message is not what SockJS allows.
        """
        frames, pace = self._frames, self._session.pace
        decode = raw_messages if self._writer.is_raw else decode_websocket_messages
        turn_ends = clock() + TURN
        while True:
            messages = self._messages
            if messages is None:
                messages = frames.texts(decode, self._max_messages) or self._next(hooks)
                if messages is None:
                    break
                self._messages = messages
                self._counters.messages_received += len(messages)
            if messages and not hooks.is_dropping:
                if pace is None:
                    hooks.steps(messages, turn_ends)
                elif self._is_due(pace, hooks):
                    hooks.steps([messages.pop()], turn_ends)
                elif self._is_held:
                    return
            if not messages or hooks.is_dropping:
                self._messages = None
                if not frames.data:
                    break
            if hooks.is_running or hooks.gaps:
                return
            if clock() > turn_ends:
                self._is_held = True
                asyncio.get_running_loop().call_soon(self._go_on)
                return
        if self._is_paused and not hooks.is_running:
            self._read_on()

    def _next(self, hooks: InlineHooks) -> list[Any] | None:
        """Return the messages of the next frame, the last one first; None if it must come first."""
        frame = self._frames.next()
        if frame is None:
            return None
        return [] if hooks.is_dropping else self._decode(*frame)

    def _decode(self, opcode: int, payload: Any) -> list[Any]:
        """Return the messages of one frame, the last one first; answer a ping."""
        if opcode == TEXT and not self._writer.is_raw:
            return self._texts(payload)
        if opcode == PING:
            self._writer.pong(payload)
        if opcode not in MESSAGES:
            return []
        if not self._writer.is_raw:
            raise ClientEndedError(NOT_TEXT, NOT_TEXT.code, NOT_TEXT.reason)
        return [payload]

    def _texts(self, text: str) -> list[Any]:
        try:
            messages = decode_websocket_messages(text, self._max_messages)
        except PayloadTooLargeError as error:
            end = TOO_BIG._replace(reason=str(error))
            raise ClientEndedError(end, end.code, end.reason) from None
        messages.reverse()
        return messages

    def _is_due(self, pace: Pace, hooks: InlineHooks) -> bool:
        """Tell whether the next message may be handled now.  Otherwise hold it back, or drop it."""
        now = asyncio.get_running_loop().time()
        delay = pace.delay(1, now)
        if delay <= 0:
            pace.spend(1, now)
            return True
        if not self._session.is_open:  # the client has left: messages held back count as unread
            hooks.discard()
        elif pace.closes:
            self._session.close(*TOO_MANY)
        else:
            self._is_held = True
            pace.hold(delay, self._go_on)
        return False

    def _go_on(self) -> None:
        self._is_held = False
        self.process()

    def _read_on(self) -> None:
        self._is_paused = False
        if not (self._is_lost or self.transport.is_closing()):
            resume_reading(self.transport)

    # The end.

    def _end(self, ended: ClientEndedError) -> None:
        """Answer the client's close frame, or tell it what it did wrong."""
        self._end_reading()
        is_clients = ended.end.initiator == "client"
        self._writer.close(ended.code, ended.reason, hangs_up=is_clients)
        self._session.peer_failed(ended.end)
        if self._is_paused and not is_clients:
            self._read_on()  # until it has read our close frame, or is cut off

    def _end_reading(self) -> None:
        self._is_over = True
        self._messages = None
        if self._session.is_open:
            self._session.flush()  # what the hooks have sent so far

    def _finish(self, hooks: InlineHooks) -> None:
        """Call `on_close`, unless that was done; forget the session once its connection is lost."""
        if hooks.is_running or self._is_held or hooks.gaps:
            return
        hooks.close_now()
        if not hooks.is_running:
            if self._is_lost:
                self._session.end_now()
            self._session.hooks_returned()
