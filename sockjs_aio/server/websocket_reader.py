"""Reads messages from a WebSocket, and tells how the WebSocket ended.

aiohttp reads the frames.  Sections of the protocol: "WebSocket protocol", "Raw WebSocket";
RFC 6455, sections 5.5 and 7.4.
"""

import asyncio
from collections.abc import Sequence

from aiohttp import WebSocketError, WSMessage, web

from sockjs_aio.core.inline import InlineSession
from sockjs_aio.errors import PayloadBrokenError, PayloadTooLargeError
from sockjs_aio.protocol.ends import (
    BROKEN_COMPRESSION,
    BROKEN_JSON,
    INVALID_CLOSE_CODE,
    INVALID_UTF8,
    LOST,
    NO_CODE,
    NORMAL,
    NOT_TEXT,
    PROTOCOL_ERROR,
    TOO_BIG,
    End,
)
from sockjs_aio.protocol.frames import decode_websocket_messages
from sockjs_aio.protocol.websocket import BINARY, CLOSE, PING, PONG, TEXT, is_sendable_code
from sockjs_aio.server.websocket_writer import WebSocketWriter
from sockjs_aio.turns import TURN, clock

FRAME = TURN / 256
"""Seconds that a frame counts for, besides its hooks: about what aiohttp needs to read it."""

# plain numbers, because looking up a member of aiohttp's enumeration takes 0.1 us (Python 3.11)
_MESSAGES = (TEXT, BINARY)
_VIOLATIONS = {end.code: end for end in (INVALID_UTF8, TOO_BIG)}
"""The ends for violations that aiohttp's parser reports with a close code of their own."""


class WebSocketReader:
    """Passes the messages of a WebSocket to the session's hooks.

    Args:
        session: The session whose hooks are called, in the current task.
        socket: The WebSocket, already prepared.
        writer: Answers pings and close frames.
        max_messages: Maximum number of messages in one array.
    """

    __slots__ = ("_session", "_socket", "_writer", "_max_messages")

    def __init__(
        self,
        session: InlineSession,
        socket: web.WebSocketResponse,
        writer: WebSocketWriter,
        max_messages: int,
    ) -> None:
        self._session = session
        self._socket = socket
        self._writer = writer
        self._max_messages = max_messages

    async def read(self) -> End:
        """Read until the connection ends; return how it ended."""
        hooks, writer = self._session.hooks, self._writer
        left = TURN  # seconds until other tasks must get a turn
        while True:
            if hooks.is_dropping:
                await hooks.finish()
            try:
                message = await self._socket.receive()
            except asyncio.CancelledError:
                self._read_on()
                continue
            writer.is_heard = True
            opcode = message.type
            left -= FRAME
            if opcode in _MESSAGES:
                end = (now := clock()) + left
                for text in () if hooks.is_dropping else self._decode(message):
                    if hooks.is_dropping:
                        break
                    if (waiting := hooks.step(text)) is not None:
                        await waiting
                        end = (now := clock()) + TURN
                    elif (now := clock()) > end:
                        await self._yield()
                        end = (now := clock()) + TURN
                left = end - now
            elif opcode == PING:
                writer.pong(message.data)
            elif opcode != PONG:
                try:
                    return self._end(message)
                finally:
                    del message  # its exception's traceback refers to this stack frame: a cycle
            if left < 0:
                await self._yield()
                left = TURN

    def _decode(self, message: WSMessage) -> Sequence[str | bytes]:
        if self._writer.is_raw:
            return (message.data,)
        if message.type != TEXT:
            self._refuse(NOT_TEXT)
            return ()
        try:
            return decode_websocket_messages(message.data, self._max_messages)
        except PayloadTooLargeError as error:
            self._refuse(TOO_BIG._replace(reason=str(error)))
        except PayloadBrokenError:
            self._session.peer_failed(BROKEN_JSON)
            self._writer.hang_up()
        return ()

    def _refuse(self, end: End) -> None:
        self._session.peer_failed(end)
        self._writer.close(end.code, end.reason)

    def _end(self, message: WSMessage) -> End:
        """Answer the message that ends the connection; return how it ended."""
        if message.type == CLOSE:
            reply, reason = _reply_code(message.data), message.extra or ""
            if message.data not in (0, reply):
                self._writer.close(reply, "")
                return INVALID_CLOSE_CODE
            self._writer.close(reply, reason)  # browsers report our reply to the page
            return End(message.data or NO_CODE, reason, "client")
        if isinstance(message.data, WebSocketError):
            code: int = message.data.code
            end = _VIOLATIONS.get(code, PROTOCOL_ERROR._replace(code=code))
        elif isinstance(message.data, Exception) and not isinstance(message.data, OSError):
            end = BROKEN_COMPRESSION  # the error comes from the decompressor
        else:
            return LOST
        self._writer.close(end.code, "")
        return end

    async def _yield(self) -> None:
        """Let other tasks run: reading buffered messages never waits."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self._read_on()

    def _read_on(self) -> None:
        """Continue after a cancellation that means that the client left; otherwise re-raise it.

        The client may have sent more before it left, and we still handle that.
        """
        if not self._session.hooks.is_forgiven():
            raise
        # or the server ends, and this client takes no data: end its connection
        self._writer.abort()


def _reply_code(code: int) -> int:
    """Return the code with which to answer a close frame; `code` is 0 if it had none."""
    if code == 0:
        return NORMAL
    return code if is_sendable_code(code) else PROTOCOL_ERROR.code
