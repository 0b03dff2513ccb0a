"""Writes frames to a WebSocket, and checks with pings that its client is still there.

Sections of the protocol: "WebSocket protocol", "Raw WebSocket"; RFC 6455, sections 5.5 and 7.
"""

import asyncio
import contextlib

from sockjs_aio.core.closing import Closing
from sockjs_aio.core.plain_write import write_plain
from sockjs_aio.core.session import Session
from sockjs_aio.core.tcp import (
    PAUSE,
    Delivery,
    buffered_bytes,
    give_up_after,
    is_left_unseen,
    is_tls,
    limit_buffer,
    read_at_most,
    seconds_since_data,
)
from sockjs_aio.protocol.deflate import Deflater
from sockjs_aio.protocol.ends import NORMAL
from sockjs_aio.protocol.frames import CloseFrame, SharedFrame
from sockjs_aio.protocol.framing import RAW, Framing
from sockjs_aio.protocol.websocket import (
    CLOSE,
    COMPRESSED,
    PING,
    PONG,
    close_payload,
    is_sendable_code,
    split_frames,
    text_frame,
    websocket_frame,
)
from sockjs_aio.server.connection_writer import HIGH_WATER, PATIENCE
from sockjs_aio.settings import Settings

READ_SIZE = 65536

ANSWER_LIMIT = 1.0
"""Seconds that a client has to answer the close frame over TLS while the server shuts down."""

PING_FRAME = websocket_frame(PING, b"")


