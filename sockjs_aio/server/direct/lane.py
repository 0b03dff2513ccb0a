"""The direct lane: answers the requests of open sessions without aiohttp's request machinery.

A poll that waits for a frame needs little, but aiohttp makes a request, a task, a response and a
dozen other objects for it.  So once aiohttp has served a session's request on a connection, a
protocol is put in front of aiohttp's (`asyncio.Transport.set_protocol`).  A request that
`grammar` understands, for a session of this process, is answered here.  Everything else goes
to aiohttp byte for byte, and so does what an answer here cannot be sure about: if in doubt, do
nothing and let aiohttp answer.

The lane only begins while aiohttp waits for a request and its parser is between two requests.
While the lane answers one, it holds what arrives, so that answers keep their order.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from aiohttp import HttpVersion, HttpVersion11, web

from sockjs_aio.core.request_session import RequestSession
from sockjs_aio.core.tcp import (
    Delivery,
    buffered_bytes,
    give_up_after,
    is_tls,
    pause_reading,
    plain_buffered_bytes,
    protocol_of,
    resume_reading,
)
from sockjs_aio.origins import is_allowed
from sockjs_aio.protocol.transports import TRANSPORTS
from sockjs_aio.server import aiohttp_protocol, client_loss
from sockjs_aio.server.client_loss import ClientConnection
from sockjs_aio.server.connection_writer import HIGH_WATER
from sockjs_aio.server.direct.grammar import DirectRequest, Reader
from sockjs_aio.server.headers import MAX_ORIGIN
from sockjs_aio.server.service import Service
from sockjs_aio.turns import Turn

MAX_HELD = 65536
"""Bytes to hold while a request is answered; more than that stays in the socket."""

PIECE_OVERHEAD = 64
"""Bytes that each piece of held data counts besides its own: a client may send single bytes."""

_OVER = Delivery(None)
_OVER.finish()


class Answer(Protocol):
    """Answers a session's request in the lane."""

    def __call__(
        self,
        lane: "DirectLane",
        service: Service,
        session: RequestSession,
        request: DirectRequest,
    ) -> bool:
        """Answer `request`; return False, and do nothing, if aiohttp must answer it."""
        ...


