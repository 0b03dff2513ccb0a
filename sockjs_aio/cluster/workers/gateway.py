"""A worker's gateway: the middleware that relays requests to the worker with their session.

It is the outermost middleware.  It relays a request before any other middleware sees it, so that
those run once, at the owner.
"""

import functools
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.cluster.relay.peers import ExhaustedError, OwnerLostError, Peer
from sockjs_aio.cluster.relay.relay import Relay, answer_question, serving, transport_of
from sockjs_aio.cluster.relay.session_lost import answer_lost
from sockjs_aio.cluster.relay.signed_header import (
    HEADER,
    Purpose,
    SignatureExpiredError,
    SignatureForgedError,
)
from sockjs_aio.cluster.workers.logs import RELAYED
from sockjs_aio.cluster.workers.session_journal import SessionJournal
from sockjs_aio.server.aiohttp_internals import guard
from sockjs_aio.server.responses import unavailable
from sockjs_aio.server.service import Service
from sockjs_aio.server.urls import Answer, answer, reaches_transport


class PredecessorGoneError(Exception):
    """The predecessor has ended, and this process has read which sessions ended there."""


class Placement(Protocol):
    """Finds the owners of sessions that this process does not have."""

    async def owner(self, session_id: str, service: Service, opens: bool) -> Peer | None:
        """Return the process that owns a session, or will once it is opened; None for this one.

        Args:
            session_id: The id of a session that this process does not have.
            service: The service that it belongs to.
            opens: Whether the request may open the session.

        Raises:
            OwnerLostError: If the owner has ended, and the session with it.
        """

    async def close(self) -> None:
        """End the connections to other processes."""


class Gateway(Relay):
    """Answers requests that other workers relay, and relays those that belong to others.

    Args:
        placement: Finds the owner of a session.
        key: The secret that all workers share.
    """

    def __init__(self, placement: Placement, key: bytes) -> None:
        super().__init__(key)
        # set during a reload: the worker that this one replaces, or that replaces it
        self.predecessor: Peer | None = None
        self._former: Peer | None = None
        self.successor: Peer | None = None
        self.journal: SessionJournal | None = None
        """Set once this worker serves: what its successors learn about its sessions."""
        self._placement = placement

    def install(self, app: web.Application) -> None:
        """Insert it before all middlewares of `app`, which must not have started yet."""
        guard(app)
        app.middlewares.insert(0, self.middleware)
        app.on_startup.append(self.join)
        app.on_cleanup.append(self._close)

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
            response = await self._place(service, request, handler)
        if self.is_retiring and not response.prepared:
            response.force_close()
        return response

    # Requests that other workers relay.

    async def _take_in(
        self, service: Service, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Answer a request from another worker."""
        try:
            signed = self.signer.verify(request)
        except SignatureExpiredError:
            late = unavailable("The session's process was blocked.\n")
            return await answer(service, None, request, _raising(late))
        except SignatureForgedError:
            return self.refuse(request)
        request[RELAYED] = True
        visitor = request.clone(scheme=signed.scheme, remote=signed.remote)
        if signed.purpose is Purpose.RELAY:
            return await self._settle(service, visitor, Purpose.ANSWER, handler)
        if signed.purpose is Purpose.ANSWER:
            return await handler(visitor)
        return answer_question(service, visitor, signed.purpose)

    # Requests from clients.

    async def _place(
        self, service: Service, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Answer or relay a client's request for a session that this worker does not have."""
        transport = transport_of(request)
        if transport.is_connection or not reaches_transport(service, request):  # not relayed
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
        """Answer a request that belongs here, or, during a reload, to predecessor or successor."""
        if self.predecessor is None and self.successor is None:  # the usual case
            return await handler(request)
        if service.registry.knows(request.match_info["session_id"]):
            return await handler(request)
        peer = self.successor
        try:
            if peer is None and await self._predecessor_has(request):
                peer, purpose = self.predecessor, Purpose.ANSWER
        except ExhaustedError as error:
            return await answer(service, None, request, _raising(self.no_room(error)))
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
            return await self.ask(request, predecessor, Purpose.FIND) == 204
        except OwnerLostError:
            await self._predecessor_ended()
            return False

    async def _predecessor_ended(self) -> None:
        await self.take_over()
        if self.predecessor is not None:  # not earlier: other requests must wait for the same
            self._former = self.predecessor  # closed later: other requests may still use it
            self.predecessor = None

    async def take_over(self) -> None:
        """Read which sessions have ended at the predecessor."""
        if self.predecessor is not None and self.journal is not None:
            await self.journal.take_over()

    async def leave_ended_ids(self) -> None:
        """Write down for the successor which sessions have ended."""
        if self.journal is not None:
            await self.take_over()
            await self.journal.finish()

    async def _send_away(
        self, service: Service, request: web.Request, peer: Peer, purpose: Purpose
    ) -> web.StreamResponse:
        hand_on = functools.partial(self._hand_on, peer, purpose)
        return await answer(service, None, request, hand_on)

    async def _hand_on(
        self, peer: Peer, purpose: Purpose, service: Service, request: web.Request
    ) -> web.StreamResponse:
        """Have another worker answer `request`; called in place of a transport."""
        transport = transport_of(request)
        patience = peer.patience if transport.receives else 0
        was_here = peer in (self.predecessor, self._former)
        try:
            return await self.carry(service, request, peer, purpose, patience)
        except OwnerLostError:
            pass
        except ConnectionRefusedError:
            if transport.receives and not was_here:
                raise unavailable("The session's process is being restarted.\n") from None
        if transport.receives and was_here:  # it ended after it had said that it knows the session
            await self._predecessor_ended()
            if service.registry.knows(request.match_info["session_id"]):
                raise PredecessorGoneError
        return await answer_lost(service, request)

    # The end.

    async def _close(self, _app: web.Application) -> None:
        self.exchanges.close()
        for peer in (self.predecessor, self._former, self.successor):
            if peer is not None:
                await peer.client.close()
        await self._placement.close()


def _raising(refusal: web.HTTPException) -> Answer:
    async def refuse(_service: Service, _request: web.Request) -> web.StreamResponse:
        raise refusal

    return refuse
