"""The gateway: the middleware that has each request answered by the process with its session.

It is the outermost middleware.  It relays a request before any other middleware sees it, so that
those run once, at the owner.
"""

import asyncio
import functools
import logging
import math

from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.cluster.relay.forward import misdirected
from sockjs_aio.cluster.relay.locator import Locator, OwnerUnknownError, Place
from sockjs_aio.cluster.relay.peers import ExhaustedError, Peer
from sockjs_aio.cluster.relay.relay import PEER_FAILURES, Relay
from sockjs_aio.cluster.relay.session_lost import answer_lost
from sockjs_aio.cluster.relay.signed_header import (
    HEADER,
    RELAYED,
    Purpose,
    SignatureExpiredError,
    SignatureForgedError,
)
from sockjs_aio.server.body import end_where_unsafe
from sockjs_aio.server.guard import guard
from sockjs_aio.server.responses import plain_response, unavailable
from sockjs_aio.server.service import Service, requested_transport, service_of, services_of
from sockjs_aio.server.urls import Answer, answer, reaches_transport

logger: logging.Logger = logging.getLogger("sockjs_aio.relay")

WARNING_INTERVAL = 60.0
"""Seconds between two warnings about forged headers."""


class Gateway:
    """Answers requests for sessions of this process, and relays those for others.

    Args:
        locator: Knows which process owns which session.
        relay: Sends requests to other processes.
        is_alone: Whether there are no other processes.
    """

    def __init__(self, locator: Locator, relay: Relay, *, is_alone: bool = False) -> None:
        self._locator = locator
        self._relay = relay
        self._is_alone = is_alone
        self.is_retiring: bool = False
        """See `Relaying`."""
        self._next_warning = -math.inf

    @property
    def state(self) -> str | None:
        """See `Relaying`."""
        return self._locator.state

    @property
    def is_transparent(self) -> bool:
        """See `Relaying`.  Nodes must first know that their sessions are still theirs."""
        return not (self.is_retiring or self._relay.spans_hosts)

    def is_from_peer(self, request: web.Request) -> bool:
        """See `Relaying`."""
        return HEADER in request.headers

    def install(self, app: web.Application) -> None:
        """Insert it before all middlewares of `app`, which must not have started yet."""
        guard(app)
        app.middlewares.insert(0, self.middleware)
        app.on_startup.append(self.join)
        app.on_cleanup.append(self._close)

    async def join(self, app: web.Application) -> None:
        """Tell the services of `app` that their requests may be relayed; for ``on_startup``."""
        for service in services_of(app):
            service.relay = self
            service.registry.channels.is_alone = self._is_alone

    def retire(self) -> None:
        """Close each client's connection after its next response, relayed or not."""
        self.is_retiring = self._relay.is_retiring = True

    async def close(self) -> None:
        """Close the connections to other processes."""
        self._relay.exchanges.close()
        await self._locator.close()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request here, or relay it."""
        service = serving(request)
        if service is None:
            response = await handler(request)
        elif HEADER in request.headers:
            response = await self._take_in(service, request, handler)
        elif service.registry.get(request.match_info["session_id"]) is not None:
            response = await handler(request)
        else:
            response = await self._lead(service, request, handler, None)
        if self.is_retiring and not response.prepared:
            response.force_close()
        return response

    async def _take_in(
        self, service: Service, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Answer what another process has sent: a request that it relays, or a question."""
        try:
            signed = self._relay.signer.verify(request)
        except SignatureForgedError as error:
            # on one host clocks agree: it has waited here, in the socket of a blocked process
            if isinstance(error, SignatureExpiredError) and not self._relay.spans_hosts:
                late = unavailable("The session's process was blocked.\n")
                return await answer(service, requested_transport(request), request, _raising(late))
            return self._refuse(request)
        if signed.recipient != self._locator.name:
            return misdirected()
        visitor = request.clone(scheme=signed.scheme, remote=signed.remote)
        request[RELAYED] = True  # not in `visitor`, whose mapping the application sees
        if signed.purpose in (Purpose.FIND, Purpose.RELEASE):
            return _answer_question(service, visitor, signed.purpose)
        if service.registry.get(visitor.match_info["session_id"]) is not None:
            return await handler(visitor)
        return await self._lead(service, visitor, handler, signed.purpose)

    async def _lead(
        self, service: Service, request: web.Request, handler: Handler, purpose: Purpose | None
    ) -> web.StreamResponse:
        """Have a request answered, by whichever process, whose session is not here yet."""
        # a WebSocket's session stays where it came in; and what is refused is refused here
        transport = requested_transport(request)
        if transport.is_connection or not reaches_transport(service, transport, request):
            return await handler(request)
        search = self._locator.search(service, request, purpose)
        try:
            found = await search.find()
            while isinstance(found, Peer):
                carry = functools.partial(self._relay.carry, found, search.purpose)
                try:
                    return await answer(service, transport, request, carry)
                except PEER_FAILURES as error:
                    found = await search.find_after(found, error)
        except OwnerUnknownError as error:
            return await answer(service, transport, request, _raising(unavailable(str(error))))
        except ExhaustedError as error:
            return await answer(service, transport, request, _raising(self._relay.no_room(error)))
        if found is Place.HERE:
            return await search.answer_here(handler)
        if found is Place.MISDIRECTED:
            return misdirected()
        return await answer(service, transport, request, answer_lost)

    def _refuse(self, request: web.Request) -> web.StreamResponse:
        """Refuse a request whose signed header is forged."""
        now = asyncio.get_running_loop().time()
        if now >= self._next_warning:
            self._next_warning = now + WARNING_INTERVAL
            logger.warning(
                "refused a request from %s: its %s header is not valid. Either it is forged, or "
                "the processes of this service have different secrets or clocks.",
                request.remote or "an unknown address",
                HEADER,
            )
        response = plain_response(403, "The Sockjs-Relay header is not valid.\n")
        end_where_unsafe(request, response)
        return response

    async def _close(self, _app: web.Application) -> None:
        await self.close()


def serving(request: web.Request) -> Service | None:
    """Return the service whose session a request names; None if it names no session."""
    return service_of(request.match_info.handler) if "session_id" in request.match_info else None


def _answer_question(
    service: Service, request: web.Request, purpose: Purpose
) -> web.StreamResponse:
    """Answer another process's question about a session."""
    session_id = request.match_info["session_id"]
    if purpose is Purpose.FIND:
        return web.Response(status=204 if service.registry.knows(session_id) else 404)
    session = service.registry.get(session_id)
    if session is None:
        return web.Response(status=404)
    session.end_response()
    return web.Response(status=204)


def _raising(refusal: web.HTTPException) -> Answer:
    async def refuse(_service: Service, _request: web.Request) -> web.StreamResponse:
        raise refusal

    return refuse
