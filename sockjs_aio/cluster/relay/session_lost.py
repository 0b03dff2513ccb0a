"""What a client gets whose session has ended with its process."""

from collections.abc import Awaitable

from aiohttp import web

from sockjs_aio.core.session import Session
from sockjs_aio.errors import SessionEndedError
from sockjs_aio.protocol.ends import INTERRUPTED
from sockjs_aio.protocol.frames import close_frame
from sockjs_aio.protocol.transports import TRANSPORTS
from sockjs_aio.server.service import Service
from sockjs_aio.server.urls import ANSWERS

FRAME = close_frame(*INTERRUPTED)


class _LostSessions(Service):
    """A service as it looks to a client whose session has ended with another process."""

    def __init__(self, service: Service) -> None:
        super().__init__(service.settings, service.registry)
        self.relay = service.relay

    async def existing_session(self, request: web.Request) -> Session | None:
        return None

    async def session(self, request: web.Request, transport: str) -> Session:
        raise SessionEndedError(FRAME)


def last_words(transport: str) -> bytes:
    """Return what a stream ends with; empty for other responses, which have not begun."""
    dress = TRANSPORTS[transport].dress
    return b"" if dress is None else dress(FRAME)


def answer_lost(service: Service, request: web.Request) -> Awaitable[web.StreamResponse]:
    """Answer a request whose response has not begun.

    Raises:
        CallbackError: If the request names no callback where it has to.
    """
    return ANSWERS[request.match_info["transport"]](_LostSessions(service), request)
