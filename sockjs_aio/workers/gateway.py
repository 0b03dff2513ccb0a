"""What stands before an application whose sessions are spread over several processes.

It is the outermost middleware.  A request for a session of another process is handed on before any
other middleware sees it; it passes those once, where its session is.
"""

import functools
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.connection_guard import guard
from sockjs_aio.relay.carrier import SENDS, Carrier, answer_question, serving
from sockjs_aio.relay.lost import answer_lost
from sockjs_aio.relay.passport import HEADER, PassportExpired, PassportForged, Purpose
from sockjs_aio.relay.peers import Exhausted, OwnerLost, Peer
from sockjs_aio.transports.endpoint import Endpoint, unavailable
from sockjs_aio.transports.urls import Transport, answer, reaches_transport
from sockjs_aio.workers import bequest
from sockjs_aio.workers.logs import RELAYED


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


class Gateway(Carrier):
    """Lets in what other workers hand on, and hands on what is theirs.

    Args:
        places: Tells where a session belongs.
        key: A secret of all processes.
    """

    def __init__(self, places: Places, key: bytes) -> None:
        super().__init__(key)
        # while this process takes over from another one, or hands over to another one
        self.predecessor: Peer | None = None
        self._former: Peer | None = None
        self.successor: Peer | None = None
        self.bequest_path = ""
        """Where a process that is replaced leaves what its successor has to know."""
        self._places = places
        self._app: web.Application | None = None

    def install(self, app: web.Application) -> None:
        """Put it before all middlewares of `app`, which has not started."""
        self._app = app
        guard(app)
        app.middlewares.insert(0, self.middleware)
        app.on_startup.append(self.join)
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
        except PassportExpired:
            late = unavailable("The session's process was held up.\n")
            return await answer(endpoint, None, request, _raising(late))
        except PassportForged:
            return self._refuse(request)
        request[RELAYED] = True
        visitor = request.clone(scheme=passport.scheme, remote=passport.remote)
        if passport.purpose is Purpose.RELAY:
            return await self._settle(endpoint, visitor, Purpose.ANSWER, handler)
        if passport.purpose is Purpose.ANSWER:
            return await handler(visitor)
        return answer_question(endpoint, visitor, passport.purpose)

    # What comes from clients.

    async def _place(
        self, endpoint: Endpoint, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Answer a client's request for a session that is not here."""
        name = request.match_info["transport"]
        if name == "websocket" or not reaches_transport(endpoint, request):  # stays where it is
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
        if endpoint.registry.knows(request.match_info["session_id"]):
            return await handler(request)
        peer = self.successor
        try:
            if peer is None and await self._predecessor_has(request):
                peer, purpose = self.predecessor, Purpose.ANSWER
        except Exhausted as error:
            return await answer(endpoint, None, request, _raising(self._no_room(error)))
        if peer is None:
            return await handler(request)
        return await self._send_away(endpoint, request, peer, purpose)

    async def _predecessor_has(self, request: web.Request) -> bool:
        predecessor = self.predecessor
        if predecessor is None:
            return False
        try:
            return await self._ask(request, predecessor, Purpose.FIND) == 204
        except OwnerLost:  # it has ended
            self.take_over()
            self.predecessor = None
            self._former = predecessor  # to be closed at the end: others may be asking it just now
            return False

    def take_over(self) -> None:
        """Remember which sessions of the predecessor have ended."""
        if self.predecessor is not None and self._app is not None:
            bequest.read(self._app, self.bequest_path)

    def bequeath(self) -> None:
        """Have the successor remember which sessions have ended here."""
        if self._app is not None:
            self.take_over()
            bequest.write(self._app, self.bequest_path)

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
        patience = 0 if name in SENDS else peer.patience
        try:
            return await self._carry(endpoint, request, peer, purpose, patience)
        except OwnerLost:
            return answer_lost(name, request)
        except ConnectionRefusedError:
            if name in SENDS:
                return answer_lost(name, request)
            raise unavailable("The session's process is being restarted.\n") from None

    # The end.

    async def _close(self, _app: web.Application) -> None:
        self.exchanges.close()
        for peer in (self.predecessor, self._former, self.successor):
            if peer is not None:
                await peer.client.close()
        await self._places.close()


def _raising(refusal: web.HTTPException) -> Transport:
    async def refuse(_endpoint: Endpoint, _request: web.Request) -> web.StreamResponse:
        raise refusal

    return refuse


async def _lost(_endpoint: Endpoint, request: web.Request) -> web.StreamResponse:
    return answer_lost(request.match_info["transport"], request)
