"""websocket and raw websocket: the session lives as long as its connection.

Sections of the protocol: "WebSocket protocol", "Raw WebSocket"; RFC 6455.
"""

import asyncio

from aiohttp import web

from sockjs_aio.close_info import LOST
from sockjs_aio.protocol.framing import RAW, SOCKJS, Framing
from sockjs_aio.session import Session
from sockjs_aio.shield import Loss
from sockjs_aio.transports.endpoint import Endpoint
from sockjs_aio.transports.handshake import INVALID, check_handshake, refuse
from sockjs_aio.transports.outlet import Outlet
from sockjs_aio.transports.websocket_reader import WebSocketReader
from sockjs_aio.transports.websocket_receiver import NORMAL, WebSocketReceiver


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
    receiver = WebSocketReceiver(
        request, socket, outlet, framing, settings.heartbeat_delay, endpoint.registry.closing
    )
    reader = WebSocketReader(session, socket, receiver, settings.max_messages)
    try:
        session.attach(receiver)
        outlet.open(await socket.prepare(request))
        session.hooks.run_inline(Loss(request))
        await _run(session, reader, receiver)
        await outlet.finish(settings.disconnect_delay)
    except web.HTTPBadRequest:
        return refuse(INVALID)
    finally:
        session.vanish()
        session.hooks_returned()
    return socket


async def _run(session: Session, reader: WebSocketReader, receiver: WebSocketReceiver) -> None:
    session.flush()
    try:
        await session.hooks.open()
        session.fail(await reader.read())
    except asyncio.CancelledError:
        receiver.abort()  # the client has gone already, or the server wants to end
    finally:
        session.fail(LOST)
        await session.hooks.finish()


class Socket(web.WebSocketResponse):
    """A WebSocket whose close frames are written by its receiver."""

    async def close(self, *, code: int = NORMAL, message: bytes = b"", drain: bool = True) -> bool:
        """Do nothing: aiohttp would write a close frame besides ours, wait for the answer, and keep
        the exception of a lost connection with all frames on the stack.
        """
        return False
