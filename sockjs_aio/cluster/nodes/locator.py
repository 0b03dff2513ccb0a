"""Where the sessions of nodes are: at the node that has claimed the id in Redis."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable

from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.brokers.redis.rate_limited_log import RateLimitedLog
from sockjs_aio.brokers.redis.replies import reason
from sockjs_aio.cluster.nodes.claim_updates import ClaimUpdates
from sockjs_aio.cluster.nodes.claims import Claim, Claims
from sockjs_aio.cluster.nodes.connector import make_connector
from sockjs_aio.cluster.nodes.directory import Directory, Owner
from sockjs_aio.cluster.nodes.node_record import RecordForgedError
from sockjs_aio.cluster.nodes.owners import KnownNodes, Node, Owners
from sockjs_aio.cluster.nodes.redis_access import DirectoryUnavailableError
from sockjs_aio.cluster.relay.forward import MisdirectedError, keeps_body
from sockjs_aio.cluster.relay.locator import Found, OwnerUnknownError, Place
from sockjs_aio.cluster.relay.peers import (
    OwnerAbsentError,
    OwnerLostError,
    OwnerSilentError,
    Peer,
    make_client,
)
from sockjs_aio.cluster.relay.signed_header import Purpose
from sockjs_aio.server.service import Service, requested_transport

logger: logging.Logger = logging.getLogger("sockjs_aio.nodes")


class UnreachableError(Exception):
    """A node cannot be reached, although it does not seem to have ended."""


class NodeLocator:
    """Knows which node owns which session.

    Args:
        directory: Finds the owners of sessions.
        key: The secret that all nodes share.
        timeout: Seconds within which a connection to another node must be made.
        silence: Seconds within which another node's kernel must acknowledge what was sent.
        expiry: Seconds after which a node that does not report is considered dead.
    """

    def __init__(
        self, directory: Directory, key: bytes, *, timeout: float, silence: float, expiry: float
    ) -> None:
        self.claims: Claims = Claims()
        self.directory = directory
        self.updates: ClaimUpdates = ClaimUpdates(directory, self.claims)
        self.owners: Owners = Owners()
        self.rate_limited: RateLimitedLog = RateLimitedLog(logger)
        self._client = make_client(make_connector(silence), timeout)
        self.nodes: KnownNodes = KnownNodes(key, expiry, self._client)

    @property
    def name(self) -> str:
        """See `Locator`."""
        return self.directory.own

    @property
    def state(self) -> str | None:
        """See `Locator`."""
        return self.directory.state

    def search(
        self, service: Service, request: web.Request, purpose: Purpose | None
    ) -> "NodeSearch":
        """See `Locator`."""
        return NodeSearch(self, service, request, is_relayed=purpose is not None)

    def check(self, name: str, record: str | None, asked: float) -> Node | None:
        """Forget a node, and return it, if by its record in Redis it has ended.

        Args:
            name: The node's name.
            record: What Redis has answered.
            asked: When it was asked, by the loop's clock.  If this process was stopped meanwhile,
                the answer may be old.
        """
        try:
            node = self.nodes.check(name, record, asked)
        except RecordForgedError as error:  # requests that already wait for the node go on
            self.rate_limited.warn("forged", "ignored a node's record in Redis: %s", error)
            return None
        if node is not None:
            logger.warning("the node at %s has ended or stopped reporting", node.url)
        return node

    def node(self, owner: Owner) -> Node | None:
        """Return the node that owns a session; None if it has ended.

        Raises:
            UnreachableError: If its record is not valid.
        """
        if owner.record is None:
            return None
        try:
            return self.nodes.meet(owner.name, owner.record, _now())
        except (RecordForgedError, ValueError) as error:
            raise UnreachableError(f"ignored a node's record in Redis: {error}") from None

    async def see_why(self, node: Peer, error: BaseException | None) -> None:
        """Find out why a node cannot be reached; return if it has ended, and raise if not.

        Raises:
            UnreachableError: If it has not ended.
            DirectoryUnavailableError: If it may have ended.
        """
        cause = getattr(error, "os_error", error) or TimeoutError()
        if isinstance(cause, ConnectionRefusedError):
            self.rate_limited.warn(
                "lost", "nothing listens at %s: the node has ended, or its url is wrong", node.url
            )
        elif self.nodes.is_there(node.name, await self.directory.record_of(node.name)):
            raise UnreachableError(
                f"the node at {node.url} cannot be reached ({reason(cause)}), but it has not "
                "ended. Check its url, and that this host may connect to it."
            )

    async def close(self) -> None:
        """See `Locator`."""
        await self._client.close()


class NodeSearch:
    """The search for the node that answers one request; see `Search`.

    A request that comes from a client goes to the node that is remembered, if Redis was asked
    recently.  If that node is not there any more, or none is remembered, Redis is asked.
    """

    purpose = Purpose.ANSWER  # a request is relayed only once

    def __init__(
        self, locator: NodeLocator, service: Service, request: web.Request, *, is_relayed: bool
    ) -> None:
        self._locator = locator
        self._service = service
        self._request = request
        self._is_relayed = is_relayed
        self._session_id: str = request.match_info["session_id"]
        self._key = locator.directory.session_key(_prefix(request), self._session_id)
        self._remembered: Node | None = None
        self._has_asked = False  # whether the second of two attempts has begun
        self._claim: Claim | None = None  # once Redis has confirmed it
        self._keeping_claim = contextlib.ExitStack()

    async def find(self) -> Found:
        """See `Search`."""
        return await self._certain(self._find_for_node() if self._is_relayed else self._find())

    async def find_after(self, peer: Peer, error: Exception) -> Found:
        """See `Search`."""
        return await self._certain(self._find_after(peer, error))

    async def answer_here(self, handler: Handler) -> web.StreamResponse:
        """See `Search`.

        If this node has claimed the session and opens none because there is no room, usually as it
        shuts down, the claim is removed from Redis, so that the client's next request is not
        relayed here.
        """
        claim = self._claim
        if claim is None:
            return await handler(self._request)
        try:
            with self._keeping_claim:
                return await handler(self._request)
        finally:
            if claim.is_held and claim.is_unused and not self._may_open():
                await self._locator.updates.give_back(claim)

    async def _certain(self, found: Awaitable[Found]) -> Found:
        try:
            return await found
        except (DirectoryUnavailableError, UnreachableError) as error:
            # the directory has already warned if Redis is down or has lost its data
            is_known = self._locator.directory.is_down or self._locator.state == "reconnecting"
            if not is_known and not self._is_relayed:
                self._locator.rate_limited.warn("refused", "requests get 503: %s", error)
            raise OwnerUnknownError("Sessions cannot be found at the moment.\n") from error

    # Requests from clients.

    async def _find(self) -> Found:
        node, is_fresh = self._locator.owners.get(self._key, self._service.registry.now())
        self._remembered = node
        if node is not None and is_fresh:
            return node
        return await self._ask()

    async def _ask(self) -> Found:
        self._has_asked = True
        try:
            owner = await (self._hold() if self._may_open() else self._owner())
            if owner is None:
                return Place.HERE
            node = self._locator.node(owner)
        except DirectoryUnavailableError:
            if self._remembered is None:
                raise
            return self._remembered
        if node is None:
            return self._lost()
        self._locator.owners.remember(self._key, node, self._service.registry.now())
        return node

    async def _owner(self) -> Owner | None:
        """Return the owner of a session that the request cannot open; None if it is this node."""
        if self._locator.claims.holds(self._key):
            return None
        owner = await self._locator.directory.find(self._key)
        return None if owner is None or owner.name == self._locator.name else owner

    async def _hold(self) -> Owner | None:
        """Claim a session for this node; return its owner if another node has it.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        registry = self._service.registry
        with contextlib.ExitStack() as keeping:
            use = self._locator.claims.use(self._key, registry, self._session_id)
            claim = keeping.enter_context(use)
            if not claim.is_held:
                asked = _now()
                try:
                    owner = await self._locator.directory.find(self._key, claim.token)
                except DirectoryUnavailableError:
                    # drop the claim: while Redis is down they would pile up, one per attempt
                    claim.is_foreign = not claim.is_held
                    raise
                if owner is None or owner.name != self._locator.name:
                    self._locator.claims.missed(claim)
                    return owner
                self._locator.claims.held(claim, asked)
            self._claim, self._keeping_claim = claim, keeping.pop_all()  # until `answer_here` ends
        return None

    async def _find_after(self, peer: Peer, error: Exception) -> Found:
        if isinstance(error, OwnerSilentError):
            await self._locator.see_why(peer, None)
            return self._lost()
        if isinstance(error, OwnerLostError):
            return self._lost()
        if isinstance(error, OwnerAbsentError):
            await self._locator.see_why(peer, error.__cause__)
        elif isinstance(error, MisdirectedError):
            self._locator.rate_limited.warn(
                "misdirected",
                "a different node than expected answers at %s: it was restarted, or two nodes "
                "have the same url",
                peer.url,
            )
            if not requested_transport(self._request).receives and not keeps_body(self._request):
                return self._lost()
        # no part of the request has reached a node that took it, and another one may own it by now
        return self._lost() if self._has_asked else await self._ask()

    def _lost(self) -> Place:
        """Say that the session has ended with its node.

        Redis keeps the id until the lease runs out, so no late request opens the session again.
        """
        self._locator.owners.forget(self._key)
        return Place.NOWHERE

    # Requests from other nodes.

    async def _find_for_node(self) -> Found:
        """Say whether the request is answered here; it is not relayed a second time."""
        if self._may_open():  # if not, the other node's information is out of date
            return Place.HERE if await self._hold() is None else Place.MISDIRECTED
        try:
            owner = await self._locator.directory.find(self._key)
        except DirectoryUnavailableError:
            return Place.HERE
        is_elsewhere = owner is not None and owner.name != self._locator.name
        return Place.MISDIRECTED if is_elsewhere else Place.HERE

    def _may_open(self) -> bool:
        """Tell whether the request may open a session here, if there is none yet."""
        if not requested_transport(self._request).receives:
            return False
        try:
            self._service.admission.check_room(self._request)
        except (web.HTTPServiceUnavailable, web.HTTPTooManyRequests):
            return False
        return True


def _prefix(request: web.Request) -> str:
    resource = request.match_info.route.resource
    assert resource is not None, "our routes have a resource"
    return resource.canonical.rsplit("/", 3)[0]


def _now() -> float:
    return asyncio.get_running_loop().time()
