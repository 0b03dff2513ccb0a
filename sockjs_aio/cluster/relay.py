"""What stands before an application whose sessions are spread over several processes.

It is the outermost middleware.  A request for a session of another process is handed on before any
other middleware sees it; it passes those once, where its session is.
"""

import asyncio
import functools
import logging
import math
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.cluster.exchanges import Exchange, Exchanges
from sockjs_aio.cluster.forward import Forward
from sockjs_aio.cluster.lost import answer_lost, last_words
from sockjs_aio.cluster.passport import HEADER, Passport, PassportForged, Passports, Purpose
from sockjs_aio.cluster.peers import OwnerLost, Peer, Stamp, ask
from sockjs_aio.transports.body import end_where_unsafe
from sockjs_aio.transports.endpoint import Endpoint, is_valid_id, plain_response, unavailable
from sockjs_aio.transports.urls import SESSION_URLS, answer, endpoint_of

logger = logging.getLogger("sockjs_aio")

SENDS = ("xhr_send", "jsonp_send")

WARNING_INTERVAL = 60.0
"""Seconds for which one warning of forged passports is enough."""


class Places(Protocol):
    """Knows where sessions are that are not here."""

    async def owner(self, session_id: str, endpoint: Endpoint, opens: bool) -> Peer | None:
        """Return the process that has a session, or is to have it; None if it is this one.

        Args:
            session_id: Of a session that this process has not got.
            endpoint: The service.
            opens: Whether the request that asks for it may open it.

        Raises:
            OwnerLost: If that process has ended, and the session with it.
        """

    async def close(self) -> None:
        """End the connections to other processes."""


