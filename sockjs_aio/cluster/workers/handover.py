"""Hands a client's connection over to the worker that has its session.

A request for a session of another worker need not be relayed: that worker can have the connection,
together with the bytes of the request, and answer as if it had accepted it.  So this stands before
aiohttp's parser.  If that is between two requests, and the next one names a session of another
worker, the connection goes there, and none of the bytes has been parsed here.  It stays there until
a request for a session of yet another worker comes.

What is read of the request decides only which worker gets it: that one parses all of it with
aiohttp, and its gateway relays it if it belongs elsewhere.  If in doubt, nothing is handed over.
"""

import asyncio
import socket
from typing import Any

from aiohttp import web

from sockjs_aio.cluster.workers import handover_links
from sockjs_aio.cluster.workers.handover_links import Intake, Link
from sockjs_aio.cluster.workers.placement import HostPlacement
from sockjs_aio.core.tcp import (
    buffered_bytes,
    extra_info,
    give_up_after,
    is_tls,
    protocol_of,
)
from sockjs_aio.protocol.transports import TRANSPORTS
from sockjs_aio.server import aiohttp_protocol
from sockjs_aio.server.aiohttp_internals import has_another
from sockjs_aio.server.direct.grammar import Reader, SessionTarget, read_target
from sockjs_aio.server.direct.install import begin_with_lane
from sockjs_aio.server.direct.lane import DirectLane
from sockjs_aio.server.service import Service, services_of

MAX_KEPT = 16384
"""Bytes of a request to keep until the next one: after a larger one, the next is relayed."""


class Handovers:
    """Hands connections over to other workers, and takes theirs.

    Args:
        placement: Knows which worker has a session.
    """

    def __init__(self, placement: HostPlacement) -> None:
        self.count: int = 0
        """How many connections were handed over so far."""
        self.taken: int = 0
        """How many connections were taken so far."""
        self.own: int = placement.own
        """The number of this worker."""
        self._placement = placement
        self._is_possible = placement.count > 1 and handover_links.is_possible()
        self._links: dict[int, Link] = {}
        self._intake = Intake(placement.handover_path(self.own), self._take)
        self._server: Any = None
        self.services: list[Service] = []
        """Those that may be asked for over connections of other workers."""
        self._beginning: set[asyncio.Task[None]] = set()

    def protocol(self, *arguments: Any, **options: Any) -> aiohttp_protocol.Handler:
        """Make the protocol of a connection, for `aiohttp_protocol.Runner`."""
        if self._is_possible:
            return MovableConnection(self, *arguments, **options)
        return aiohttp_protocol.Handler(*arguments, **options)

    def open(self, runner: web.AppRunner) -> None:
        """Take connections of other workers.

        Args:
            runner: Of the application; it must be set up.
        """
        self._server = runner.server
        self.services = services_of(runner.app)
        self.reopen()

    def close_intake(self) -> None:
        """Take no more connections: this worker drains, or ends."""
        self._intake.close()

    def reopen(self) -> None:
        """Take connections again."""
        if self._is_possible:
            self._intake.open()

    def close(self) -> None:
        """Hand nothing over any more."""
        for link in self._links.values():
            link.close()

    def owner(self, target: SessionTarget) -> int | None:
        """Return the number of the worker that must answer a request; None if any may."""
        transport = TRANSPORTS.get(target.transport)
        if transport is None or transport.is_connection:
            return None  # a WebSocket's session stays where it came in
        return self._placement.number(target.session_id)

    def link(self, number: int) -> Link:
        """Return the way to a worker."""
        link = self._links.get(number)
        if link is None:
            link = self._links[number] = Link(self._placement.handover_path(number))
        return link

    def _take(self, client: socket.socket, data: bytes) -> None:
        self.taken += 1
        task = asyncio.get_running_loop().create_task(self._begin(client, data))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _begin(self, client: socket.socket, data: bytes) -> None:
        protocol: MovableConnection = self._server()
        protocol.begin_with(data)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, client)
        except OSError:  # the kernel has no resources to watch it
            client.close()


