"""Hands requests on to other processes; what the relays of workers and of nodes have in common."""

import asyncio
import functools
import logging
import math

from aiohttp import web

from sockjs_aio.cluster.relay.exchanges import Exchange, Exchanges
from sockjs_aio.cluster.relay.forward import Forward
from sockjs_aio.cluster.relay.peers import (
    ExhaustedError,
    OwnerLostError,
    OwnerSilentError,
    Peer,
    Stamp,
    ask,
)
from sockjs_aio.cluster.relay.session_lost import last_words
from sockjs_aio.cluster.relay.signed_header import HEADER, HeaderSigner, Purpose, SignedHeader
from sockjs_aio.protocol.transports import TRANSPORTS, Transport
from sockjs_aio.server.body import IDLE_BODY_LIMIT, end_where_unsafe
from sockjs_aio.server.responses import plain_response, unavailable
from sockjs_aio.server.service import Service, service_of, services_of

logger = logging.getLogger("sockjs_aio")

WARNING_INTERVAL = 60.0
"""Seconds for which one warning of forged signer is enough."""


class Relay:
    """Knows what is on its way to other processes, and signs it.

    Args:
        key: A secret of all processes.
    """

    repeats_sends = True
    """Whether messages may be sent again that somebody may have got: whoever has got them and not
    said so has died.
    """

    limits_silence = False
    """Whether receiving requests that get not even a heartbeat are given up: those to a process of
    this host end when it does.
    """

    def __init__(self, key: bytes) -> None:
        self.exchanges = Exchanges()
        self.is_retiring = False
        """Whether clients are to come by other connections: each ends with its next response."""
        self._forwards: dict[Forward, Peer] = {}
        self._signer = HeaderSigner(key)
        self._next_warning = self._next_warning_of_room = -math.inf

    @property
    def state(self) -> str | None:
        """See `Relaying`."""
        return None

    async def join(self, app: web.Application) -> None:
        """Let the services of `app` know that requests are handed on; for ``on_startup``."""
        for service in services_of(app):
            service.relay = self

    async def _carry(
        self,
        service: Service,
        request: web.Request,
        peer: Peer,
        purpose: Purpose,
        patience: float = 0,
    ) -> web.StreamResponse:
        """Have another process answer `request`.

        Args:
            service: The service.
            request: From a client, or from another process that has not got the session either.
            peer: Who is to answer.
            purpose: What else that is to do.
            patience: Seconds to wait if it is being started.

        Raises:
            ConnectionRefusedError: If it cannot be reached.
            OwnerLostError: If it has ended, and nothing has gone to the client.
            OwnerSilentError: If it does not answer, and nothing has gone to the client.
            MisdirectedError: If it is another one.
            Exception: As `Forward.run`.
        """
        transport = transport_of(request)
        forward = Forward(
            request,
            peer,
            self._stamp(request, peer, purpose),
            last_words=last_words(transport.name),
            body_limit=IDLE_BODY_LIMIT if transport.receives else service.settings.max_message_size,
            silence=service.settings.heartbeat_delay,
            patience=_patience(service, transport) if self.limits_silence else None,
            is_last=lambda: self._is_last(service),
        )
        exchange = Exchange(
            request,
            service,
            functools.partial(self._ask, request, peer, Purpose.RELEASE),
            is_send=not transport.receives,
        )
        async with self.exchanges.entered(exchange):
            self._forwards[forward] = peer
            try:
                repeats = forward.can_be_repeated and (self.repeats_sends or transport.receives)
                return await _run(forward, patience, repeats=repeats)
            except ExhaustedError as error:
                raise self._no_room(error) from None
            finally:
                del self._forwards[forward]

    def cut(self, peer: Peer) -> None:
        """Break off what is on its way to a process that has ended without a word."""
        for forward, to in list(self._forwards.items()):
            if to is peer:
                forward.cut()

    def _no_room(self, error: ExhaustedError) -> web.HTTPException:
        """Make the refusal of a request that this process cannot hand on."""
        now = asyncio.get_running_loop().time()
        if now >= self._next_warning_of_room:
            self._next_warning_of_room = now + WARNING_INTERVAL
            logger.warning(
                "no connection to another process can be made (%s): requests for its sessions are "
                "answered 503; is the limit of open files high enough (ulimit -n, LimitNOFILE)?",
                error,
            )
        return unavailable("There are too many connections.\n")

    def _is_last(self, service: Service) -> bool:
        """Tell whether clients' connections are to end with the next response."""
        return self.is_retiring

    async def _ask(self, request: web.Request, peer: Peer, purpose: Purpose) -> int:
        return await ask(request, peer, self._stamp(request, peer, purpose))

    def _stamp(self, request: web.Request, peer: Peer, purpose: Purpose) -> Stamp:
        signed = SignedHeader(purpose, request.scheme, request.remote or "", peer.name)
        return functools.partial(self._signer.issue, signed)

    def _refuse(self, request: web.Request) -> web.StreamResponse:
        """Answer a request with a forged signed."""
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


def _patience(service: Service, transport: Transport) -> float | None:
    """Return how long the owner's process may write nothing.

    A send waits until there is room for its messages; what receives gets heartbeats, from when the
    application has let it in.
    """
    if not transport.receives:
        return None
    return 2 * service.settings.heartbeat_delay + service.settings.authorize_timeout


async def _run(forward: Forward, patience: float, *, repeats: bool) -> web.StreamResponse:
    try:
        return await forward.run(patience)
    except OwnerSilentError:
        raise
    except OwnerLostError:
        if forward.is_cut or not repeats:
            raise
    # it may have ended a connection that nobody has used for long, or have a successor; what comes
    # twice is taken once: if it has died its sessions have, too
    try:
        return await forward.run(0)
    except ConnectionRefusedError:
        raise OwnerLostError from None


def answer_question(service: Service, request: web.Request, purpose: Purpose) -> web.StreamResponse:
    """Answer what another process wants to know of a session."""
    session_id = request.match_info["session_id"]
    if purpose is Purpose.FIND:
        return web.Response(status=204 if service.registry.knows(session_id) else 404)
    session = service.registry.get(session_id)
    if session is None:
        return web.Response(status=404)
    session.end_response()
    return web.Response(status=204)


def transport_of(request: web.Request) -> Transport:
    """Return the transport of a request that names a session."""
    return TRANSPORTS[request.match_info["transport"]]


def serving(request: web.Request) -> Service | None:
    """Return the service that answers a request which names a session."""
    if "transport" not in request.match_info:
        return None
    return service_of(request.match_info.handler)