class WebSocketWriter:
    """Writes frames to a WebSocket; it takes none until `open` is called.

    Args:
        transport: The connection.
        settings: `heartbeat_delay` is the time between two pings, and the kernel ends the
            connection if the client acknowledges nothing for three times as long.  A small
            `send_queue_limit` lowers the limit above which the connection is congested.
        session: Told when the connection is no longer congested, or is lost.
        framing: SockJS or raw.
        closing: Knows whether the server is shutting down.
        deflater: Packs messages; None if compression was not agreed on.
    """

    __slots__ = (
        "delivery",
        "is_raw",
        "is_heard",
        "_transport",
        "_session",
        "_closing",
        "_deflater",
        "_high_water",
        "_heartbeat_delay",
        "is_full",
        "_is_plain",
        "_is_closed",
        "_is_lost",
        "_taken",
        "_is_ping_due",
        "_ping_end",
        "_is_delayed",
    )

    is_http = False
    is_done = False  # a WebSocket has no response to end: it ends with its connection

    def __init__(
        self,
        transport: asyncio.Transport,
        settings: Settings,
        session: Session,
        framing: Framing,
        closing: Closing,
        deflater: Deflater | None,
    ) -> None:
        self.delivery: Delivery = Delivery(transport)
        self.is_raw: bool = framing is RAW
        self._transport = transport
        self._session = session
        self._closing = closing
        self._deflater = deflater
        self._high_water = min(HIGH_WATER, settings.send_queue_limit // 4)
        self._heartbeat_delay = settings.heartbeat_delay
        self._is_plain = not is_tls(transport)
        self.is_full: bool = True
        """Whether the connection is congested, or closed."""
        self._is_closed = False  # a close frame was written
        self._is_lost = False
        self._taken = b""  # the frames that the next flush writes
        self._is_ping_due = False
        self.is_heard: bool = False  # whether the client sent anything since the last ping
        self._ping_end: int | None = None  # position of the last ping's end in the written bytes
        self._is_delayed = False  # whether the last ping was queued behind other data

    def open(self, head: bytes) -> None:
        """Begin to write, with `head`, the response to the handshake.

        Socket options are set here and not earlier: if the handshake had been refused, the
        connection would go on to serve other requests.
        """
        give_up_after(self._transport, PATIENCE * self._heartbeat_delay)
        if self._high_water < HIGH_WATER or not self._is_plain:  # the limit of TLS differs
            limit_buffer(self._transport, self._high_water)
        read_at_most(self._transport, READ_SIZE)
        self._taken = head
        self.is_full = False
        if self.buffered > self._high_water:  # with an earlier response
            self.pause()

    @property
    def is_alive(self) -> bool:
        """Whether the connection has not been lost."""
        return not self._is_lost and (self._is_plain or not is_left_unseen(self._transport))

    @property
    def is_left(self) -> bool:
        """The opposite of `is_alive`: we always read from a WebSocket, so we notice its end."""
        return not self.is_alive

    @property
    def buffered(self) -> int:
        """Number of written bytes that have not left the process."""
        return buffered_bytes(self._transport)

    def write(self, frame: bytes) -> None:
        """Take one frame; the close frame also closes the WebSocket."""
        if type(frame) is CloseFrame:
            if self.is_raw:
                self.close(frame.code, frame.reason)
            else:
                self._taken += self._packed(text_frame(frame))
                self.close(NORMAL, "")
        elif self._deflater is not None:
            self._taken += self._packed(frame if self.is_raw else text_frame(frame))
        elif type(frame) is SharedFrame:
            self._taken += frame.dressed(text_frame)
        else:
            self._taken += frame if self.is_raw else text_frame(frame)

    def send(self, frame: bytes) -> int:
        """Write one frame at once, as `write` and `flush` do; return `buffered`."""
        if (
            self._taken
            or not self._is_plain
            or self._deflater is not None
            or type(frame) is CloseFrame
        ):
            self.write(frame)
            return self.flush()
        if type(frame) is SharedFrame:
            data = frame.dressed(text_frame)
        else:
            data = frame if self.is_raw else text_frame(frame)
        if self._is_ping_due:
            data = self._with_ping(data)
        self.delivery.written += len(data)
        return write_plain(self._transport, data)  # may call `pause`

    def _packed(self, frames: bytes) -> bytes:
        if self._deflater is None:
            return frames
        deflate = self._deflater.deflate
        return b"".join(
            websocket_frame(COMPRESSED | opcode, deflate(payload))
            for opcode, payload in split_frames(frames)
        )

    def flush(self) -> int:
        """Write the frames taken so far, then the ping if one is due; return `buffered`."""
        if self._is_ping_due and not self.is_full:
            self._taken = self._with_ping(self._taken)
        if not self._taken:
            return self.buffered
        data, self._taken = self._taken, b""
        buffered = self._write(data)
        if self._is_closed:
            self._end()
        return buffered

    def _write(self, data: bytes) -> int:
        """Write `data`, or nothing if the connection is lost; return `buffered` afterwards."""
        transport = self._transport
        if transport.is_closing():
            return self.buffered
        self.delivery.written += len(data)
        if self._is_plain:
            return write_plain(transport, data)  # may call `pause`
        transport.write(data)
        buffered = buffered_bytes(transport)
        if buffered > self._high_water:
            self._watch()
        return buffered

    def _with_ping(self, data: bytes) -> bytes:
        """Return `data`, which is written next, and the ping that is due."""
        data += PING_FRAME
        self._ping_end = self.delivery.written + len(data)
        self._is_ping_due = False
        return data

    def _end(self) -> None:
        """Send the client an EOF after everything written so far.

        Closing the connection would also do that, but it drops what the client is still sending,
        and sometimes what the client has not yet read.  TLS cannot send an EOF alone: there the
        connection stays open until the client answers, or for a moment if the server shuts down.
        If it were closed at once, clients that find it closed when they answer would report 1006.
        """
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            with contextlib.suppress(OSError):  # the connection was lost in this turn of the loop
                self._transport.write_eof()
        elif self._closing.is_begun:
            asyncio.get_running_loop().call_later(ANSWER_LIMIT, self.hang_up)

    def close(self, code: int, reason: str, *, hangs_up: bool = False) -> None:
        """Write the WebSocket's close frame, with code 1000 if `code` must not be sent.

        Args:
            code: The close code.
            reason: The close reason.
            hangs_up: Whether the connection is then closed, as `hang_up` does.
        """
        if not self._is_closed:
            code = code if is_sendable_code(code) else NORMAL
            self._taken += websocket_frame(CLOSE, close_payload(code, reason))
            self.is_full = self._is_closed = True
            if hangs_up:  # without an EOF of its own, which would be one system call more
                data, self._taken = self._taken, b""
                self._write(data)
            else:
                self.flush()
        if hangs_up:
            self.hang_up()

    def pong(self, payload: bytes) -> None:
        """Answer a ping, unless the client does not read: pongs must not fill the memory."""
        if not self.is_full:
            self._write(websocket_frame(PONG, payload))

    # Congestion.

    def pause(self) -> None:
        """The transport's buffer is full."""
        if self._is_plain:
            self.is_full = True
        else:
            self._watch()

    def resume(self) -> None:
        """The transport's buffer has emptied."""
        if self._is_plain:
            self.is_full = self._is_closed
            self._session.writer_changed()

    def _watch(self) -> None:
        """Wait for TLS, which does not tell all that it buffers."""
        if not self.is_full:
            self.is_full = True
            self._look_later()

    def _look_later(self) -> None:
        asyncio.get_running_loop().call_later(PAUSE, self._look)

    def _look(self) -> None:
        if self.buffered > self._high_water and not self._is_lost:
            self._look_later()
        elif self.is_full:
            self.is_full = self._is_closed
            self._session.writer_changed()

    # Signs of life.

    def probe(self, busy: bool) -> bool:
        """Make `flush` ping the client; return False if the client did not answer the last ping.

        Any data from the client counts as an answer.  If the client is still taking data that was
        written before the ping, the ping has not reached it, and no answer is due.

        Args:
            busy: Whether a hook is running.  We may read nothing meanwhile, so a missing answer
                means nothing, unless it is the client that does not read.
        """
        if self.is_full:
            self._ping_end = None
            return not self.delivery.is_stalled()
        if self._ping_end is None or self.is_heard or busy or self._has_data_come():
            # a client that answered has received the last ping, unless that was delayed; if nothing
            # was written since, we need not ask the kernel
            if self.is_heard and not self._is_delayed and self._ping_end == self.delivery.written:
                self.delivery.assume_taken()
            else:
                self._is_delayed = self.delivery.is_pending()
            self.is_heard = False
            self._is_ping_due = True
            return True
        if self.delivery.has_arrived(self._ping_end):
            was_delayed, self._is_delayed = self._is_delayed, False
            return was_delayed  # if it was delayed, the time for its answer starts now
        return not self.delivery.is_stalled()

    def _has_data_come(self) -> bool:
        """Tell whether part of a message that is still incomplete arrived recently."""
        return seconds_since_data(self._transport) < self._heartbeat_delay

    # The end.

    def conclude(self) -> None:
        """Do nothing: this is only for HTTP responses."""

    def release(self) -> None:
        """Do nothing: the connection ends by itself."""

    def hang_up(self) -> None:
        """Close the connection, without a close frame, after everything written has left."""
        if not self._transport.is_closing():  # TLS forgets its connection if it is closed twice
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def lost(self) -> None:
        """The connection is lost."""
        self._is_lost = True
        self.is_full = self._is_closed
