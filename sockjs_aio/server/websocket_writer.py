"""Write frames to a WebSocket, and ask whether its client is there.

Frames are written by `ConnectionWriter`, or by aiohttp where compression was agreed on.  Sections
of the protocol: "WebSocket protocol", "Raw WebSocket"; RFC 6455, sections 5.5 and 7.
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
        socket: Prepared before anything is written.
        output: Writes to the connection.
        framing: SockJS or raw.
        heartbeat_delay: Seconds between two pings.
        closing: Tells whether the server shuts down.
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
    is_done = False  # it ends with its coroutine

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
        self._taken = b""  # frames that the next flush writes, one behind the other
        # since the last ping: signs of life; where in what was written it ends; whether it had to
        # queue behind something
        self._is_ping_due = False
        self.is_heard = False
        self._ping_end: int | None = None
        self._is_delayed = False

    def open(self, writer: AbstractStreamWriter | None) -> None:
        """Begin to write, with what ``prepare`` of the socket has returned."""
        assert writer is not None, "a socket that was not prepared before has a writer"
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
        """As `is_alive`: it is always read from."""
        return not self.is_alive

    @property
    def buffered(self) -> int:
        """Bytes that the connection has not passed on."""
        return self._output.buffered

    def write(self, frame: bytes) -> None:
        """Take one frame; the close frame closes the WebSocket too."""
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
        """Write what was taken, and behind it the ping that is due; return what is `buffered`."""
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
        if not self._output.is_congested:  # or aiohttp is at the last one: this is called again
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
            self.delivery.written += len(payload)  # about: nobody tells the compressed size
        if self._is_closed and not self._taken:
            self._output.end(self._closing.is_begun)

    def close(self, code: int, reason: str) -> None:
        """Write the WebSocket's close frame, with another code if that may not be sent."""
        if not self._is_closed:
            code = code if is_sendable_code(code) else NORMAL
            self._taken += websocket_frame(CLOSE, close_payload(code, reason))
            self._is_closed = True
            self.flush()

    def pong(self, payload: bytes) -> None:
        """Answer a ping, unless the client does not read: they must not fill memory."""
        if not self.is_full:
            self._output.write(websocket_frame(PONG, payload))

    def probe(self, busy: bool) -> bool:
        """Have `flush` ping the client; return False if the last ping has reached it and got no
        answer.

        Whatever comes from the client is an answer, and so is that it still takes what was written
        before the ping: the ping has not reached it then.

        Args:
            busy: Whether a hook runs: nothing is read meanwhile, so nothing can be missed, unless
                it is the client that does not read.
        """
        if self._output.is_congested:
            self._ping_end = None
            return not self.delivery.is_stalled()
        if self._ping_end is None or self.is_heard or busy or self._has_data_come():
            self._ping()
            return True
        if self.delivery.has_arrived(self._ping_end):
            was_delayed, self._is_delayed = self._is_delayed, False
            return was_delayed  # then its time counts from now
        return not self.delivery.is_stalled()

    def _ping(self) -> None:
        # who was heard has got the last ping, unless that was stuck: if nothing was written since,
        # there is no need to ask the kernel
        if self.is_heard and not self._is_delayed and self._ping_end == self.delivery.written:
            self.delivery.assume_taken()
        else:
            self._is_delayed = self.delivery.is_pending()
        self.is_heard = False
        self._is_ping_due = True
        if self._is_compressed:
            self.flush()  # it does not wait until aiohttp has written what comes with it

    def _has_data_come(self) -> bool:
        """Tell whether bytes have come of a message that is not complete."""
        transport = self._request.transport
        return transport is not None and seconds_since_data(transport) < self._heartbeat_delay

    def conclude(self) -> None:
        """Not asked for: the session ends with its connection."""

    def release(self) -> None:
        """Its coroutine ends with the connection."""

    def hang_up(self) -> None:
        """Close the connection without a close frame, once what was written has left."""
        self._output.close()

    def finish(self, timeout: float) -> Coroutine[Any, Any, None]:
        """Wait until all has left the process; for `timeout` seconds at most."""
        return self._output.finish(timeout)

    def abort(self) -> None:
        """Cut the connection."""
        self._output.abort()
