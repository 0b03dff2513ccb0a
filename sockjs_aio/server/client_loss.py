"""The connection of a client's request: tells when it is lost, and takes back what we set on it.

aiohttp tells handlers that their client has gone by cancelling them, those of the whole application
or none (``handler_cancellation``); an application's own handlers must not be cancelled half way for
our sake.  And a connection lives on after our response: its next request may be the application's,
or, behind a proxy, another client's.  So this stands between asyncio and aiohttp's protocol, put
there by `asyncio.Transport.set_protocol`, and hands everything on.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web

from sockjs_aio.core.tcp import Delivery, give_up_after, limit_buffer


class _Watched(asyncio.Protocol):
    """Calls `lost` once the connection is lost, after aiohttp has been told.

    Args:
        protocol: aiohttp's.
    """

    __slots__ = ("lost", "_protocol")

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self.lost: Callable[[], object] | None = None

    def eof_received(self) -> bool | None:
        """Hand it on."""
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        """Hand it on."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Hand it on."""
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand it on, and tell."""
        self._protocol.connection_lost(exc)
        lost, self.lost = self.lost, None
        if lost is not None:
            lost()


class LossWatch(_Watched):
    """The connection of a WebSocket, which ends with it: what comes takes no detour."""

    __slots__ = ("data_received",)

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__(protocol)
        self.data_received = protocol.data_received  # type: ignore[method-assign]


class ClientConnection(_Watched):
    """A connection that requests share, one after the other.

    Args:
        transport: Its transport.
        protocol: aiohttp's.
    """

    __slots__ = ("_transport", "_delivery", "_is_limited")

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        super().__init__(protocol)
        self._transport = transport
        self._delivery: Delivery | None = None
        self._is_limited = False

    def use(self, delivery: Delivery, *, is_limited: bool = False) -> None:
        """Have `delivery` end, and defaults restored, with the first request after its response.

        Args:
            delivery: Of a response for which `give_up_after` was called.
            is_limited: Whether `limit_buffer` was called, too.
        """
        self.pass_on()
        self._delivery = delivery
        self._is_limited = self._is_limited or is_limited

    def pass_on(self) -> None:
        """Another request has begun, which came along with the last one (pipelining), and has made
        settings of its own.
        """
        if self._delivery is not None:
            self._delivery.has_passed = self._delivery.is_finished
            self._delivery = None

    def response_ended(self, delivery: Delivery) -> None:
        """The response of `delivery` has ended; if another request has come already, no data tells
        when that begins.
        """
        # aiohttp's queue of requests
        if self._delivery is delivery and getattr(self._protocol, "_messages", None):
            self._take_back()

    def request_done(self, delivery: Delivery) -> None:
        """As `response_ended`, once aiohttp has gone on to the next request, or waits for it."""
        if self._delivery is delivery and getattr(self._protocol, "_waiter", True) is None:
            self._take_back()

    def data_received(self, data: bytes) -> None:
        """Hand it on."""
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
    """Return the connection of a request; None if it is lost."""
    transport = request.transport
    if transport is None:
        return None
    protocol = transport.get_protocol()
    if type(protocol) is not ClientConnection:
        protocol = ClientConnection(transport, cast(asyncio.Protocol, protocol))
        transport.set_protocol(protocol)
    return protocol


def watch_loss(request: web.Request, lost: Callable[[], object]) -> None:
    """Call `lost` when the connection of a request, which ends with it, is lost."""
    transport = request.transport
    if transport is not None:
        protocol = transport.get_protocol()
        if type(protocol) is ClientConnection:
            protocol.pass_on()
        watch = LossWatch(cast(asyncio.Protocol, protocol))
        watch.lost = lost
        transport.set_protocol(watch)


class ClientLoss:
    """The loss of the client of `request`, as the `forgive` for hooks that run in its handler.

    aiohttp cancels ``request.task``, which passes it on to the task inside it that runs the
    handler, whereas a hook's own time-outs cancel only the inner one.
    """

    __slots__ = ("_request", "_is_forgivable")

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._is_forgivable = _can_be_told(request)

    def __call__(self) -> bool:
        """Tell, once, whether the cancellation that has come is this loss and nothing else."""
        if not self._is_forgivable or not _has_come(self._request):
            return False
        self._is_forgivable = False
        uncancel = getattr(asyncio.current_task(), "uncancel", None)
        return uncancel is None or uncancel() == 0  # one that came besides is for the hook


def _can_be_told(request: web.Request) -> bool:
    """Tell whether it will be known what a cancellation is for; if not, hooks are cancelled.

    Python 3.10 does not count them: there it is the loss's if the connection is lost, and aiohttp
    cancels at all.
    """
    if hasattr(request.task, "cancelling"):
        return True
    return getattr(getattr(request.protocol, "_manager", None), "handler_cancellation", False)


def _has_come(request: web.Request) -> bool:
    task: Any = request.task
    if hasattr(task, "cancelling"):
        return bool(task.cancelling())
    return request.transport is None
