"""Relays requests to other processes, and keeps track of those that are being answered."""

import asyncio
import functools
import logging
import math

from aiohttp import web

from sockjs_aio.cluster.relay.exchanges import Exchange, Exchanges
from sockjs_aio.cluster.relay.forward import Forward, MisdirectedError
from sockjs_aio.cluster.relay.peers import (
    ExhaustedError,
    OwnerAbsentError,
    OwnerLostError,
    OwnerSilentError,
    Peer,
    Stamp,
    ask,
)
from sockjs_aio.cluster.relay.send_watch import SendWatch
from sockjs_aio.cluster.relay.session_lost import last_words
from sockjs_aio.cluster.relay.signed_header import HeaderSigner, Purpose, SignedHeader
from sockjs_aio.core.events import Observer
from sockjs_aio.server.body import IDLE_BODY_LIMIT
from sockjs_aio.server.responses import unavailable
from sockjs_aio.server.service import Service, requested_transport
from sockjs_aio.turns import in_turns

logger: logging.Logger = logging.getLogger("sockjs_aio.relay")

WARNING_INTERVAL = 60.0
"""Seconds between two warnings about missing file descriptors."""

PEER_FAILURES = (OwnerAbsentError, OwnerLostError, MisdirectedError)
"""Why another process has not answered a request; its client has got nothing yet."""


class Relay:
    """Signs and sends requests to other processes.

    Args:
        key: The secret that all processes share.
        spans_hosts: Whether the other processes may be on other hosts.  Within one host, the kernel
            closes the connections of a process that has died.  So a process that has taken a send
            and not answered has died with its session, and the send can be repeated.  A network may
            have lost only the answer; and it may tell nothing, so requests for receiving that do
            not even get heartbeats are given up, and a process that does not answer a send is asked
            whether it is there.  And only on other hosts are there processes to
            which clients can go while this one drains.
    """

    def __init__(self, key: bytes, *, spans_hosts: bool) -> None:
        self.signer: HeaderSigner = HeaderSigner(key)
        self.exchanges: Exchanges = Exchanges()
        self.is_retiring = False
        """Whether the client's connection is closed after each relayed response."""
        self.spans_hosts = spans_hosts
        self._forwards: dict[Forward, Peer] = {}
        self._next_warning = -math.inf

    async def carry(
        self, peer: Peer, purpose: Purpose, service: Service, request: web.Request
    ) -> web.StreamResponse:
        """Have another process answer a request.

        Args:
            peer: The process that answers it.
            purpose: Whether that process may relay it once more.
            service: The service that it is for.
            request: A client's request, perhaps by way of another process.

        Raises:
            OwnerAbsentError: If the other process cannot be reached.
            OwnerLostError: If it has ended, and the client has got nothing yet.
            OwnerSilentError: If it does not answer, and the client has got nothing yet.
            MisdirectedError: If it is not the intended process.
            Exception: Anything else that `Forward.run` raises.
        """
        transport = requested_transport(request)
        service.registry.events.tell(Observer.relayed, transport.name)
        receives = transport.receives
        forward = Forward(
            request,
            peer,
            self._stamp(request, peer, purpose),
            last_words=last_words(transport.name),
            body_limit=IDLE_BODY_LIMIT if receives else service.settings.max_message_size,
            silence=service.settings.heartbeat_delay,
            patience=_patience(service) if receives and self.spans_hosts else None,
            is_last=lambda: self._is_last(service),
        )
        release = functools.partial(self.ask, request, peer, Purpose.RELEASE)
        exchange = Exchange(request, service, release, is_send=not receives)
        async with self.exchanges.entered(exchange):
            self._forwards[forward] = peer
            is_watched = self.spans_hosts and not receives
            watch = self._watch(forward, request, peer, service) if is_watched else None
            try:
                repeats = forward.can_be_repeated and (receives or not self.spans_hosts)
                return await _run(forward, peer.patience if receives else 0, repeats=repeats)
            except ExhaustedError as error:
                raise self.no_room(error) from None
            finally:
                del self._forwards[forward]
                if watch is not None:
                    watch.stop()

    def cut(self, peer: Peer) -> None:
        """Stop all requests that wait for a process which has ended without closing connections."""

        def cut(forward: Forward) -> None:
            if forward in self._forwards:
                forward.cut()

        in_turns([forward for forward, to in self._forwards.items() if to is peer], cut)

    async def ask(self, request: web.Request, peer: Peer, purpose: Purpose) -> int:
        """Ask another process about the session that `request` names; return the status.

        Raises:
            OwnerSilentError: If it does not answer in time.
            OwnerLostError: If it has ended, or cannot be reached.
            ExhaustedError: If this process cannot open another connection.
        """
        return await ask(request, peer, self._stamp(request, peer, purpose))

    def no_room(self, error: ExhaustedError) -> web.HTTPException:
        """Make the refusal of a request for which this process cannot open a connection."""
        now = asyncio.get_running_loop().time()
        if now >= self._next_warning:
            self._next_warning = now + WARNING_INTERVAL
            logger.warning(
                "cannot connect to another process (%s); requests for its sessions get 503. "
                "Check the limit on open files (ulimit -n, LimitNOFILE).",
                error,
            )
        return unavailable("There are too many connections.\n")

    def _is_last(self, service: Service) -> bool:
        """Tell whether the client's connection is closed after a response that starts now."""
        return self.is_retiring or (self.spans_hosts and service.registry.closing.is_draining)

    def _watch(
        self, forward: Forward, request: web.Request, peer: Peer, service: Service
    ) -> SendWatch:
        find = functools.partial(self.ask, request, peer, Purpose.FIND)
        return SendWatch(_patience(service), find, forward.give_up)

    def _stamp(self, request: web.Request, peer: Peer, purpose: Purpose) -> Stamp:
        signed = SignedHeader(purpose, request.scheme, request.remote or "", peer.name)
        return functools.partial(self.signer.issue, signed)


def _patience(service: Service) -> float:
    """Return how long the owner may write nothing to a receiving request.

    It gets heartbeats as soon as ``authorize`` has returned.
    """
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
    except OwnerAbsentError:
        raise OwnerLostError from None
