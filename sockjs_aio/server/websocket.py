"""websocket and raw websocket: a session lives as long as its connection.

aiohttp serves the handshake, unless `direct.handshakes` does.  Then `WebSocketConnection` takes the
connection over, and the coroutine for the handshake returns.  Sections of the protocol: "WebSocket
protocol", "Raw WebSocket"; RFC 6455.
"""

from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from sockjs_aio.protocol.framing import RAW, SOCKJS, Framing
from sockjs_aio.server import aiohttp_internals
from sockjs_aio.server.direct.first_bytes import raise_failure
from sockjs_aio.server.direct.handshakes import open_door
from sockjs_aio.server.service import Service
from sockjs_aio.server.takeover import Handshake
from sockjs_aio.server.websocket_handshake import (
    agreed_compression,
    agreed_protocol,
    check_handshake,
    handshake_response,
)
from sockjs_aio.server.websocket_start import new_connection, new_writer

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
    if request.transport is not None:  # first: it is the answer to no other request
        raise_failure(request.transport)
    settings = service.settings
    if (refusal := check_handshake(request, settings.protocols)) is not None:
        return refusal
    identity = await service.admission.admit(request)
    protocol = agreed_protocol(request, settings.protocols)
    compression = agreed_compression(request) if settings.websocket_compression else None
    response = handshake_response(request, protocol, compression)
    if (connected := request.transport) is None:
        return response  # nobody gets it
    session = service.open_inline_session(request, transport, framing, identity, protocol)
    writer = new_writer(service, connected, session, framing, compression)
    session.attach(writer)
    handshake, head = Handshake(request), None
    try:
        head = await handshake.answer(response)
    finally:
        if head is None:
            session.end_now()
            session.hooks_returned()
    if head is not None:
        connection = new_connection(service, connected, session, writer, compression)
        rest = handshake.hand_over(connection)
        writer.open(head)
        if aiohttp_internals.is_paused(request):
            writer.pause()
        connection.begin(rest)
        open_door(service, request)
    return response