class DirectLane(asyncio.Protocol):
    """The protocol of a connection: answers what it can, and passes the rest on to aiohttp.

    Args:
        transport: The connection's transport.
        handler: aiohttp's protocol.
        client: The protocol in front of that; it gets everything that the lane does not answer.
        answers: How to answer each transport.
    """

    __slots__ = (
        "client",
        "services",
        "_transport",
        "_is_plain",
        "_handler",
        "_answers",
        "_reader",
        "_is_aligned",
        "_waiter",
        "_held",
        "_held_size",
        "_is_paused",
        "_patience",
        "_ending",
    )

    version: HttpVersion = HttpVersion11
    """The version of all requests that are answered here."""

    def __init__(
        self,
        transport: asyncio.Transport,
        handler: aiohttp_protocol.Handler,
        client: ClientConnection,
        answers: Mapping[str, Answer],
    ) -> None:
        self.client: ClientConnection = client
        self.services: Mapping[str, Service] = {}
        """The services whose requests are answered here, by prefix."""
        self._transport = transport
        self._is_plain = not is_tls(transport)
        self._handler = handler
        self._answers = answers
        self._reader = Reader()
        # whether aiohttp's parser is known to be between two requests
        self._is_aligned = False
        # while a request is answered here, and what arrives meanwhile
        self._waiter: aiohttp_protocol.Waiter | None = None
        self._held: deque[bytes] | None = None
        self._held_size = 0
        self._is_paused = False
        # what the kernel was told, see `give_up_after`
        self._patience = 0.0
        self._ending: asyncio.Task[None] | None = None

    # For asyncio.

    def data_received(self, data: bytes) -> None:
        """Answer the request that `data` is, or pass it on to aiohttp."""
        if self._waiter is not None or self._held is not None:
            self._hold(data)
            return
        request = self._reader.read(data) if aiohttp_protocol.is_waiting(self._handler) else None
        if request is not None and self._is_aligned and self._answer(request):
            return
        self._patience = 0.0  # `client` restores the default
        self.client.data_received(data)
        self._is_aligned = request is not None and aiohttp_protocol.has_taken(
            self._handler, request
        )

    def eof_received(self) -> bool | None:
        """Pass it on to aiohttp."""
        return self.client.eof_received()

    def pause_writing(self) -> None:
        """Pass it on to aiohttp."""
        self.client.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on to aiohttp."""
        self.client.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on to aiohttp; `client` then tells the request that is being answered."""
        waiter, self._waiter = self._waiter, None
        self._held = None
        self._is_paused = False  # a closed TLS transport cannot be asked to read on
        if waiter is not None:
            aiohttp_protocol.give_back(self._handler, waiter)
        self.client.connection_lost(exc)

    # For handlers that aiohttp runs.

    def serve(self, prefix: str, services: Mapping[str, Service]) -> None:
        """Answer requests for sessions of a service below `prefix`, as in `services`."""
        if not self.services:
            self.services = services  # all connections of one service share it
        elif self.services.get(prefix) is not services[prefix]:
            self.services = {**self.services, prefix: services[prefix]}

    # For connections that another worker hands over.

    def begin_with(self, data: bytes) -> None:
        """Take `data` first, before which nothing has come; once aiohttp waits for a request."""
        self._is_aligned = True
        self._hold(data)
        asyncio.get_running_loop().call_soon(self._read_held)

    @property
    def has_more(self) -> bool:
        """Whether something is held behind the request that is being answered or passed on."""
        return self._held_size > 0

    def take_held(self) -> bytes:
        """Return what is held, and pass none of it on: another protocol takes the connection."""
        held, self._held, self._held_size = self._held, None, 0
        self._read_on()
        return b"".join(held or ())

    # For answers.

    def close_next(self) -> None:
        """Close the connection at `end`, as aiohttp does after a response that says so."""
        self._handler.close()

    @property
    def transport(self) -> asyncio.Transport | None:
        """The connection's transport, or None once it is lost."""
        return self._handler.transport

    @property
    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._handler.transport is None or self._transport.is_closing()

    def begin(self) -> None:
        """Hold what arrives until `end` is called."""
        self._waiter = aiohttp_protocol.borrow(self._handler)
        self.client.use(_OVER)

    def end(self) -> None:
        """The request is answered, or its connection is lost."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            aiohttp_protocol.give_back(self._handler, waiter)
            if self._held is not None:
                # not now: the session that has just been served may not be ready for a request
                asyncio.get_running_loop().call_soon(self._read_held)

    def write(self, data: bytes) -> None:
        """Write `data`; the caller has made sure that the connection is not closing."""
        self._transport.write(data)

    def respond(self, data: bytes) -> None:
        """Answer a request for which `begin` was not called."""
        self.client.use(_OVER)
        self._transport.write(data)
        if self._is_congested():
            self.begin()
            self._end_later(self.end)
        else:
            aiohttp_protocol.count_request(self._handler)

    def finish(self, then: Callable[[], None]) -> None:
        """Call `then` once most of what was written has left, or the connection is lost."""
        if self._is_congested():
            self._end_later(then)
        else:
            then()

    def give_up_after(self, seconds: float) -> None:
        """See `core.tcp`; the next request that aiohttp gets ends this."""
        if seconds != self._patience:
            self._patience = seconds
            give_up_after(self._transport, seconds)

    def writer(self) -> aiohttp_protocol.Writer:
        """Make aiohttp's writer, which can wait until the client has taken data."""
        return aiohttp_protocol.writer_to(self._handler)

    # Inside.

    def _answer(self, request: DirectRequest) -> bool:
        target = request.start.session
        if target is None:
            return False
        answer = self._answers.get(target.transport)
        service = self.services.get(target.prefix)
        if answer is None or service is None or not _is_allowed(service, target.transport, request):
            return False
        session = service.registry.get(target.session_id)
        return session is not None and answer(self, service, session, request)

    def _is_congested(self) -> bool:
        transport = self._transport
        # micro-optimisation: without TLS there is nothing else to ask
        plain = self._is_plain
        size = plain_buffered_bytes(transport) if plain else buffered_bytes(transport)
        return size > HIGH_WATER

    def _hold(self, data: bytes) -> None:
        if self._held is None:
            self._held = deque()
        self._held.append(data)
        self._held_size += len(data) + PIECE_OVERHEAD
        if self._held_size > MAX_HELD:
            self._is_paused = True
            pause_reading(self._transport)

    def _read_held(self) -> None:
        """Go on with what has arrived, in the pieces in which it came.

        Joined, some would mean something else: aiohttp drops a request that asks to close the
        connection if there is more data in the same piece.
        """
        held, self._held = self._held, None
        if not aiohttp_protocol.has_stopped_reading(self._handler):
            self._read_on()  # now: aiohttp may stop when it gets what is held
        turn = Turn()
        while held and self._waiter is None and not turn.is_over:
            # each time: the last answer may have shown that the connection is lost
            if self._transport.is_closing() or protocol_of(self._transport) is None:
                held = None  # aiohttp must not begin a request in the turn in which it hears of it
                break
            data = held.popleft()
            self._held_size -= len(data) + PIECE_OVERHEAD
            self.data_received(data)
        self._held_size = 0
        for data in held or ():
            self._hold(data)
        if self._held is not None and self._waiter is None:
            asyncio.get_running_loop().call_soon(self._read_held)

    def _read_on(self) -> None:
        if self._is_paused:
            self._is_paused = False
            resume_reading(self._transport)

    def _end_later(self, then: Callable[[], None]) -> None:
        self._ending = asyncio.get_running_loop().create_task(self._wait(then))

    async def _wait(self, then: Callable[[], None]) -> None:
        try:
            await self.writer().drain()
            if self.transport is not None:
                await Delivery(self._transport).passes_on(HIGH_WATER)
        except OSError:
            pass  # the connection is lost
        self._ending = None
        then()


def _is_allowed(service: Service, transport: str, request: DirectRequest) -> bool:
    """Tell whether aiohttp would find nothing to refuse in `request`, apart from its session."""
    row = TRANSPORTS[transport]
    origins, origin = service.settings.origins, request.fields.origin
    return (
        request.start.method == row.method
        and (service.relay is None or service.relay.is_transparent)
        and (row.switch is None or service.settings.is_enabled(row.switch))
        and (origin is None or len(origin) <= MAX_ORIGIN)
        and (
            origins == "*"
            or (origin is not None and not callable(origins) and is_allowed(origins, origin))
        )
    )


def connection_of(request: web.Request) -> ClientConnection | None:
    """Return the connection of `request`, which may have a lane; None if it is lost."""
    protocol = None if request.transport is None else protocol_of(request.transport)
    if type(protocol) is DirectLane:
        return protocol.client
    return client_loss.connection_of(request)
