"""What stands before an application on one of several nodes: finds the node with a session.

It is the outermost middleware.  A request for a session of another node is handed on before any
other middleware sees it; it passes those once, where its session is.
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
from sockjs_aio.cluster.relay.gateway import Relay, answer_question, transport_of
from sockjs_aio.cluster.relay.peers import OwnerLostError, OwnerSilentError, make_client
from sockjs_aio.cluster.relay.session_lost import answer_lost
from sockjs_aio.cluster.relay.signed_header import HEADER, Purpose, SignatureForgedError
from sockjs_aio.server.responses import unavailable
from sockjs_aio.server.service import Service
from sockjs_aio.server.urls import answer, reaches_transport

logger = logging.getLogger("sockjs_aio")


class NobodyThereError(Exception):
    """A node has ended; nothing of a request has reached it."""


class UnreachableError(Exception):
    """A node has not ended, as far as anybody knows, and cannot be reached."""


class Gateway(Relay):
    """Lets in what other nodes hand on, and hands on what is theirs.

    Args:
        directory: Knows who has which session.
        key: A secret of all nodes.
        timeout: Seconds that a connection to a node may take to be made.
        silence: Seconds within which another node's kernel has to acknowledge something.
        expiry: Seconds after which a node that has not said that it is there has ended.
    """

    repeats_sends = False  # a network may lose the answer alone, and messages come once
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
        """Answer a request that names a session, here or elsewhere."""
        if HEADER in request.headers:
            return await self._take_in(service, request, handler)
        if not _has_to_be_found(service, request):
            return await handler(request)
        try:
            return await self._answer_somewhere(service, request, handler)
        except (DirectoryUnavailableError, UnreachableError) as error:
            if self.state == "connected":  # otherwise it has been said why
                self._rate_limited.warn("refused", "requests are refused with 503: %s", error)
            return await answer(service, None, request, _refuse)

    def check(self, name: str, record: str | None) -> None:
        """Let go of a node that has ended, as what Redis says of it tells now."""
        try:
            node = self.nodes.check(name, record, _now())
        except RecordForgedError as error:  # what is on its way to the node stays
            self._rate_limited.warn("forged", "what Redis says of a node is not used: %s", error)
        else:
            if node is not None:
                logger.warning("the node at %s has ended, or is taken for dead", node.url)
                self.cut(node)

    async def close(self) -> None:
        """End the connections to other nodes."""
        self.exchanges.close()
        await self._client.close()

    # What comes from clients.

    async def _answer_somewhere(
        self, service: Service, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Answer a request for a session that is not here, or is not as yet.

        Raises:
            DirectoryUnavailableError: If nobody knows where it is.
            UnreachableError: If that node cannot be reached.
        """
        key = self._key_of(request)
        node, is_fresh = self._owners.get(key, service.registry.now())
        if node is not None and is_fresh:
            with contextlib.suppress(NobodyThereError):  # perhaps somebody else has it by now
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
        assert resource is not None, "a handler of ours has one"
        prefix = resource.canonical.rsplit("/", 3)[0]
        return self._directory.session_key(prefix, request.match_info["session_id"])

    def _claim(
        self, service: Service, request: web.Request, key: str
    ) -> contextlib.AbstractContextManager[Claim]:
        return self.claims.use(key, service.registry, request.match_info["session_id"])

    async def _hold(self, claim: Claim, key: str) -> Owner | None:
        """Make a session this node's; return its owner if it is another node's.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        if claim.is_held:
            return None
        try:
            owner = await self._directory.find(key, claim=True)
        except DirectoryUnavailableError:
            # nothing to give up: that would grow with each opening for as long as Redis is away
            claim.is_foreign = not claim.is_held
            raise
        claim.is_held = owner is not None and owner.name == self._directory.own
        claim.is_foreign = not claim.is_held
        return None if claim.is_held else owner

    async def _open(
        self, claim: Claim, key: str, request: web.Request, service: Service, handler: Handler
    ) -> web.StreamResponse:
        """Answer a request that may open a session, which is claimed.

        If there is no room for it by now, since this node is to end, whoever asks elsewhere next is
        not to be sent here.
        """
        try:
            return await handler(request)
        finally:
            if claim.users == 1 and not claim.has_session and not _may_open(service, request):
                claim.is_held, claim.is_foreign = False, True
                with contextlib.suppress(DirectoryUnavailableError):
                    await self._directory.remove([key])

    def _node(self, owner: Owner) -> Node | None:
        """Return the node that is an owner; None if it has ended.

        Raises:
            UnreachableError: If what it says of itself is of no use.
        """
        if owner.record is None:
            return None
        try:
            return self.nodes.meet(owner.name, owner.record, _now())
        except (RecordForgedError, ValueError) as error:
            raise UnreachableError(f"what Redis says of a node is not used: {error}") from None

    # What goes to other nodes.

    async def _hand_on(
        self, service: Service, request: web.Request, node: Node, key: str
    ) -> web.StreamResponse:
        """Have a node answer.

        Raises:
            NobodyThereError: If it has ended, and the request is still here.
            UnreachableError: If it cannot be reached all the same.
            DirectoryUnavailableError: If it cannot be reached, and may have ended.
        """
        ask = functools.partial(self._ask_for_answer, node, key)
        return await answer(service, None, request, ask)

    async def _ask_for_answer(
        self, node: Node, key: str, service: Service, request: web.Request
    ) -> web.StreamResponse:
        """Do what a transport does."""
        try:
            return await self._carry(service, request, node, Purpose.ANSWER)
        except OwnerSilentError:
            await self._see_why(node, None)
            return await self._give_up(key, service, request)
        except OwnerLostError:
            return await self._give_up(key, service, request)
        except MisdirectedError:
            self._rate_limited.warn(
                "misdirected",
                "at %s is another node than the one that had a session: it has started anew, or "
                "two have the same url",
                node.url,
            )
            if not transport_of(request).receives and not keeps_body(request):
                return await self._give_up(key, service, request)
            raise NobodyThereError from None
        except ConnectionRefusedError as error:
            await self._see_why(node, error.__cause__)
            raise NobodyThereError from None

    def _is_last(self, service: Service) -> bool:
        """See `Relay`: those that pass through a node which is to end go elsewhere in time."""
        return self.is_retiring or service.registry.closing.is_draining

    async def _see_why(self, node: Node, error: BaseException | None) -> None:
        """A node cannot be reached: return if that is because it has ended."""
        cause = getattr(error, "os_error", error) or TimeoutError()
        if isinstance(cause, ConnectionRefusedError):
            self._rate_limited.warn(
                "lost", "nobody listens at %s: the node has ended, or its url is wrong", node.url
            )
        elif self.nodes.is_there(node.name, await self._directory.record_of(node.name)):
            raise UnreachableError(
                f"the node at {node.url} cannot be reached ({reason(cause)}), though it has not "
                "ended: is its url right, and may this host connect to it?"
            )

    async def _lose(self, service: Service, request: web.Request, key: str) -> web.StreamResponse:
        """Answer a request whose session has ended with its node."""

        async def give_up(service: Service, request: web.Request) -> web.StreamResponse:
            return await self._give_up(key, service, request)

        return await answer(service, None, request, give_up)

    def _give_up(
        self, key: str, service: Service, request: web.Request
    ) -> Awaitable[web.StreamResponse]:
        """Say that a session has ended.

        Redis keeps its id until the lease runs out: no late request opens it a second time.
        """
        self._owners.forget(key)
        return answer_lost(service, request)

    # What comes from other nodes.

    async def _take_in(
        self, service: Service, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Answer what another node has handed on, or says so."""
        try:
            signed = self._signer.verify(request)
        except SignatureForgedError:
            return self._refuse(request)
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
        return misdirected()  # what that node knew of it was old; nothing is handed on twice

    async def _is_elsewhere(self, key: str) -> bool:
        """Tell whether another node has a session for which a request was sent here."""
        try:
            owner = await self._directory.find(key)
        except DirectoryUnavailableError:
            return False
        return owner is not None and owner.name != self._directory.own


async def _refuse(_endpoint: Service, _request: web.Request) -> web.StreamResponse:
    raise unavailable("Sessions cannot be found at present.\n")


def _has_to_be_found(service: Service, request: web.Request) -> bool:
    """Tell whether a request is for a session that others may have."""
    return (
        service.registry.get(request.match_info["session_id"]) is None
        and not transport_of(request).is_connection  # lives where it has come in
        and reaches_transport(service, request)
    )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _may_open(service: Service, request: web.Request) -> bool:
    """Tell whether a request would open a session, if there is none, and there is room for it."""
    if not transport_of(request).receives:
        return False
    try:
        service.admission.check_room(request)
    except (web.HTTPServiceUnavailable, web.HTTPTooManyRequests):
        return False
    return True
