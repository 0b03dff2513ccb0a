"""websocket and raw websocket: the session lives as long as its connection.

Sections of the protocol: "WebSocket protocol", "Raw WebSocket"; RFC 6455.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from sockjs_aio.close_info import LOST
from sockjs_aio.core.session import Session
from sockjs_aio.core.shield import Loss
from sockjs_aio.protocol.framing import RAW, SOCKJS, Framing
from sockjs_aio.server.admission import Endpoint
from sockjs_aio.server.client_loss import watch_loss
from sockjs_aio.server.connection_writer import Outlet
from sockjs_aio.server.websocket_handshake import (
    INVALID,
    PROTOCOL,
    agreed_protocol,
    check_handshake,
    refuse,
)
from sockjs_aio.server.websocket_reader import WebSocketReader
from sockjs_aio.server.websocket_writer import NORMAL, WebSocketReceiver
from sockjs_aio.settings import Settings

Answer = Coroutine[Any, Any, web.StreamResponse]


def websocket(endpoint: Endpoint, request: web.Request) -> Answer:
    """Serve SockJS frames over a WebSocket."""
    return _serve(endpoint, request, "websocket", SOCKJS)


def raw_websocket(endpoint: Endpoint, request: web.Request) -> Answer:
    """Serve messages as they are over a WebSocket."""
    return _serve(endpoint, request, "rawwebsocket", RAW)


async def _serve(
    endpoint: Endpoint, request: web.Request, transport: str, framing: Framing
) -> web.StreamResponse:
    # memory: what is on the stack of a session's coroutines stays as long as the session
    if (refusal := check_handshake(request, endpoint.settings.protocols)) is not None:
        return refusal
    identity = await endpoint.admit(request)
    protocol = agreed_protocol(request, endpoint.settings.protocols)
    session = endpoint.open_session(
        request, transport, framing, identity, by_id=False, protocol=protocol
    )
    socket = Socket(endpoint.settings, protocol)
    receiver = _receiver(endpoint, request, framing, session, socket)
    reader = WebSocketReader(session, socket, receiver, endpoint.settings.max_messages)
    end = LOST
    try:
        session.attach(receiver)
        receiver.open(await socket.prepare(request))
        watch_loss(request, session.receiver_changed)
        session.hooks.run_inline(Loss(request))
        session.flush()
        try:
            await session.hooks.open()
            end = await reader.read()
        except asyncio.CancelledError:
            receiver.abort()  # the client has gone already, or the server wants to end
        finally:
            session.fail(end)
            await session.hooks.finish()
        await receiver.finish(endpoint.settings.disconnect_delay)
    except web.HTTPBadRequest:
        return refuse(INVALID)
    finally:
        session.vanish()
        session.hooks_returned()
    return socket


def _receiver(
    endpoint: Endpoint, request: web.Request, framing: Framing, session: Session, socket: "Socket"
) -> WebSocketReceiver:
    settings = endpoint.settings
    outlet = Outlet(request, settings, session)
    closing = endpoint.registry.closing
    return WebSocketReceiver(request, socket, outlet, framing, settings.heartbeat_delay, closing)


class Socket(web.WebSocketResponse):
    """A WebSocket whose control frames are written by its receiver."""

    def __init__(self, settings: Settings, protocol: str | None) -> None:
        super().__init__(
            protocols=() if protocol is None else (protocol,),
            autoping=False,
            autoclose=False,
            compress=settings.websocket_compression,
            max_msg_size=settings.max_message_size + 1,  # aiohttp's is the first size refused
        )
        if protocol is not None:
            self.headers[PROTOCOL] = protocol  # aiohttp looks at the first of several headers only

    async def close(self, *, code: int = NORMAL, message: bytes = b"", drain: bool = True) -> bool:
        """Do nothing: aiohttp would write a close frame besides ours, wait for the answer, and keep
        the exception of a lost connection with all frames on the stack.
        """
        return False
