"""The direct lane in tests: from the first byte of a connection on, and what it answers."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import SockJSRouter
from sockjs_aio.server.client_loss import ClientConnection
from sockjs_aio.server.direct.grammar import DirectRequest
from sockjs_aio.server.direct.install import ANSWERS
from sockjs_aio.server.direct.lane import DirectLane


class _FirstBytes(asyncio.Protocol):
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
        assert isinstance(transport, asyncio.Transport)
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
        return _FirstBytes(self._server(), self._router)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


def begin_with_lanes(runner: web.BaseRunner, router: SockJSRouter) -> None:
    """Have lanes in front of all connections to `runner`, if the router's settings allow any."""
    service = router._service
    is_possible = not (service.admission.is_personal or service.settings.jsessionid)
    if is_possible and service.settings.direct_requests is not False:
        runner._server = _Server(runner.server, router)  # type: ignore[assignment]


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

    patch.setattr(DirectLane, "_answer", noting)
    return found
