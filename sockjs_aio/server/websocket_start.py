"""What a WebSocket needs from its handshake on, with aiohttp or without it."""

import asyncio

from sockjs_aio.core.websocket_session import InlineSession
from sockjs_aio.protocol.client_frames import ClientFrames, unmask
from sockjs_aio.protocol.deflate import Deflate, Deflater, Inflater
from sockjs_aio.protocol.framing import Framing
from sockjs_aio.server import aiohttp_internals
from sockjs_aio.server.service import Service
from sockjs_aio.server.websocket_connection import WebSocketConnection
from sockjs_aio.server.websocket_writer import WebSocketWriter


def new_writer(
    service: Service,
    transport: asyncio.Transport,
    session: InlineSession,
    framing: Framing,
    compression: Deflate | None,
) -> WebSocketWriter:
    """Make the writer of `session`."""
    deflater = None if compression is None else Deflater(compression)
    closing = service.registry.closing
    return WebSocketWriter(transport, service.settings, session, framing, closing, deflater)


def new_connection(
    service: Service,
    transport: asyncio.Transport,
    session: InlineSession,
    writer: WebSocketWriter,
    compression: Deflate | None,
) -> WebSocketConnection:
    """Make the protocol that `transport` gets once the handshake is answered."""
    settings = service.settings
    inflater = None if compression is None else Inflater(compression)
    frames = ClientFrames(settings.max_message_size, inflater, aiohttp_internals.unmask or unmask)
    return WebSocketConnection(transport, session, writer, frames, settings.max_messages)