class MovableConnection(aiohttp_protocol.Handler):
    """aiohttp's protocol of a client's connection, which may be handed over before a request.

    Args:
        handovers: Hands it over.
        arguments: Those of aiohttp's protocol.
        options: As well.
    """

    __slots__ = ("_handovers", "_first", "_own", "_is_aligned", "_last", "_offered", "_idle")

    def __init__(self, handovers: Handovers, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._handovers = handovers
        self._first = b""
        # the beginning of the URLs of the last session that this worker had
        self._own = b"?"
        # whether aiohttp's parser is known to be between two requests; `_last` may say that it is
        self._is_aligned = True
        self._last: tuple[bytes, aiohttp_protocol.Trace] | None = None
        # what was read while another worker is asked to take the connection
        self._offered = b""
        self._idle: aiohttp_protocol.Waiter | None = None

    def begin_with(self, data: bytes) -> None:
        """Handle `data` before anything that comes: another worker has read it."""
        self._first = data

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, with what another worker has read."""
        super().connection_made(transport)
        first, made = self._first, self.transport
        if first:
            assert made is not None, "it was just made"
            give_up_after(made, 0)  # that worker may have set a limit for an earlier response
            if begin_with_lane(self._handovers.services, made, self, first):
                asyncio.get_running_loop().call_soon(self._forget_first)
            else:
                self._forget_first()
                self._parse(first, is_waiting=True)  # whatever it is: it is not handed over again

    def data_received(self, data: bytes) -> None:
        """Hand the connection over if another worker must answer what comes; else parse it."""
        if not data:  # aiohttp itself asks its parser for more
            super().data_received(data)
            return
        is_waiting = aiohttp_protocol.is_waiting(self)
        is_own = data.startswith(self._own, data.find(b" ", 0, 8) + 1)
        if is_own or not is_waiting or data is self._first or not self._hand_over(data):
            self._parse(data, is_waiting)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, perhaps because another worker has the connection."""
        self._end_offer()
        super().connection_lost(exc)

    # See `Offer`.

    def taken(self) -> None:
        """Close this process's side of the connection, which goes on in the other one."""
        self._handovers.count += 1
        if self.transport is not None:
            self.transport.abort()

    def refused(self) -> None:
        """Go on here: the gateway relays the request."""
        data = self._offered
        if self._end_offer() and self.transport is not None:
            self.transport.resume_reading()
            self._parse(data, is_waiting=True)

    # Inside.

    def _forget_first(self) -> None:
        self._first = b""

    def _parse(self, data: bytes, is_waiting: bool) -> None:
        """Have aiohttp parse `data`, and note whether it may be just one request.

        Micro-optimisation: what comes next may never be for another worker, so whether it was one
        request is found out only then.
        """
        is_whole = is_waiting or (not has_another(self) and self._is_between_requests())
        super().data_received(data)
        self._is_aligned, self._last = False, None
        if is_whole and len(data) <= MAX_KEPT:
            trace = aiohttp_protocol.taken(self)
            self._last = None if trace is None else (data, trace)

    def _is_between_requests(self) -> bool:
        """Tell whether it is known that aiohttp's parser is between two requests."""
        if self._last is not None:
            (data, trace), self._last = self._last, None
            request = Reader().read(data)
            self._is_aligned = request is not None and aiohttp_protocol.trace_of(request) == trace
        return self._is_aligned

    def _hand_over(self, data: bytes) -> bool:
        """Offer the connection to another worker; return False if it stays here."""
        target = read_target(data)
        number = None if target is None else self._handovers.owner(target)
        if number == self._handovers.own:
            path = data.split(b" ", 2)[1].partition(b"?")[0]
            self._own = path[: path.rindex(b"/") + 1]
        if number is None or number == self._handovers.own or not self._is_between_requests():
            return False
        return self._offer(self._handovers.link(number), data)

    def _offer(self, link: Link, data: bytes) -> bool:
        transport = self.transport
        # what waits here for the client would get lost, or arrive in disorder
        if transport is None or transport.is_closing() or buffered_bytes(transport):
            return False
        client = extra_info(transport, "socket")
        lane = protocol_of(transport)
        if type(lane) is DirectLane and lane.has_more:
            return False
        if is_tls(transport) or client is None or not link.send(self, client.fileno(), data):
            return False
        transport.pause_reading()  # from now on the other worker may read it
        self._offered = data
        self._idle = aiohttp_protocol.borrow(self)
        return True

    def _end_offer(self) -> bool:
        """Return False if nothing was offered, or the server has shut down meanwhile."""
        idle, self._idle, self._offered = self._idle, None, b""
        return idle is not None and aiohttp_protocol.give_back(self, idle)
