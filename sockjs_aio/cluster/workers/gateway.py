"""What stands before an application whose sessions are spread over several processes.

It is the outermost middleware.  A request for a session of another process is handed on before any
other middleware sees it; it passes those once, where its session is.
"""

import functools
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.cluster.relay.gateway import Relay, answer_question, serving, transport_of
from sockjs_aio.cluster.relay.peers import ExhaustedError, OwnerLostError, Peer
from sockjs_aio.cluster.relay.session_lost import answer_lost
from sockjs_aio.cluster.relay.signed_header import (
    HEADER,
    Purpose,
    SignatureExpiredError,
    SignatureForgedError,
)
from sockjs_aio.cluster.workers import ended_ids_file
from sockjs_aio.cluster.workers.logs import RELAYED
from sockjs_aio.server.aiohttp_internals import guard
from sockjs_aio.server.responses import unavailable
from sockjs_aio.server.service import Service
from sockjs_aio.server.urls import Answer, answer, reaches_transport


class PredecessorGoneError(Exception):
    """The process before this one has ended, and what it knew is known here."""


class Placement(Protocol):
    """Knows where sessions are that are not here."""

    async def owner(self, session_id: str, service: Service, opens: bool) -> Peer | None:
        """Return the process that has a session, or is to have it; None if it is this one.

        Args:
            session_id: Of a session that this process has not got.
            service: The service.
            opens: Whether the request that asks for it may open it.

        Raises:
            OwnerLostError: If that process has ended, and the session with it.
        """

    async def close(self) -> None:
        """End the connections to other processes."""


class Gateway(Relay):
    """Lets in what other workers hand on, and hands on what is theirs.

    Args:
        placement: Tells where a session belongs.
        key: A secret of all processes.
    """

    def __init__(self, placement: Placement, key: bytes) -> None:
        super().__init__(key)
        # while this process takes over from another one, or hands over to another one
        self.predecessor: Peer | None = None
        self._former: Peer | None = None
        self.successor: Peer | None = None
        self.ended_ids_path = ""
        """Where a process that is replaced leaves what its successor has to know."""
        self._placement = placement
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
        service = serving(request)
        if service is None:
            response = await handler(request)
        elif HEADER in request.headers:
            response = await self._take_in(service, request, handler)
        elif service.registry.get(request.match_info["session_id"]) is not None:
            response = await handler(request)
        else:
            response = await self._place(service, request, handler)
        if self.is_retiring and not response.prepared:
            response.force_close()
        return response

    # What other processes hand on.

    async def _take_in(
        self, service: Service, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Answer the request of another process."""
        try:
            signed = self._signer.verify(request)
        except SignatureExpiredError:
            late = unavailable("The session's process was held up.\n")
            return await answer(service, None, request, _raising(late))
        except SignatureForgedError:
            return self._refuse(request)
        request[RELAYED] = True
        visitor = request.clone(scheme=signed.scheme, remote=signed.remote)
        if signed.purpose is Purpose.RELAY:
            return await self._settle(service, visitor, Purpose.ANSWER, handler)
        if signed.purpose is Purpose.ANSWER:
            return await handler(visitor)
        return answer_question(service, visitor, signed.purpose)

    # What comes from clients.

    async def _place(
        self, service: Service, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Answer a client's request for a session that is not here."""
        transport = transport_of(request)
        if transport.is_connection or not reaches_transport(service, request):  # stays where it is
            return await handler(request)
        session_id = request.match_info["session_id"]
        try:
            peer = await self._placement.owner(session_id, service, opens=transport.receives)
        except OwnerLostError:
            return await answer(service, None, request, answer_lost)
        if peer is None:
            return await self._settle(service, request, Purpose.RELAY, handler)
        return await self._send_away(service, request, peer, Purpose.RELAY)

    async def _settle(
        self, service: Service, request: web.Request, purpose: Purpose, handler: Handler
    ) -> web.StreamResponse:
        """Answer a request that belongs here, or, around a reload, to who was or will be here."""
        if self.predecessor is None and self.successor is None:  # as a rule
            return await handler(request)
        if service.registry.knows(request.match_info["session_id"]):
            return await handler(request)
        peer = self.successor
        try:
            if peer is None and await self._predecessor_has(request):
                peer, purpose = self.predecessor, Purpose.ANSWER
        except ExhaustedError as error:
            return await answer(service, None, request, _raising(self._no_room(error)))
        if peer is None:
            return await handler(request)
        try:
            return await self._send_away(service, request, peer, purpose)
        except PredecessorGoneError:
            return await handler(request)

    async def _predecessor_has(self, request: web.Request) -> bool:
        predecessor = self.predecessor
        if predecessor is None:
            return False
        try:
            return await self._ask(request, predecessor, Purpose.FIND) == 204
        except OwnerLostError:
            self._predecessor_ended()
            return False

    def _predecessor_ended(self) -> None:
        self.take_over()
        if self.predecessor is not None:
            self._former = self.predecessor  # closed at the end: others may be asking it just now
            self.predecessor = None

    def take_over(self) -> None:
        """Remember which sessions of the predecessor have ended."""
        if self.predecessor is not None and self._app is not None:
            ended_ids_file.read(self._app, self.ended_ids_path)

    def leave_ended_ids(self) -> None:
        """Have the successor remember which sessions have ended here."""
        if self._app is not None:
            self.take_over()
            ended_ids_file.write(self._app, self.ended_ids_path)

    async def _send_away(
        self, service: Service, request: web.Request, peer: Peer, purpose: Purpose
    ) -> web.StreamResponse:
        hand_on = functools.partial(self._hand_on, peer, purpose)
        return await answer(service, None, request, hand_on)

    async def _hand_on(
        self, peer: Peer, purpose: Purpose, service: Service, request: web.Request
    ) -> web.StreamResponse:
        """Have another process answer `request`; what a transport does."""
        transport = transport_of(request)
        patience = peer.patience if transport.receives else 0
        try:
            return await self._carry(service, request, peer, purpose, patience)
        except OwnerLostError:
            return await answer_lost(service, request)
        except ConnectionRefusedError:
            if not transport.receives:
                return await answer_lost(service, request)
            if peer in (self.predecessor, self._former):  # it has ended since it was asked
                self._predecessor_ended()
                raise PredecessorGoneError from None
            raise unavailable("The session's process is being restarted.\n") from None

    # The end.

    async def _close(self, _app: web.Application) -> None:
        self.exchanges.close()
        for peer in (self.predecessor, self._former, self.successor):
            if peer is not None:
                await peer.client.close()
        await self._placement.close()


def _raising(refusal: web.HTTPException) -> Answer:
    async def refuse(_endpoint: Service, _request: web.Request) -> web.StreamResponse:
        raise refusal

    return refuse
