"""Relays requests to other processes: what the gateways of workers and nodes have in common."""

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
"""Seconds between two warnings about forged headers, or about missing file descriptors."""


class Relay:
    """Signs and sends requests to other processes, and keeps track of them.

    Args:
        key: The secret that all processes share.
    """

    repeats_sends = True
    """Whether to repeat a send that got no answer.  On one host that is safe: an owner that took
    the messages and did not answer has died, and its session with it.
    """

    limits_silence = False
    """Whether to give up receiving requests that do not even get heartbeats.  On one host that is
    not needed: when the owner dies, the kernel closes the connection.
    """

    def __init__(self, key: bytes) -> None:
        self.exchanges = Exchanges()
        self.is_retiring = False
        """Whether each client connection is closed after its next response."""
        self._forwards: dict[Forward, Peer] = {}
        self.signer = HeaderSigner(key)
        self._next_warning = self._next_warning_of_room = -math.inf

    @property
    def state(self) -> str | None:
        """See `Relaying`."""
        return None

    async def join(self, app: web.Application) -> None:
        """Tell the services of `app` that their requests may be relayed; for ``on_startup``."""
        for service in services_of(app):
            service.relay = self

    async def carry(
        self,
        service: Service,
        request: web.Request,
        peer: Peer,
        purpose: Purpose,
        patience: float = 0,
    ) -> web.StreamResponse:
        """Have another process answer `request`.

        Args:
            service: The service that it is for.
            request: A client's request, perhaps by way of another process.
            peer: The process that answers it.
            purpose: Whether that process may relay it once more.
            patience: Seconds to wait if that process is still starting.

        Raises:
            ConnectionRefusedError: If the other process cannot be reached.
            OwnerLostError: If it has ended, and the client has got nothing yet.
            OwnerSilentError: If it does not answer, and the client has got nothing yet.
            MisdirectedError: If it is not the intended process.
            Exception: Anything else that `Forward.run` raises.
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
            is_last=lambda: self.is_last(service),
        )
        exchange = Exchange(
            request,
            service,
            functools.partial(self.ask, request, peer, Purpose.RELEASE),
            is_send=not transport.receives,
        )
        async with self.exchanges.entered(exchange):
            self._forwards[forward] = peer
            try:
                repeats = forward.can_be_repeated and (self.repeats_sends or transport.receives)
                return await _run(forward, patience, repeats=repeats)
            except ExhaustedError as error:
                raise self.no_room(error) from None
            finally:
                del self._forwards[forward]

    def cut(self, peer: Peer) -> None:
        """Stop all requests that wait for a process which has ended without closing connections."""
        for forward, to in list(self._forwards.items()):
            if to is peer:
                forward.cut()

    def no_room(self, error: ExhaustedError) -> web.HTTPException:
        """Make the refusal of a request for which this process cannot open a connection."""
        now = asyncio.get_running_loop().time()
        if now >= self._next_warning_of_room:
            self._next_warning_of_room = now + WARNING_INTERVAL
            logger.warning(
                "cannot connect to another process (%s); requests for its sessions get 503. "
                "Check the limit on open files (ulimit -n, LimitNOFILE).",
                error,
            )
        return unavailable("There are too many connections.\n")

    def is_last(self, service: Service) -> bool:
        """Tell whether clients' connections are closed after the next response."""
        return self.is_retiring

    async def ask(self, request: web.Request, peer: Peer, purpose: Purpose) -> int:
        """Ask another process about the session that `request` names; return the status."""
        return await ask(request, peer, self._stamp(request, peer, purpose))

    def _stamp(self, request: web.Request, peer: Peer, purpose: Purpose) -> Stamp:
        signed = SignedHeader(purpose, request.scheme, request.remote or "", peer.name)
        return functools.partial(self.signer.issue, signed)

    def refuse(self, request: web.Request) -> web.StreamResponse:
        """Refuse a request whose signed header is forged."""
        now = asyncio.get_running_loop().time()
        if now >= self._next_warning:
            self._next_warning = now + WARNING_INTERVAL
            logger.warning(
                "refused a request from %s: its %s header is not valid. Either it is forged, or "
                "the processes of this service have different secrets or clocks.",
                request.remote or "an unknown address",
                HEADER,
            )
        response = plain_response(403, "The Sockjs-Relay header is not valid.\n")
        end_where_unsafe(request, response)
        return response


def _patience(service: Service, transport: Transport) -> float | None:
    """Return how long the owner may write nothing; None for no limit.

    A send may wait for room in the inbox for any time.  A receiving request gets heartbeats as soon
    as ``authorize`` has returned.
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
    # Try again: the owner may only have closed an idle connection, or a successor may have taken
    # its place.  No message is delivered twice: if the owner has died, so have its sessions.
    try:
        return await forward.run(0)
    except ConnectionRefusedError:
        raise OwnerLostError from None


def answer_question(service: Service, request: web.Request, purpose: Purpose) -> web.StreamResponse:
    """Answer another process's question about a session."""
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
    """Return the service whose session a request names; None if it names no session."""
    if "transport" not in request.match_info:
        return None
    return service_of(request.match_info.handler)
