"""websocket and raw websocket: a session lives as long as its connection.

Sections of the protocol: "WebSocket protocol", "Raw WebSocket"; RFC 6455.
"""

from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from sockjs_aio.core.inline import InlineSession
from sockjs_aio.protocol.ends import NORMAL
from sockjs_aio.protocol.framing import RAW, SOCKJS, Framing
from sockjs_aio.server.client_loss import ClientLoss, watch_loss
from sockjs_aio.server.connection_writer import ConnectionWriter
from sockjs_aio.server.service import Service
from sockjs_aio.server.websocket_handshake import (
    INVALID,
    PROTOCOL,
    agreed_protocol,
    check_handshake,
    refuse,
)
from sockjs_aio.server.websocket_reader import WebSocketReader
from sockjs_aio.server.websocket_writer import WebSocketWriter
from sockjs_aio.settings import Settings

Answer = Coroutine[Any, Any, web.StreamResponse]


def websocket(service: Service, request: web.Request) -> Answer:
    """Serve SockJS frames over a WebSocket."""
    return _serve(service, request, "websocket", SOCKJS)


def raw_websocket(service: Service, request: web.Request) -> Answer:
    """Serve plain messages, without frames, over a WebSocket."""
    return _serve(service, request, "rawwebsocket", RAW)


async def _serve(
    service: Service, request: web.Request, transport: str, framing: Framing
) -> web.StreamResponse:
    # local variables stay in memory as long as the session: keep them few
    if (refusal := check_handshake(request, service.settings.protocols)) is not None:
        return refusal
    identity = await service.admission.admit(request)
    protocol = agreed_protocol(request, service.settings.protocols)
    session = service.open_inline_session(request, transport, framing, identity, protocol)
    socket = Socket(service.settings, protocol)
    writer = _writer(service, request, framing, session, socket)
    reader = WebSocketReader(session, socket, writer, service.settings.max_messages)
    try:
        session.attach(writer)
        writer.open(await socket.prepare(request))
        watch_loss(request, session.writer_changed)
        await session.live(writer, reader.read, ClientLoss(request))
        await writer.finish(service.settings.disconnect_delay)
    except web.HTTPBadRequest:
        return refuse(INVALID)
    finally:
        session.end_now()
        session.hooks_returned()
    return socket


def _writer(
    service: Service,
    request: web.Request,
    framing: Framing,
    session: InlineSession,
    socket: "Socket",
) -> WebSocketWriter:
    settings = service.settings
    output = ConnectionWriter(request, settings, session)
    closing = service.registry.closing
    return WebSocketWriter(request, socket, output, framing, settings.heartbeat_delay, closing)


class Socket(web.WebSocketResponse):
    """A WebSocket whose control frames are written by `WebSocketWriter`, not by aiohttp."""

    def __init__(self, settings: Settings, protocol: str | None) -> None:
        super().__init__(
            protocols=() if protocol is None else (protocol,),
            autoping=False,
            autoclose=False,
            compress=settings.websocket_compression,
            max_msg_size=settings.max_message_size + 1,  # aiohttp refuses this size and larger
        )
        if protocol is not None:
            self.headers[PROTOCOL] = protocol  # aiohttp reads only the first of several headers

    async def close(self, *, code: int = NORMAL, message: bytes = b"", drain: bool = True) -> bool:
        """Do nothing.

        aiohttp would write a second close frame, wait for the answer, and keep the exception of a
        lost connection together with all frames of its traceback.
        """
        return False
