"""The direct lane in tests: from the first byte of a connection on, and what it answers."""

import asyncio
from typing import Any, cast

import pytest
from aiohttp import web

from sockjs_aio import SockJSRouter
from sockjs_aio.server.aiohttp_protocol import Server, is_patched
from sockjs_aio.server.client_loss import ClientConnection
from sockjs_aio.server.direct.first_bytes import FirstBytes
from sockjs_aio.server.direct.grammar import DirectRequest
from sockjs_aio.server.direct.handshake_grammar import read_handshake
from sockjs_aio.server.direct.handshakes import Door, Doors
from sockjs_aio.server.direct.install import ANSWERS
from sockjs_aio.server.direct.lane import DirectLane
from sockjs_aio.server.service import Service


class _WithLane(asyncio.Protocol):
    """Puts a lane in front of a connection that has just been made."""

    def __init__(self, handler: Any, router: SockJSRouter) -> None:
        self._handler = handler
        self._router = router
        self._is_taken = False

    def begin_with(self, data: bytes) -> None:
        """See `MovableConnection`."""
        self._is_taken = True
        self._handler.begin_with(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is not derived from it
        self._handler.connection_made(transport)
        if type(transport.get_protocol()) is DirectLane:  # of a worker that has taken it
            return
        client = ClientConnection(transport, self._handler)
        lane = DirectLane(transport, self._handler, client, ANSWERS)
        lane._is_aligned = not self._is_taken  # nothing has come so far
        lane.serve(self._router.prefix, {self._router.prefix: self._router._service})
        transport.set_protocol(lane)


class _Server:
    """aiohttp's server, with a lane in front of each connection."""

    def __init__(self, server: Any, router: SockJSRouter) -> None:
        self._server = server
        self._router = router

    def __call__(self) -> asyncio.Protocol:
        protocol = self._server()
        if type(protocol) is not FirstBytes:
            return _WithLane(protocol, self._router)
        return FirstBytes(protocol.server, self._with_lane, protocol._answer)

    def _with_lane(self) -> asyncio.Protocol:
        return _WithLane(self._server.make_handler(), self._router)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


def begin_with_lanes(runner: web.AppRunner, router: SockJSRouter) -> None:
    """Have lanes in front of all connections to `runner`, if the router's settings allow any."""
    service = router._service
    if service.settings.direct_requests is False:
        return
    _open_doors(runner, service)
    if not (service.admission.is_personal or service.settings.jsessionid):
        runner._server = _Server(runner.server, router)  # type: ignore[assignment]


def _open_doors(runner: web.AppRunner, service: Service) -> None:
    """Have handshakes answered without aiohttp, as if one of each kind had been served already."""
    server, app = runner.server, runner.app
    is_observed = bool(app.middlewares) or len(app.on_response_prepare) > 1 or is_patched(app)
    if type(server) is not Server or is_observed or service.admission.needs_request:
        return
    door = Door(service, app, None)
    server.greeter = doors = Doors()
    doors.is_needed = True
    if service.settings.is_enabled("websocket"):
        doors._sessions[service.prefix] = door
    if service.settings.is_enabled("rawwebsocket"):
        doors._raw[service.prefix] = door


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The transports of the requests that lanes have answered."""
    return note_answers(monkeypatch)


def note_answers(patch: pytest.MonkeyPatch) -> list[str]:
    """Have the transports of all requests noted that lanes answer, in the list returned."""
    found: list[str] = []
    answer = DirectLane._answer

    def noting(lane: DirectLane, request: DirectRequest) -> bool:
        is_answered = answer(lane, request)
        if is_answered:
            assert request.start.session is not None
            found.append(request.start.session.transport)
        return is_answered

    open_door = Doors.answer

    def noting_handshakes(doors: Doors, first: FirstBytes, data: bytes) -> bool:
        is_answered = open_door(doors, first, data)
        if is_answered:
            handshake = read_handshake(data)
            assert handshake is not None
            found.append("rawwebsocket" if handshake.session is None else "websocket")
        return is_answered

    patch.setattr(DirectLane, "_answer", noting)
    patch.setattr(Doors, "answer", noting_handshakes)
    return found
