"""Where the sessions of workers are: at the worker that the placement names.

During a reload two workers have the same place: the predecessor keeps its sessions, and new ones
are the successor's.
"""

from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.cluster.relay.locator import Found, OwnerUnknownError, Place
from sockjs_aio.cluster.relay.peers import (
    OwnerAbsentError,
    OwnerLostError,
    OwnerSilentError,
    Peer,
)
from sockjs_aio.cluster.relay.relay import Relay
from sockjs_aio.cluster.relay.signed_header import Purpose
from sockjs_aio.cluster.workers.session_journal import SessionJournal
from sockjs_aio.server.service import Service, requested_transport


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


class WorkerLocator:
    """Knows which worker owns which session.

    Args:
        placement: Finds the worker that owns a session.
        relay: Asks the predecessor.
    """

    name = ""  # each worker has a socket of its own, so no other one can take its requests
    state = None

    def __init__(self, placement: Placement, relay: Relay) -> None:
        # set during a reload: the worker that this one replaces, or that replaces it
        self.predecessor: Peer | None = None
        self.successor: Peer | None = None
        self.journal: SessionJournal | None = None
        """Set once this worker serves: what its successors learn about its sessions."""
        self.placement = placement
        self._former: Peer | None = None
        self._relay = relay

    def search(
        self, service: Service, request: web.Request, purpose: Purpose | None
    ) -> "WorkerSearch":
        """See `Locator`."""
        return WorkerSearch(self, service, request, purpose)

    async def predecessor_has(self, request: web.Request) -> bool:
        """Tell whether the session that `request` names is, or was, at the predecessor.

        Raises:
            OwnerUnknownError: If it is blocked, for example by a hook, and does not answer.
            ExhaustedError: If this process cannot open a connection to ask it.
        """
        predecessor = self.predecessor
        if predecessor is None:
            return False
        try:
            return await self._relay.ask(request, predecessor, Purpose.FIND) == 204
        except OwnerSilentError as error:  # it lives, and so do its sessions
            raise OwnerUnknownError("The session's process does not answer.\n") from error
        except OwnerLostError:
            await self.predecessor_ended()
            return False

    def was_here(self, peer: Peer) -> bool:
        """Tell whether `peer` is or was the predecessor."""
        return peer in (self.predecessor, self._former)

    async def predecessor_ended(self) -> None:
        """Ask the predecessor nothing more, and remember which of its sessions have ended."""
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

    async def close(self) -> None:
        """See `Locator`."""
        for peer in (self.predecessor, self._former, self.successor):
            if peer is not None:
                await peer.client.close()
        await self.placement.close()


class WorkerSearch:
    """The search for the worker that answers one request; see `Search`."""

    __slots__ = ("purpose", "_locator", "_service", "_request", "_wanted")

    def __init__(
        self,
        locator: WorkerLocator,
        service: Service,
        request: web.Request,
        wanted: Purpose | None,
    ) -> None:
        # another worker has relayed it once, so it goes at most to predecessor or successor
        self.purpose = Purpose.RELAY if wanted is None else Purpose.ANSWER
        self._locator = locator
        self._service = service
        self._request = request
        self._wanted = wanted

    async def find(self) -> Found:
        """See `Search`."""
        locator, request = self._locator, self._request
        if self._wanted is Purpose.ANSWER:
            return Place.HERE
        if self._wanted is None:
            session_id, opens = (
                request.match_info["session_id"],
                requested_transport(request).receives,
            )
            try:
                peer = await locator.placement.owner(session_id, self._service, opens)
            except OwnerLostError:
                return Place.NOWHERE
            if peer is not None:
                return peer
        if locator.predecessor is None and locator.successor is None:  # the usual case
            return Place.HERE
        return await self._find_during_reload()

    async def _find_during_reload(self) -> Found:
        locator = self._locator
        if self._is_known():
            return Place.HERE
        if locator.successor is not None:
            return locator.successor
        if await locator.predecessor_has(self._request) and locator.predecessor is not None:
            self.purpose = Purpose.ANSWER
            return locator.predecessor
        return Place.HERE

    async def find_after(self, peer: Peer, error: Exception) -> Found:
        """See `Search`."""
        if not requested_transport(self._request).receives:
            return Place.NOWHERE
        if self._locator.was_here(peer):  # it ended after it had said that it knows the session
            await self._locator.predecessor_ended()
            return Place.HERE if self._is_known() else Place.NOWHERE
        if isinstance(error, OwnerAbsentError):
            raise OwnerUnknownError("The session's process is being restarted.\n")
        return Place.NOWHERE

    async def answer_here(self, handler: Handler) -> web.StreamResponse:
        """See `Search`."""
        return await handler(self._request)

    def _is_known(self) -> bool:
        return self._service.registry.knows(self._request.match_info["session_id"])
