"""What a client gets if its session was lost with the owner."""

from collections.abc import Awaitable

from aiohttp import web

from sockjs_aio.core.request_session import RequestSession
from sockjs_aio.errors import SessionEndedError
from sockjs_aio.protocol.ends import INTERRUPTED
from sockjs_aio.protocol.frames import close_frame
from sockjs_aio.protocol.transports import TRANSPORTS
from sockjs_aio.server.service import Service, requested_transport
from sockjs_aio.server.urls import ANSWERS

FRAME = close_frame(*INTERRUPTED)


class _LostSessions(Service):
    """A stand-in for a service, in which a session of a dead process has ended."""

    def __init__(self, service: Service) -> None:
        super().__init__(service.settings, service.registry)
        self.relay = service.relay

    async def existing_session(self, request: web.Request) -> RequestSession | None:
        return None

    async def session(self, request: web.Request, transport: str) -> RequestSession:
        raise SessionEndedError(FRAME)


def last_words(transport: str) -> bytes:
    """Return the end of a stream whose owner has died; empty for transports without streams."""
    dress = TRANSPORTS[transport].dress
    return b"" if dress is None else dress(FRAME)


def answer_lost(service: Service, request: web.Request) -> Awaitable[web.StreamResponse]:
    """Answer a request for a lost session, if its response has not begun yet.

    Raises:
        CallbackError: If the request needs a ``callback`` parameter and has no valid one.
    """
    return ANSWERS[requested_transport(request).name](_LostSessions(service), request)
