"""Notices when a client's connection is lost, and resets the socket options we set on it.

aiohttp can tell a handler that its client disconnected only by cancelling it, and only for all
handlers of an application at once (``handler_cancellation``).  We must not have the application's
own handlers cancelled half way for our sake.  Besides, a connection outlives our response: its next
request may go to the application's own URLs or, behind a proxy, come from another client.  So we
put a protocol between asyncio and aiohttp's protocol (`asyncio.Transport.set_protocol`), which
passes every event on.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from aiohttp import web

from sockjs_aio.core.tcp import (
    Delivery,
    give_up_after,
    limit_buffer,
    protocol_of,
    read_at_most,
)
from sockjs_aio.server.aiohttp_internals import has_another, has_moved_on


class ClientConnection(asyncio.Protocol):
    """A connection that carries one request after another.

    It calls `lost` when the connection is lost, after it has told aiohttp.

    Args:
        transport: Its asyncio transport.
        protocol: aiohttp's protocol.
    """

    __slots__ = ("lost", "_protocol", "_transport", "_delivery", "_is_limited")

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        read_at_most(transport)
        self.lost: Callable[[], object] | None = None
        self._protocol = protocol
        self._transport = transport
        self._delivery: Delivery | None = None
        self._is_limited = False

    def eof_received(self) -> bool | None:
        """Pass it on to aiohttp."""
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        """Pass it on to aiohttp."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on to aiohttp."""
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on to aiohttp, then call `lost`."""
        self._protocol.connection_lost(exc)
        lost, self.lost = self.lost, None
        if lost is not None:
            lost()

    def use(self, delivery: Delivery, *, is_limited: bool = False) -> None:
        """When the next request begins, stop watching `delivery` and restore the socket's defaults.

        Args:
            delivery: Watches a response for which `give_up_after` was called.
            is_limited: Whether `limit_buffer` was called too.
        """
        self.pass_on()
        self._delivery = delivery
        self._is_limited = self._is_limited or is_limited

    def pass_on(self) -> None:
        """Stop watching the last response: a pipelined request has begun, with its own options."""
        if self._delivery is not None:
            self._delivery.has_passed = self._delivery.is_finished
            self._delivery = None

    def response_ended(self, delivery: Delivery) -> None:
        """Note that the response of `delivery` has ended.

        If another request has already arrived, restore the defaults now: no new data will tell us
        when that request begins.
        """
        if self._delivery is delivery and has_another(self._protocol):
            self._take_back()

    def request_done(self, delivery: Delivery) -> None:
        """Do the same once aiohttp handles the next request or waits for it."""
        if self._delivery is delivery and has_moved_on(self._protocol):
            self._take_back()

    def data_received(self, data: bytes) -> None:
        """Restore the defaults if this begins the next request; pass the data on to aiohttp."""
        if self._delivery is not None and self._delivery.is_finished:
            self._take_back()
        self._protocol.data_received(data)

    def _take_back(self) -> None:
        if self._delivery is not None:
            self._delivery.has_passed = True
            self._delivery = None
            give_up_after(self._transport, 0)
            if self._is_limited:
                limit_buffer(self._transport, None)
                self._is_limited = False


def connection_of(request: web.Request) -> ClientConnection | None:
    """Return the connection of `request`, or None if it is lost."""
    transport = request.transport
    protocol = None if transport is None else protocol_of(transport)
    if transport is None or protocol is None:
        return None
    if type(protocol) is not ClientConnection:
        protocol = ClientConnection(transport, cast(asyncio.Protocol, protocol))
        transport.set_protocol(protocol)
    return protocol
