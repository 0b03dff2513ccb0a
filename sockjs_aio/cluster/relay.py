"""What stands before an application whose sessions are spread over several processes.

It is the outermost middleware.  A request for a session of another process is handed on before any
other middleware sees it; it passes those once, where its session is.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.cluster.exchange import Exchange, OwnerLost
from sockjs_aio.cluster.link import Links
from sockjs_aio.cluster.lost import answer_lost, last_words
from sockjs_aio.cluster.passport import HEADER, Passport, Purpose, request_head
from sockjs_aio.cluster.question import Question
from sockjs_aio.transports.body import IDLE_BODY_LIMIT
from sockjs_aio.transports.endpoint import Endpoint, is_valid_id, unavailable
from sockjs_aio.transports.urls import SESSION_URLS, answer, endpoint_of

START_PATIENCE = 5.0
"""Seconds that a request which may open a session waits for a process that is being restarted."""

LOOK_INTERVAL = 0.2
"""Seconds between two looks for clients that have gone, where aiohttp does not say so
(``handler_cancellation``)."""

SENDS = ("xhr_send", "jsonp_send")


class Places(Protocol):
    """Knows where sessions are."""

    def find(self, session_id: str) -> str | None:
        """Return the path of the socket of the process that has a session; None if it is here."""


class Relay:
    """Lets in what other processes hand on, and hands on what is theirs.

    Args:
        places: Tells where a session belongs.
        socket_path: Where other processes reach this one, as its socket was bound.
    """

    def __init__(self, places: Places, socket_path: str) -> None:
        self.count = 0
        """Requests that were handed on."""
        # while this process takes over from another one, or hands over to another one
        self.predecessor: str | None = None
        self.successor: str | None = None
        self.is_retiring = False
        self._places = places
        self._socket_path = socket_path
        self._links = Links()
        self._exchanges: dict[Exchange, Callable[[], Awaitable[int]]] = {}
        self._empty = asyncio.Event()
        self._look: asyncio.TimerHandle | None = None

    def install(self, app: web.Application) -> None:
        """Put it before all middlewares of `app`, which has not started."""
        app.middlewares.insert(0, self.middleware)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request, here or elsewhere."""
        endpoint = serving(request)
        if endpoint is None:
            response = await handler(request)
        elif (passport := self._passport(request)) is None:
            response = await self._place(endpoint, request, handler)
        else:
            visitor = request.clone(scheme=passport.scheme, remote=passport.remote)
            response = await self._take_in(endpoint, visitor, passport.purpose, handler)
        if self.is_retiring and not response.prepared:
            response.force_close()
        return response

    def _passport(self, request: web.Request) -> Passport | None:
        """Return what another process says of a request; None if it comes from a client."""
        transport = request.transport
        if transport is None or transport.get_extra_info("sockname") != self._socket_path:
            return None
        try:
            return Passport.decode(request.headers[HEADER])
        except (KeyError, ValueError):
            raise web.HTTPBadRequest(text="This socket is for other workers.\n") from None

    async def _place(
        self, endpoint: Endpoint, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Answer a client's request, here or elsewhere."""
        session_id = request.match_info["session_id"]
        path = self._places.find(session_id)
        if path is not None:
            return await self._send_away(endpoint, request, path, Purpose.RELAY, handler)
        return await self._settle(endpoint, request, Purpose.RELAY, handler)

    async def _take_in(
        self, endpoint: Endpoint, request: web.Request, purpose: Purpose, handler: Handler
    ) -> web.StreamResponse:
        """Answer the request of another process."""
        if purpose is Purpose.RELAY:
            return await self._settle(endpoint, request, Purpose.ANSWER, handler)
        if purpose is Purpose.ANSWER:
            return await handler(request)
        session = endpoint.registry.get(request.match_info["session_id"])
        if session is None:
            return web.Response(status=404)
        if purpose is Purpose.RELEASE:
            session.end_response()
        return web.Response(status=204)

    async def _settle(
        self, endpoint: Endpoint, request: web.Request, purpose: Purpose, handler: Handler
    ) -> web.StreamResponse:
        """Answer a request that belongs here, or, around a reload, to who was or will be here."""
        if self.predecessor is None and self.successor is None:  # as a rule
            return await handler(request)
        if endpoint.registry.get(request.match_info["session_id"]) is not None:
            return await handler(request)
        path = self.successor
        if path is None and await self._predecessor_has(request):
            path, purpose = self.predecessor, Purpose.ANSWER
        if path is None:
            return await handler(request)
        return await self._send_away(endpoint, request, path, purpose, handler)

    async def _predecessor_has(self, request: web.Request) -> bool:
        assert self.predecessor is not None
        try:
            return await self._ask(self.predecessor, request, Purpose.FIND) == 204
        except OSError:  # it has ended
            self.predecessor = None
            return False

    async def _ask(self, path: str, request: web.Request, purpose: Purpose) -> int:
        """Ask another process about the session of `request`; return its answer's status."""
        link = await self._links.get(path, 0)
        head = request_head(request, _passport(request, purpose), is_last=True, body_length=0)
        return await Question(link).ask(head)

    async def _send_away(
        self,
        endpoint: Endpoint,
        request: web.Request,
        path: str,
        purpose: Purpose,
        handler: Handler,
    ) -> web.StreamResponse:
        name = request.match_info["transport"]
        if name == "websocket" or not is_session_url(request):  # lives where it has come in
            return await handler(request)
        hand_on = functools.partial(self._hand_on, name, path, purpose)
        return await answer(endpoint, replace(SESSION_URLS[name], answer=hand_on), request)

    async def _hand_on(
        self, name: str, path: str, purpose: Purpose, endpoint: Endpoint, request: web.Request
    ) -> web.StreamResponse:
        """Have another process answer `request`; what a transport does."""
        is_send = name in SENDS
        try:
            link = await self._links.get(path, 0 if is_send else START_PATIENCE)
        except OSError:
            if is_send:
                return answer_lost(name, request)
            raise unavailable("The session's worker is being restarted.\n") from None
        limit = endpoint.settings.max_message_size if is_send else IDLE_BODY_LIMIT
        exchange = Exchange(request, link, endpoint.settings, limit, last_words(name))
        self._enter(exchange, functools.partial(self._ask, path, request, Purpose.RELEASE))
        try:
            return await exchange.run(_passport(request, purpose), is_last=self.is_retiring)
        except OwnerLost:
            return answer_lost(name, request)
        finally:
            self._leave(exchange)

    # All that are on their way.

    def _enter(self, exchange: Exchange, release: Callable[[], Awaitable[int]]) -> None:
        self.count += 1
        self._exchanges[exchange] = release
        if self._look is None:
            self._look_later()

    def _leave(self, exchange: Exchange) -> None:
        del self._exchanges[exchange]
        if not self._exchanges:
            self._empty.set()

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(LOOK_INTERVAL, self._look_around)

    def _look_around(self) -> None:
        self._look = None
        for exchange in list(self._exchanges):
            if exchange.is_left:
                exchange.let_go()
        if self._exchanges:
            self._look_later()

    async def release(self) -> None:
        """Have clients of sessions elsewhere ask anew, on other connections."""
        self.is_retiring = True
        releases = [release() for release in self._exchanges.values()]
        await asyncio.gather(*releases, return_exceptions=True)

    async def finished(self) -> None:
        """Wait until nothing is on its way."""
        while self._exchanges:
            self._empty.clear()
            await self._empty.wait()

    def close(self) -> None:
        """End the connections to other processes that nobody uses."""
        self._links.close()
        if self._look is not None:
            self._look.cancel()


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


def _passport(request: web.Request, purpose: Purpose) -> Passport:
    return Passport(purpose, request.scheme, request.remote or "")
