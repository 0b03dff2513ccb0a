"""websocket and raw websocket: the session lives as long as its connection.

aiohttp does the handshake and the reading; frames are written by `Outlet`, or by aiohttp where
compression was agreed on.  Section of the protocol: "WebSocket protocol", "Raw WebSocket";
RFC 6455.
"""

import asyncio

from aiohttp import WebSocketError, WSMessage, WSMsgType, web

from sockjs_aio.close_info import LOST, End
from sockjs_aio.errors import PayloadBroken, PayloadTooLarge
from sockjs_aio.hooks import YIELD_EVERY, Hooks
from sockjs_aio.protocol.frames import CloseFrame, SharedFrame, decode_websocket_messages
from sockjs_aio.protocol.framing import RAW, SOCKJS, Framing
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
from sockjs_aio.session import Session
from sockjs_aio.shield import forgive_loss
from sockjs_aio.tcp import Delivery, seconds_since_data
from sockjs_aio.transports.endpoint import Endpoint
from sockjs_aio.transports.handshake import INVALID, check_handshake, refuse
from sockjs_aio.transports.outlet import Outlet

NORMAL = 1000
PROTOCOL_ERROR = 1002
UNSUPPORTED = 1003
NO_CODE = 1005  # never on the wire
INVALID_DATA = 1007
TOO_BIG = 1009

_VIOLATIONS = {INVALID_DATA: "Invalid UTF-8", TOO_BIG: "Message too big"}


async def websocket(endpoint: Endpoint, request: web.Request) -> web.StreamResponse:
    """Serve SockJS frames over a WebSocket."""
    return await _serve(endpoint, request, "websocket", SOCKJS)


async def raw_websocket(endpoint: Endpoint, request: web.Request) -> web.StreamResponse:
    """Serve messages as they are over a WebSocket."""
    return await _serve(endpoint, request, "rawwebsocket", RAW)


async def _serve(
    endpoint: Endpoint, request: web.Request, transport: str, framing: Framing
) -> web.StreamResponse:
    if (refusal := check_handshake(request)) is not None:
        return refusal
    await endpoint.admit(request)
    settings = endpoint.settings
    socket = Socket(
        autoping=False,
        autoclose=False,
        compress=settings.websocket_compression,
        max_msg_size=settings.max_message_size + 1,  # aiohttp's limit is the first size refused
    )
    session = endpoint.open_session(request, transport, framing, by_id=False)
    outlet = Outlet(request, settings, session.receiver_changed)
    receiver = WebSocketReceiver(endpoint, request, socket, outlet, framing, session.hooks)
    try:
        session.attach(receiver)
        outlet.open(await socket.prepare(request))
        await _run(session, receiver)
        await outlet.finish(settings.disconnect_delay)
    except web.HTTPBadRequest:
        return refuse(INVALID)
    finally:
        session.vanish()
        session.hooks_returned()
    return socket


async def _run(session: Session, receiver: "WebSocketReceiver") -> None:
    hooks = session.hooks
    hooks.run_inline(forgive_loss(receiver.request))
    session.flush()
    try:
        await hooks.open()
        session.fail(await receiver.read(session))
    except asyncio.CancelledError:
        receiver.abort()  # the client has gone already, or the server wants to end
    finally:
        session.fail(LOST)
        await hooks.finish()


class Socket(web.WebSocketResponse):
    """A WebSocket whose close frames are written by its receiver."""

    async def close(self, *, code: int = NORMAL, message: bytes = b"", drain: bool = True) -> bool:
        """Do nothing: aiohttp would write a close frame besides ours, wait for the answer, and keep
        the exception of a lost connection with all frames on the stack.
        """
        return False


