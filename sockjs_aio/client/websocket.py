"""The transports websocket and rawwebsocket, on aiohttp's WebSockets."""

import contextlib
from collections.abc import Callable

import aiohttp
import async_timeout
from aiohttp import ClientSession, ClientWebSocketResponse, ClientWSTimeout, WSMsgType
from yarl import URL

from sockjs_aio.client.options import ClientOptions
from sockjs_aio.client.transport import LOST, Message, TransportError, failures
from sockjs_aio.protocol.json_text import quote
from sockjs_aio.protocol.server_frames import BEAT, OPENED, ServerFrame, decode_frame


class WebSocket:
    """A SockJS session over a WebSocket."""

    name = "websocket"

    def __init__(self, session: ClientSession, url: URL, options: ClientOptions) -> None:
        self._session = session
        self._url = url
        self._options = options
        self.failed: Callable[[TransportError], None] = lambda error: (
            None
        )  # sends fail by themselves
        self._socket: ClientWebSocketResponse | None = None

    async def open(self) -> ServerFrame:
        """Connect, and return the first frame."""
        with failures():
            self._socket = await self._session.ws_connect(
                self._url,
                timeout=ClientWSTimeout(ws_close=self._options.close_timeout),
                autoping=False,  # a ping and a pong are signs of life
                max_msg_size=self._options.max_frame_size,
            )
        frame = await self._first()
        assert isinstance(frame, ServerFrame), "only raw WebSockets receive bytes"
        return frame

    async def _first(self) -> ServerFrame | bytes:
        return await self.receive()

    async def receive(self) -> ServerFrame | bytes:
        """Return the next frame, or a sign of life."""
        socket = self._connected()
        with failures():
            message = await socket.receive()
            if message.type is WSMsgType.TEXT:
                return self._decoded(message.data)
            if message.type is WSMsgType.BINARY:
                return self._bytes(message.data)
            if message.type is WSMsgType.PING:
                await socket.pong(message.data)
            if message.type in (WSMsgType.PING, WSMsgType.PONG):
                return BEAT
        if message.type is WSMsgType.CLOSE:
            return ServerFrame("c", (), message.data or 1005, message.extra or "")
        if isinstance(message.data, aiohttp.WebSocketError):
            raise TransportError(
                f"the server broke the protocol: {message.data}", message.data.code
            )
        raise TransportError("the connection was lost")

    def _decoded(self, text: str) -> ServerFrame:
        return decode_frame(text) if text else BEAT

    def _bytes(self, data: bytes) -> bytes:
        raise TransportError("the server sent bytes: SockJS messages are text", 1003)

    async def send(self, message: Message) -> None:
        """Send a message; wait while the connection takes no more."""
        if isinstance(message, bytes):
            raise TypeError(
                "send(bytes) is for the transport rawwebsocket: SockJS messages are str"
            )
        with failures():
            await self._connected().send_str(f"[{quote(message).decode()}]")

    async def ping(self) -> None:
        """Send a ping."""
        with failures():
            await self._connected().ping()

    async def close(self, code: int, reason: str) -> None:
        """Send a close frame, and wait for that of the server."""
        with failures():
            await self._connected().close(code=code, message=reason.encode())

    async def abort(self, code: int) -> None:
        """Send a close frame, and do not wait for an answer."""
        if self._socket is not None:
            told = aiohttp.WSCloseCode.GOING_AWAY if code == LOST else code
            with contextlib.suppress(TransportError), failures():
                async with async_timeout.timeout(0):
                    await self._socket.close(code=told)

    def _connected(self) -> ClientWebSocketResponse:
        assert self._socket is not None, "`open` comes first"
        return self._socket


class RawWebSocket(WebSocket):
    """Messages without frames: each is a WebSocket message."""

    name = "rawwebsocket"

    async def _first(self) -> ServerFrame:
        return OPENED

    def _decoded(self, text: str) -> ServerFrame:
        return ServerFrame("a", (text,), size=len(text))

    def _bytes(self, data: bytes) -> bytes:
        return data

    async def send(self, message: Message) -> None:
        """Send a message; wait while the connection takes no more."""
        with failures():
            if isinstance(message, bytes):
                await self._connected().send_bytes(message)
            else:
                await self._connected().send_str(message)
