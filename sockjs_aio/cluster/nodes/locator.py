"""A node's gateway: the middleware that relays requests to the node with their session.

It is the outermost middleware.  It relays a request before any other middleware sees it, so that
those run once, at the owner.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable

from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.brokers.redis.rate_limited_log import RateLimitedLog
from sockjs_aio.brokers.redis.replies import reason
from sockjs_aio.cluster.nodes.claims import Claim, Claims
from sockjs_aio.cluster.nodes.connector import make_connector
from sockjs_aio.cluster.nodes.directory import Directory, DirectoryUnavailableError, Owner
from sockjs_aio.cluster.nodes.node_record import RecordForgedError
from sockjs_aio.cluster.nodes.owners import KnownNodes, Node, Owners
from sockjs_aio.cluster.relay.forward import MisdirectedError, keeps_body, misdirected
from sockjs_aio.cluster.relay.peers import OwnerLostError, OwnerSilentError, make_client
from sockjs_aio.cluster.relay.relay import Relay, answer_question, transport_of
from sockjs_aio.cluster.relay.session_lost import answer_lost
from sockjs_aio.cluster.relay.signed_header import HEADER, Purpose, SignatureForgedError
from sockjs_aio.server.responses import unavailable
from sockjs_aio.server.service import Service
from sockjs_aio.server.urls import answer, reaches_transport

logger = logging.getLogger("sockjs_aio")


class NobodyThereError(Exception):
    """A node has ended, and no part of the request has reached it."""


class UnreachableError(Exception):
    """A node cannot be reached, although it does not seem to have ended."""


class Gateway(Relay):
    """Answers requests that other nodes relay, and relays those for sessions of other nodes.

    Args:
        directory: Finds the owners of sessions.
        key: The secret that all nodes share.
        timeout: Seconds within which a connection to another node must be made.
        silence: Seconds within which another node's kernel must acknowledge what was sent.
        expiry: Seconds after which a node that does not report is considered dead.
    """

    repeats_sends = False  # the network may have lost only the answer
    limits_silence = True

    def __init__(
        self, directory: Directory, key: bytes, *, timeout: float, silence: float, expiry: float
    ) -> None:
        super().__init__(key)
        self.claims = Claims()
        self._directory = directory
        self._client = make_client(make_connector(silence), timeout)
        self.nodes = KnownNodes(key, expiry, self._client)
        self._owners = Owners()
        self._rate_limited = RateLimitedLog()

    @property
    def state(self) -> str | None:
        """See `Relaying`."""
        return self._directory.state

    async def respond(
        self, service: Service, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Answer a request that names a session, or relay it."""
        if HEADER in request.headers:
            return await self._take_in(service, request, handler)
        if not _has_to_be_found(service, request):
            return await handler(request)
        try:
            return await self._answer_somewhere(service, request, handler)
        except (DirectoryUnavailableError, UnreachableError) as error:
            if self.state == "connected":  # otherwise the directory has logged it
                self._rate_limited.warn("refused", "requests get 503: %s", error)
            return await answer(service, None, request, _refuse)

    def check(self, name: str, record: str | None) -> None:
        """Forget a node, and stop requests to it, if by its record in Redis it has ended."""
        try:
            node = self.nodes.check(name, record, _now())
        except RecordForgedError as error:  # requests that already wait for the node go on
            self._rate_limited.warn("forged", "ignored a node's record in Redis: %s", error)
        else:
            if node is not None:
                logger.warning("the node at %s has ended or stopped reporting", node.url)
                self.cut(node)

    async def close(self) -> None:
        """Close the connections to other nodes."""
        self.exchanges.close()
        await self._client.close()

    # Requests from clients.

    async def _answer_somewhere(
        self, service: Service, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Answer or relay a request for a session that this node does not have yet.

        Raises:
            DirectoryUnavailableError: If the owner cannot be found out.
            UnreachableError: If the owner cannot be reached.
        """
        key = self._key_of(request)
        node, is_fresh = self._owners.get(key, service.registry.now())
        if node is not None and is_fresh:
            with contextlib.suppress(NobodyThereError):  # another node may own it by now
                return await self._hand_on(service, request, node, key)
        try:
            if _may_open(service, request):
                with self._claim(service, request, key) as claim:
                    owner = await self._hold(claim, key)
                    if owner is None:
                        return await self._open(claim, key, request, service, handler)
            else:
                owner = None if self.claims.holds(key) else await self._directory.find(key)
                if owner is None or owner.name == self._directory.own:
                    return await handler(request)
            node = self._node(owner)
        except DirectoryUnavailableError:
            if node is None:
                raise
        else:
            if node is None:
                return await self._lose(service, request, key)
            self._owners.remember(key, node, service.registry.now())
        try:
            return await self._hand_on(service, request, node, key)
        except NobodyThereError:
            return await self._lose(service, request, key)

    def _key_of(self, request: web.Request) -> str:
        resource = request.match_info.route.resource
        assert resource is not None, "our routes have a resource"
        prefix = resource.canonical.rsplit("/", 3)[0]
        return self._directory.session_key(prefix, request.match_info["session_id"])

    def _claim(
        self, service: Service, request: web.Request, key: str
    ) -> contextlib.AbstractContextManager[Claim]:
        return self.claims.use(key, service.registry, request.match_info["session_id"])

    async def _hold(self, claim: Claim, key: str) -> Owner | None:
        """Claim a session for this node; return its owner if another node has it.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        if claim.is_held:
            return None
        try:
            owner = await self._directory.find(key, claim=True)
        except DirectoryUnavailableError:
            # drop the claim: while Redis is down they would pile up, one per attempt
            claim.is_foreign = not claim.is_held
            raise
        claim.is_held = owner is not None and owner.name == self._directory.own
        claim.is_foreign = not claim.is_held
        return None if claim.is_held else owner

    async def _open(
        self, claim: Claim, key: str, request: web.Request, service: Service, handler: Handler
    ) -> web.StreamResponse:
        """Answer a request that may open a session, which this node has claimed.

        If it opens none because there is no room, usually as this node shuts down, the claim is
        removed from Redis, so that the client's next request is not relayed here.
        """
        try:
            return await handler(request)
        finally:
            if claim.users == 1 and not claim.has_session and not _may_open(service, request):
                claim.is_held, claim.is_foreign = False, True
                with contextlib.suppress(DirectoryUnavailableError):
                    await self._directory.remove([key])

    def _node(self, owner: Owner) -> Node | None:
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

    # Requests to other nodes.

    async def _hand_on(
        self, service: Service, request: web.Request, node: Node, key: str
    ) -> web.StreamResponse:
        """Have a node answer.

        Raises:
            NobodyThereError: If it has ended, and the request can be answered elsewhere.
            UnreachableError: If it has not ended, and cannot be reached.
            DirectoryUnavailableError: If it cannot be reached, and may have ended.
        """
        ask = functools.partial(self._ask_for_answer, node, key)
        return await answer(service, None, request, ask)

    async def _ask_for_answer(
        self, node: Node, key: str, service: Service, request: web.Request
    ) -> web.StreamResponse:
        """Have a node answer; called in place of a transport."""
        try:
            return await self.carry(service, request, node, Purpose.ANSWER)
        except OwnerSilentError:
            await self._see_why(node, None)
            return await self._give_up(key, service, request)
        except OwnerLostError:
            return await self._give_up(key, service, request)
        except MisdirectedError:
            self._rate_limited.warn(
                "misdirected",
                "a different node than expected answers at %s: it was restarted, or two nodes "
                "have the same url",
                node.url,
            )
            if not transport_of(request).receives and not keeps_body(request):
                return await self._give_up(key, service, request)
            raise NobodyThereError from None
        except ConnectionRefusedError as error:
            await self._see_why(node, error.__cause__)
            raise NobodyThereError from None

    def is_last(self, service: Service) -> bool:
        """See `Relay`: a node that drains also sends clients of relayed requests elsewhere."""
        return self.is_retiring or service.registry.closing.is_draining

    async def _see_why(self, node: Node, error: BaseException | None) -> None:
        """Find out why a node cannot be reached; return if it has ended, and raise if not."""
        cause = getattr(error, "os_error", error) or TimeoutError()
        if isinstance(cause, ConnectionRefusedError):
            self._rate_limited.warn(
                "lost", "nothing listens at %s: the node has ended, or its url is wrong", node.url
            )
        elif self.nodes.is_there(node.name, await self._directory.record_of(node.name)):
            raise UnreachableError(
                f"the node at {node.url} cannot be reached ({reason(cause)}), but it has not "
                "ended. Check its url, and that this host may connect to it."
            )

    async def _lose(self, service: Service, request: web.Request, key: str) -> web.StreamResponse:
        """Answer a request for a session that was lost with its node."""

        async def give_up(service: Service, request: web.Request) -> web.StreamResponse:
            return await self._give_up(key, service, request)

        return await answer(service, None, request, give_up)

    def _give_up(
        self, key: str, service: Service, request: web.Request
    ) -> Awaitable[web.StreamResponse]:
        """Tell the client that its session has ended.

        Redis keeps the id until the lease runs out, so no late request opens the session again.
        """
        self._owners.forget(key)
        return answer_lost(service, request)

    # Requests from other nodes.

    async def _take_in(
        self, service: Service, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Answer a request with a signed header, if that is valid."""
        try:
            signed = self.signer.verify(request)
        except SignatureForgedError:
            return self.refuse(request)
        if signed.recipient != self._directory.own:
            return misdirected()
        visitor = request.clone(scheme=signed.scheme, remote=signed.remote)
        if signed.purpose is not Purpose.ANSWER:
            return answer_question(service, visitor, signed.purpose)
        if not _has_to_be_found(service, visitor):
            return await handler(visitor)
        key = self._key_of(visitor)
        if not _may_open(service, visitor):
            is_elsewhere = await self._is_elsewhere(key)
            return misdirected() if is_elsewhere else await handler(visitor)
        try:
            with self._claim(service, visitor, key) as claim:
                if await self._hold(claim, key) is None:
                    return await self._open(claim, key, visitor, service, handler)
        except DirectoryUnavailableError:
            return await answer(service, None, visitor, _refuse)
        return misdirected()  # the other node's knowledge was old; a request is relayed only once

    async def _is_elsewhere(self, key: str) -> bool:
        """Tell whether another node has the session of a request that was relayed here."""
        try:
            owner = await self._directory.find(key)
        except DirectoryUnavailableError:
            return False
        return owner is not None and owner.name != self._directory.own


async def _refuse(_service: Service, _request: web.Request) -> web.StreamResponse:
    raise unavailable("Sessions cannot be found at the moment.\n")


def _has_to_be_found(service: Service, request: web.Request) -> bool:
    """Tell whether a request is for a session that another node may have."""
    return (
        service.registry.get(request.match_info["session_id"]) is None
        and not transport_of(request).is_connection  # a WebSocket's session stays where it came in
        and reaches_transport(service, request)
    )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _may_open(service: Service, request: web.Request) -> bool:
    """Tell whether a request may open a session here, if there is none yet."""
    if not transport_of(request).receives:
        return False
    try:
        service.admission.check_room(request)
    except (web.HTTPServiceUnavailable, web.HTTPTooManyRequests):
        return False
    return True
