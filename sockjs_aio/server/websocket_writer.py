"""Writes frames to a WebSocket, and checks with pings that its client is still there.

`ConnectionWriter` writes the frames, or aiohttp if compression was negotiated.  Sections of the
protocol: "WebSocket protocol", "Raw WebSocket"; RFC 6455, sections 5.5 and 7.
"""

from collections.abc import Coroutine
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from sockjs_aio.core.closing import Closing
from sockjs_aio.core.tcp import Delivery, is_left_unseen, read_at_most, seconds_since_data
from sockjs_aio.protocol.ends import NORMAL
from sockjs_aio.protocol.frames import CloseFrame, SharedFrame
from sockjs_aio.protocol.framing import RAW, Framing
from sockjs_aio.protocol.websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    close_payload,
    is_sendable_code,
    split_frames,
    text_frame,
    websocket_frame,
)
from sockjs_aio.server.connection_writer import ConnectionWriter
from sockjs_aio.turns import Turn

READ_SIZE = 65536
PING_FRAME = websocket_frame(PING, b"")


class WebSocketWriter:
    """Writes frames to a WebSocket.

    Args:
        request: The handshake.
        socket: The WebSocket; prepare it before anything is written.
        output: Writes to the connection.
        framing: SockJS or raw.
        heartbeat_delay: Seconds between two pings.
        closing: Knows whether the server is shutting down.
    """

    __slots__ = (
        "delivery",
        "is_raw",
        "is_heard",
        "_request",
        "_socket",
        "_output",
        "_heartbeat_delay",
        "_closing",
        "_is_compressed",
        "_is_closed",
        "_taken",
        "_is_ping_due",
        "_ping_end",
        "_is_delayed",
    )

    is_http = False
    is_done = False  # a WebSocket has no response to end: it ends with its coroutine

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        output: ConnectionWriter,
        framing: Framing,
        heartbeat_delay: float,
        closing: Closing,
    ) -> None:
        self.delivery: Delivery = output.delivery
        self.is_raw = framing is RAW
        self._request = request
        self._socket = socket
        self._output = output
        self._heartbeat_delay = heartbeat_delay
        self._closing = closing
        self._is_compressed = False
        self._is_closed = False  # a close frame was written
        self._taken = b""  # the frames that the next flush writes
        self._is_ping_due = False
        self.is_heard = False  # whether the client sent anything since the last ping
        self._ping_end: int | None = None  # position of the last ping's end in the written bytes
        self._is_delayed = False  # whether the last ping was queued behind other data

    def open(self, writer: AbstractStreamWriter | None) -> None:
        """Begin to write; `writer` comes from the socket's ``prepare``."""
        assert writer is not None, "the first call of prepare returns a writer"
        self._output.open(writer)
        self._is_compressed = bool(self._socket.compress)
        if self._request.transport is not None:
            read_at_most(self._request.transport, READ_SIZE)

    @property
    def is_full(self) -> bool:
        """Whether the connection is congested, or closed."""
        return self._output.is_congested or self._is_closed

    @property
    def is_alive(self) -> bool:
        """Whether the connection has not been lost."""
        transport = self._request.transport
        return transport is not None and not is_left_unseen(transport)

    @property
    def is_left(self) -> bool:
        """The opposite of `is_alive`: we always read from a WebSocket, so we notice its end."""
        return not self.is_alive

    @property
    def buffered(self) -> int:
        """Number of written bytes that have not left the process."""
        return self._output.buffered

    def write(self, frame: bytes) -> None:
        """Take one frame; the close frame also closes the WebSocket."""
        if type(frame) is SharedFrame:
            self._taken += frame.dressed(text_frame)
        elif type(frame) is not CloseFrame:
            self._taken += frame if self.is_raw else text_frame(frame)
        elif self.is_raw:
            self.close(frame.code, frame.reason)
        else:
            self._taken += text_frame(frame)
            self.close(NORMAL, "")

    def flush(self) -> int:
        """Write the frames taken so far, then the ping if one is due; return `buffered`."""
        if self._taken and self._is_compressed:
            self._flush_compressed()
            return self.buffered
        if self._is_ping_due and not self.is_full:
            self._take_ping()
        if not self._taken:
            return self.buffered
        data, self._taken = self._taken, b""
        buffered = self._output.write(data)
        if self._is_closed:
            self._output.end(self._closing.is_begun)
        return buffered

    def _take_ping(self) -> None:
        self._taken += PING_FRAME
        self._ping_end = self.delivery.written + len(self._taken)
        self._is_ping_due = False

    def _flush_compressed(self) -> None:
        # while aiohttp is writing, it counts as congested; afterwards this is called again
        if not self._output.is_congested:
            data, self._taken = self._taken, b""
            self._output.wait(partial(self._write_compressed, data))

    async def _write_compressed(self, data: bytes) -> None:
        turn = Turn()
        for opcode, payload in split_frames(data):
            if turn.is_over:
                await turn.next()
            if opcode == TEXT:
                await self._socket.send_str(payload.decode())
            elif opcode == BINARY:
                await self._socket.send_bytes(payload)
            else:
                self._output.write(websocket_frame(opcode, payload))
                continue
            self.delivery.written += len(payload)  # roughly: the compressed size is not known
        if self._is_closed and not self._taken:
            self._output.end(self._closing.is_begun)

    def close(self, code: int, reason: str) -> None:
        """Write the WebSocket's close frame, with code 1000 if `code` must not be sent."""
        if not self._is_closed:
            code = code if is_sendable_code(code) else NORMAL
            self._taken += websocket_frame(CLOSE, close_payload(code, reason))
            self._is_closed = True
            self.flush()

    def pong(self, payload: bytes) -> None:
        """Answer a ping, unless the client does not read: pongs must not fill the memory."""
        if not self.is_full:
            self._output.write(websocket_frame(PONG, payload))

    def probe(self, busy: bool) -> bool:
        """Make `flush` ping the client; return False if the client did not answer the last ping.

        Any data from the client counts as an answer.  If the client is still taking data that was
        written before the ping, the ping has not reached it, and no answer is due.

        Args:
            busy: Whether a hook is running.  We read nothing meanwhile, so a missing answer means
                nothing, unless it is the client that does not read.
        """
        if self._output.is_congested:
            self._ping_end = None
            return not self.delivery.is_stalled()
        if self._ping_end is None or self.is_heard or busy or self._has_data_come():
            self._ping()
            return True
        if self.delivery.has_arrived(self._ping_end):
            was_delayed, self._is_delayed = self._is_delayed, False
            return was_delayed  # if it was delayed, the time for its answer starts now
        return not self.delivery.is_stalled()

    def _ping(self) -> None:
        # A client that answered has received the last ping, unless that was delayed.  If nothing
        # was written since, we need not ask the kernel.
        if self.is_heard and not self._is_delayed and self._ping_end == self.delivery.written:
            self.delivery.assume_taken()
        else:
            self._is_delayed = self.delivery.is_pending()
        self.is_heard = False
        self._is_ping_due = True
        if self._is_compressed:
            self.flush()  # now, ahead of the frames that aiohttp compresses

    def _has_data_come(self) -> bool:
        """Tell whether part of a message that is still incomplete arrived recently."""
        transport = self._request.transport
        return transport is not None and seconds_since_data(transport) < self._heartbeat_delay

    def conclude(self) -> None:
        """Do nothing: this is only for HTTP responses."""

    def release(self) -> None:
        """Do nothing: the coroutine ends with the connection."""

    def hang_up(self) -> None:
        """Close the connection, without a close frame, after everything written has left."""
        self._output.close()

    def finish(self, timeout: float) -> Coroutine[Any, Any, None]:
        """Wait until all data has left the process; cut the connection after `timeout` seconds."""
        return self._output.finish(timeout)

    def abort(self) -> None:
        """Cut the connection."""
        self._output.abort()
