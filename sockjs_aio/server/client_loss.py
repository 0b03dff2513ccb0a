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
from typing import Any, cast

from aiohttp import web

from sockjs_aio.core.tcp import Delivery, give_up_after, limit_buffer


class _Watched(asyncio.Protocol):
    """Calls `lost` when the connection is lost, after it has told aiohttp.

    Args:
        protocol: aiohttp's protocol.
    """

    __slots__ = ("lost", "_protocol")

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self.lost: Callable[[], object] | None = None

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


class LossWatch(_Watched):
    """The connection of a WebSocket: nothing follows it, so input goes straight to aiohttp."""

    __slots__ = ("data_received",)

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__(protocol)
        self.data_received = protocol.data_received  # type: ignore[method-assign]


class ClientConnection(_Watched):
    """A connection that carries one request after another.

    Args:
        transport: Its asyncio transport.
        protocol: aiohttp's protocol.
    """

    __slots__ = ("_transport", "_delivery", "_is_limited")

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        super().__init__(protocol)
        self._transport = transport
        self._delivery: Delivery | None = None
        self._is_limited = False

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
        # aiohttp's queue of requests
        if self._delivery is delivery and getattr(self._protocol, "_messages", None):
            self._take_back()

    def request_done(self, delivery: Delivery) -> None:
        """Do the same once aiohttp handles the next request or waits for it."""
        if self._delivery is delivery and getattr(self._protocol, "_waiter", True) is None:
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
    if transport is None:
        return None
    protocol = transport.get_protocol()
    if type(protocol) is not ClientConnection:
        protocol = ClientConnection(transport, cast(asyncio.Protocol, protocol))
        transport.set_protocol(protocol)
    return protocol


def watch_loss(request: web.Request, lost: Callable[[], object]) -> None:
    """Call `lost` when the connection of `request` is lost; no other request may follow on it."""
    transport = request.transport
    if transport is not None:
        protocol = transport.get_protocol()
        if type(protocol) is ClientConnection:
            protocol.pass_on()
        watch = LossWatch(cast(asyncio.Protocol, protocol))
        watch.lost = lost
        transport.set_protocol(watch)


class ClientLoss:
    """The `forgive` callable (see `Shielded`) for hooks that run in the handler of `request`.

    When the client is lost, aiohttp cancels ``request.task``, which passes the cancellation on to
    the inner task that runs the handler.  A hook's own timeouts cancel only the inner task.
    """

    __slots__ = ("_request", "_is_forgivable")

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._is_forgivable = _can_be_told(request)

    def __call__(self) -> bool:
        """Tell whether the current cancellation only means that the client left; true only once."""
        if not self._is_forgivable or not _has_come(self._request):
            return False
        self._is_forgivable = False
        uncancel = getattr(asyncio.current_task(), "uncancel", None)
        return uncancel is None or uncancel() == 0  # any further cancellation is for the hook


def _can_be_told(request: web.Request) -> bool:
    """Tell whether we can find out why a hook is cancelled; if not, hooks are simply cancelled.

    Python 3.10 does not count cancellations.  There, a cancellation means a lost client if the
    connection is lost and aiohttp is configured to cancel handlers.
    """
    if hasattr(request.task, "cancelling"):
        return True
    return getattr(getattr(request.protocol, "_manager", None), "handler_cancellation", False)


def _has_come(request: web.Request) -> bool:
    task: Any = request.task
    if hasattr(task, "cancelling"):
        return bool(task.cancelling())
    return request.transport is None
