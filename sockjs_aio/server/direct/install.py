"""Puts the direct lane in front of a connection: after a request, or when it is handed over."""

import asyncio
from collections.abc import Iterable

from aiohttp import web

from sockjs_aio.core.tcp import protocol_of
from sockjs_aio.server.aiohttp_protocol import Handler, apps_of, handler_of, path_of, takes
from sockjs_aio.server.client_loss import ClientConnection
from sockjs_aio.server.direct.answers import xhr, xhr_send
from sockjs_aio.server.direct.conditions import MAX_PREFIXES, is_logged, may_answer
from sockjs_aio.server.direct.grammar import read_path
from sockjs_aio.server.direct.lane import Answer, DirectLane, connection_of
from sockjs_aio.server.direct.streaming import eventsource, xhr_streaming
from sockjs_aio.server.service import Service, requested_transport

ANSWERS: dict[str, Answer] = {
    "xhr": xhr,
    "xhr_send": xhr_send,
    "xhr_streaming": xhr_streaming,
    "eventsource": eventsource,
}
"""The transports that the lane answers."""


def open_lane(service: Service, request: web.Request) -> None:
    """Have later requests for sessions of `service` answered by the lane, if that may be.

    Call this in the handler of a session's request, which aiohttp serves.
    """
    relay = service.relay
    if service.settings.direct_requests is False:
        return
    if relay is not None and (relay.is_from_peer(request) or not relay.is_transparent):
        return
    if request.transport is None:
        return
    is_of_session = "session_id" in request.match_info
    if not is_of_session or requested_transport(request).name not in ANSWERS:
        return
    apps, handler = apps_of(request), handler_of(request)
    if apps not in service.direct:
        service.direct[apps] = {} if may_answer(service, request) else None
    services = service.direct[apps]
    if services is None or is_logged(service, handler):
        return
    target = read_path(path_of(handler))
    if target is None or (target.prefix not in services and len(services) >= MAX_PREFIXES):
        return
    services[target.prefix] = service
    protocol = protocol_of(request.transport)
    if type(protocol) is not DirectLane:
        client = connection_of(request)
        if client is None:
            return
        protocol = DirectLane(request.transport, handler, client, ANSWERS)
        request.transport.set_protocol(protocol)
    protocol.serve(target.prefix, services)


def begin_with_lane(
    services: Iterable[Service], transport: asyncio.Transport, handler: Handler, data: bytes
) -> bool:
    """Have a lane answer all requests that it can on a new connection, beginning with `data`.

    Return False, and do nothing, if it is not known that there may be one.

    Args:
        services: All services of the application.
        transport: The connection.
        handler: aiohttp's protocol, which has seen nothing yet.
        data: What has come.
    """
    lane = DirectLane(transport, handler, ClientConnection(transport, handler), ANSWERS)
    for service in services:
        if not is_logged(service, handler):
            for known in service.direct.values():
                known = known or {}
                for prefix in known:
                    lane.serve(prefix, known)
    if not lane.services or not takes(handler):
        return False
    transport.set_protocol(lane)
    lane.begin_with(data)
    return True