class WebSocketReceiver:
    """Reads messages from a WebSocket, and writes frames to it.

    Args:
        endpoint: What the transports share.
        request: The handshake.
        socket: Prepared.
        outlet: Writes to the connection.
        framing: SockJS or raw.
        hooks: The session's.
    """

    __slots__ = (
        "delivery",
        "request",
        "_endpoint",
        "_socket",
        "_outlet",
        "_is_raw",
        "_hooks",
        "_is_closed",
        "_parts",
        "_handled",
        "_is_heard",
        "_ping_end",
        "_is_delayed",
    )

    is_http = False
    is_done = False  # it ends with its coroutine

    def __init__(
        self,
        endpoint: Endpoint,
        request: web.Request,
        socket: Socket,
        outlet: Outlet,
        framing: Framing,
        hooks: Hooks,
    ) -> None:
        self.delivery: Delivery = outlet.delivery
        self.request = request
        self._endpoint = endpoint
        self._socket = socket
        self._outlet = outlet
        self._is_raw = framing is RAW
        self._hooks = hooks
        self._is_closed = False  # a close frame was written
        self._parts: list[bytes] = []
        self._handled = 0  # messages, pings and pongs
        # since the last ping: signs of life; where in what was written it ends; whether it had to
        # queue behind something
        self._is_heard = False
        self._ping_end: int | None = None
        self._is_delayed = False

    # Reading.

    async def read(self, session: Session) -> End:
        """Hand messages to the hooks until the connection ends; return how it did."""
        hooks, receive = self._hooks, self._socket.receive
        while True:
            if hooks.is_dropping:
                await hooks.finish()
            try:
                message = await receive()
            except asyncio.CancelledError:
                self._read_on()
                continue
            self._is_heard = True
            await self._take_turns()
            if message.type is WSMsgType.TEXT or message.type is WSMsgType.BINARY:
                if not hooks.is_dropping:
                    await self._handle(session, message)
            elif message.type is WSMsgType.PING:
                self._write_control(PONG, message.data)
            elif message.type is not WSMsgType.PONG:
                try:
                    return self._end(message)
                finally:
                    del message  # an exception's traceback would keep this very frame

    def _end(self, message: WSMessage) -> End:
        """Answer what ends the connection."""
        if message.type is WSMsgType.CLOSE:
            reply = _reply_code(message.data)
            self._close(reply, "")
            if message.data not in (0, reply):
                return reply, "Invalid close code", "error"
            return message.data or NO_CODE, message.extra or "", "client"
        if isinstance(message.data, WebSocketError):
            code: int = message.data.code
            reason = _VIOLATIONS.get(code, "Protocol error")
        elif isinstance(message.data, Exception) and not isinstance(message.data, OSError):
            code, reason = INVALID_DATA, "Broken compression"  # it is the decompressor's error
        else:
            return LOST
        self._close(code, "")
        return code, reason, "error"

    async def _take_turns(self) -> None:
        """Let the loop go on once in a while: what is buffered is read without waiting."""
        self._handled += 1
        if self._handled % YIELD_EVERY == 0:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                self._read_on()

    def _read_on(self) -> None:
        """Go on after a cancellation if the client has just left: it may have sent more before."""
        if not self._hooks.is_forgiven():
            raise
        self.abort()  # or the server ends, and the client takes nothing: reading has to end

    async def _handle(self, session: Session, message: WSMessage) -> None:
        if self._is_raw:
            await self._hooks.message(message.data)
        elif message.type is WSMsgType.TEXT:
            await self._handle_text(session, message.data)
        else:
            self._refuse(session, UNSUPPORTED, "SockJS messages are text")

    async def _handle_text(self, session: Session, text: str) -> None:
        try:
            messages = decode_websocket_messages(text, self._endpoint.settings.max_messages)
        except PayloadTooLarge as error:
            self._refuse(session, TOO_BIG, str(error))
        except PayloadBroken:
            session.fail((INVALID_DATA, "Broken JSON encoding", "error"))
            self._outlet.close()
        else:
            for message in messages:
                if self._hooks.is_dropping:
                    return
                await self._hooks.message(message)
                await self._take_turns()

    def _refuse(self, session: Session, code: int, reason: str) -> None:
        session.fail((code, reason, "error"))
        self._close(code, reason)

    # Writing.

    @property
    def is_full(self) -> bool:
        """Whether the connection is congested, or closed."""
        return self._outlet.is_congested or self._is_closed

    @property
    def is_alive(self) -> bool:
        """Whether the connection has not been lost."""
        return self.request.transport is not None

    @property
    def is_left(self) -> bool:
        """As `is_alive`: it is always read from."""
        return not self.is_alive

    @property
    def buffered(self) -> int:
        """Bytes that the connection has not passed on."""
        return self._outlet.buffered

    def write(self, frame: bytes) -> None:
        """Take one frame; the close frame closes the WebSocket too."""
        if type(frame) is SharedFrame:
            self._parts.append(frame.dressed(text_frame))
        elif type(frame) is not CloseFrame:
            self._parts.append(frame if self._is_raw else text_frame(frame))
        elif self._is_raw:
            self._close(frame.code, frame.reason)
        else:
            self._parts.append(text_frame(frame))
            self._close(NORMAL, "")

    def flush(self) -> None:
        """Write what was taken."""
        if not self._parts or (self._socket.compress and self._outlet.is_congested):
            return  # aiohttp is still at the last one: this is called again afterwards
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        if self._socket.compress:
            self._outlet.wait(lambda: self._write_compressed(data))
            return
        self._outlet.write(data)
        if self._is_closed:
            self._outlet.end(self._endpoint.registry.closing.is_begun)

    async def _write_compressed(self, data: bytes) -> None:
        for opcode, payload in split_frames(data):
            if opcode == TEXT:
                await self._socket.send_str(payload.decode())
            elif opcode == BINARY:
                await self._socket.send_bytes(payload)
            else:
                self._outlet.write(websocket_frame(opcode, payload))
                continue
            self.delivery.written += len(payload)  # about: nobody tells the compressed size
        if self._is_closed and not self._parts:
            self._outlet.end(self._endpoint.registry.closing.is_begun)

    def _close(self, code: int, reason: str) -> None:
        if not self._is_closed:
            code = code if is_sendable_code(code) else NORMAL
            self._parts.append(websocket_frame(CLOSE, close_payload(code, reason)))
            self._is_closed = True
            self.flush()

    def _write_control(self, opcode: int, payload: bytes) -> None:
        if not self.is_full:  # a client that does not read gets no pongs to fill our memory
            self._outlet.write(websocket_frame(opcode, payload))

    def probe(self, busy: bool) -> bool:
        """Ping the client; return False if the last ping has reached it and got no answer.

        Whatever comes from the client is an answer, and so is that it still takes what was written
        before the ping: the ping has not reached it then.

        Args:
            busy: Whether a hook runs: nothing is read meanwhile, so nothing can be missed, unless
                it is the client that does not read.
        """
        if not self.is_alive:
            if busy:  # otherwise it is just about to be read
                self._hooks.client_left()
            return True
        if self._outlet.is_congested:
            self._ping_end = None
            return not self.delivery.is_stalled()
        if self._ping_end is None or self._is_heard or busy or self._has_data_come():
            self._ping()
            return True
        if self.delivery.has_arrived(self._ping_end):
            was_delayed, self._is_delayed = self._is_delayed, False
            return was_delayed  # then its time counts from now
        return not self.delivery.is_stalled()

    def _ping(self) -> None:
        self._is_heard = False
        self._is_delayed = self.delivery.is_pending()
        self._write_control(PING, b"")
        self._ping_end = self.delivery.written

    def _has_data_come(self) -> bool:
        """Tell whether bytes have come of a message that is not complete."""
        transport = self.request.transport
        delay = self._endpoint.settings.heartbeat_delay
        return transport is not None and seconds_since_data(transport) < delay

    def release(self) -> None:
        """Its coroutine ends with the connection."""

    def abort(self) -> None:
        """Cut the connection."""
        self._outlet.abort()


def _reply_code(code: int) -> int:
    """Return the code with which to answer a close frame; 0 stands for none."""
    if code == 0:
        return NORMAL
    return code if is_sendable_code(code) else PROTOCOL_ERROR