class Relay:
    """Lets in what other processes hand on, and hands on what is theirs.

    Args:
        places: Tells where a session belongs.
        key: A secret of all processes.
    """

    def __init__(self, places: Places, key: bytes) -> None:
        self.exchanges = Exchanges()
        # while this process takes over from another one, or hands over to another one
        self.predecessor: Peer | None = None
        self.successor: Peer | None = None
        self.is_retiring = False
        """Whether clients are to come by other connections: each ends with its next response."""
        self._places = places
        self._passports = Passports(key)
        self._next_warning = -math.inf

    def install(self, app: web.Application) -> None:
        """Put it before all middlewares of `app`, which has not started."""
        app.middlewares.insert(0, self.middleware)
        app.on_cleanup.append(self._close)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request, here or elsewhere."""
        endpoint = serving(request)
        if endpoint is None:
            response = await handler(request)
        elif HEADER in request.headers:
            response = await self._take_in(endpoint, request, handler)
        elif endpoint.registry.get(request.match_info["session_id"]) is not None:
            response = await handler(request)
        else:
            response = await self._place(endpoint, request, handler)
        if self.is_retiring and not response.prepared:
            response.force_close()
        return response

    # What other processes hand on.

    async def _take_in(
        self, endpoint: Endpoint, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Answer the request of another process."""
        try:
            passport = self._passports.verify(request)
        except PassportForged:
            return self._refuse(request)
        visitor = request.clone(scheme=passport.scheme, remote=passport.remote)
        if passport.purpose is Purpose.RELAY:
            return await self._settle(endpoint, visitor, Purpose.ANSWER, handler)
        if passport.purpose is Purpose.ANSWER:
            return await handler(visitor)
        session = endpoint.registry.get(request.match_info["session_id"])
        if session is None:
            return web.Response(status=404)
        if passport.purpose is Purpose.RELEASE:
            session.end_response()
        return web.Response(status=204)

    def _refuse(self, request: web.Request) -> web.StreamResponse:
        now = asyncio.get_running_loop().time()
        if now >= self._next_warning:
            self._next_warning = now + WARNING_INTERVAL
            logger.warning(
                "%s has sent the header %s with nothing in it that another process of this service "
                "would: somebody tries to pass for one, or their keys or clocks differ",
                request.remote or "somebody",
                HEADER,
            )
        response = plain_response(403, "This is not from another process of the service.\n")
        end_where_unsafe(request, response)
        return response

    # What comes from clients.

    async def _place(
        self, endpoint: Endpoint, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Answer a client's request for a session that is not here."""
        name = request.match_info["transport"]
        if name == "websocket" or not is_session_url(request):  # lives where it has come in
            return await handler(request)
        session_id = request.match_info["session_id"]
        try:
            peer = await self._places.owner(session_id, endpoint, opens=name not in SENDS)
        except OwnerLost:
            return await answer(endpoint, None, request, _lost)
        if peer is None:
            return await self._settle(endpoint, request, Purpose.RELAY, handler)
        return await self._send_away(endpoint, request, peer, Purpose.RELAY)

    async def _settle(
        self, endpoint: Endpoint, request: web.Request, purpose: Purpose, handler: Handler
    ) -> web.StreamResponse:
        """Answer a request that belongs here, or, around a reload, to who was or will be here."""
        if self.predecessor is None and self.successor is None:  # as a rule
            return await handler(request)
        if endpoint.registry.get(request.match_info["session_id"]) is not None:
            return await handler(request)
        peer = self.successor
        if peer is None and await self._predecessor_has(request):
            peer, purpose = self.predecessor, Purpose.ANSWER
        if peer is None:
            return await handler(request)
        return await self._send_away(endpoint, request, peer, purpose)

    async def _predecessor_has(self, request: web.Request) -> bool:
        predecessor = self.predecessor
        if predecessor is None:
            return False
        try:
            return await ask(request, predecessor, self._stamp(request, Purpose.FIND)) == 204
        except OwnerLost:  # it has ended
            self.predecessor = None
            await predecessor.client.close()
            return False

    def _stamp(self, request: web.Request, purpose: Purpose) -> Stamp:
        passport = Passport(purpose, request.scheme, request.remote or "")
        return functools.partial(self._passports.issue, passport)

    async def _send_away(
        self, endpoint: Endpoint, request: web.Request, peer: Peer, purpose: Purpose
    ) -> web.StreamResponse:
        hand_on = functools.partial(self._hand_on, peer, purpose)
        return await answer(endpoint, None, request, hand_on)

    async def _hand_on(
        self, peer: Peer, purpose: Purpose, endpoint: Endpoint, request: web.Request
    ) -> web.StreamResponse:
        """Have another process answer `request`; what a transport does."""
        name = request.match_info["transport"]
        forward = Forward(
            request,
            peer,
            self._stamp(request, purpose),
            last_words=last_words(name),
            silence=endpoint.settings.heartbeat_delay,
            is_last=lambda: self.is_retiring,
        )
        release = functools.partial(ask, request, peer, self._stamp(request, Purpose.RELEASE))
        exchange = Exchange(request, endpoint, release, is_send=name in SENDS)
        async with self.exchanges.entered(exchange):
            try:
                return await _run(forward, peer, is_send=name in SENDS)
            except OwnerLost:
                return answer_lost(name, request)

    # The end.

    async def _close(self, _app: web.Application) -> None:
        self.exchanges.close()
        for peer in (self.predecessor, self.successor):
            if peer is not None:
                await peer.client.close()
        await self._places.close()


async def _run(forward: Forward, peer: Peer, *, is_send: bool) -> web.StreamResponse:
    try:
        try:
            return await forward.run(0 if is_send else peer.patience)
        except OwnerLost:
            if not forward.can_be_repeated:
                raise
        # it may have ended a connection that nobody has used for long, or have a successor; what
        # comes twice is taken once: if it has died its sessions have, too
        return await forward.run(0)
    except ConnectionRefusedError:
        if is_send or forward.was_sent:
            raise OwnerLost from None
        raise unavailable("The session's process is being restarted.\n") from None


async def _lost(_endpoint: Endpoint, request: web.Request) -> web.StreamResponse:
    return answer_lost(request.match_info["transport"], request)


def serving(request: web.Request) -> Endpoint | None:
    """Return the endpoint that answers a request which names a session."""
    if "transport" not in request.match_info:
        return None
    return endpoint_of(request.match_info.handler)


def is_session_url(request: web.Request) -> bool:
    """Tell whether a request is more than a preflight or a mistake, which any process answers."""
    _, server_id, session_id, name = request.rel_url.raw_path.rsplit("/", 3)
    return (
        request.method == SESSION_URLS[name].method
        and is_valid_id(server_id)
        and is_valid_id(session_id)
    )
