"""What stands between a connection and aiohttp: what that must know beyond what aiohttp documents.

aiohttp's `RequestHandler` does not see the requests that the direct lane answers, or that workers
hand over with their connection.  So it would take their connection for an idle one, and end it when
its keep-alive time is over or the server shuts down.  This module makes it busy for the time of
such a request.  `tests/test_aiohttp_protocol.py` tests each assumption.
"""

import asyncio
import types
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Protocol, TypeAlias

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger, AbstractStreamWriter
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_urldispatcher import MatchedSubAppResource, PlainResource, PrefixedSubAppResource

from sockjs_aio.core.process_exit import shutting_down
from sockjs_aio.server.direct.grammar import MAX_FIELD, MAX_FIELDS, MAX_LINE, DirectRequest

Waiter: TypeAlias = asyncio.Future[None]
"""What aiohttp's task of the connection waits for: the next request."""

Handler: TypeAlias = RequestHandler
"""aiohttp's protocol of a connection."""

Writer: TypeAlias = AbstractStreamWriter
"""aiohttp's writer of a response."""

handler_of: Callable[[web.Request], Handler] = attrgetter("protocol")
"""Return aiohttp's protocol of a request's connection."""

apps_of: Callable[[web.Request], "tuple[web.Application, ...]"] = attrgetter("match_info.apps")
"""Return the application that got a request, and the sub-applications that it is for."""

# Servers.


class Runner(web.AppRunner):
    """Runs an application with a protocol of our own for each connection.

    Args:
        app: The application.
        protocol: Makes the protocol; it takes the arguments of `Handler`.
        options: As for `web.AppRunner`.
    """

    def __init__(
        self, app: web.Application, protocol: Callable[..., Handler], **options: Any
    ) -> None:
        super().__init__(app, **options)
        self._protocol = protocol

    async def _make_server(self) -> web.Server:
        return _remade(await super()._make_server(), _WorkersServer, protocol=self._protocol)


class Greeter(Protocol):
    """Makes protocols that are the first to get what comes on a connection."""

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do; if not, aiohttp makes its own protocol."""

    def greet(self, server: "Server") -> asyncio.Protocol:
        """Make the protocol of a new connection, which is like an `aiohttp_internals.Heir`."""


class Server(web.Server):
    """A server that may have something else greet its connections than aiohttp's protocol."""

    greeter: Greeter | None = None

    def __call__(self) -> Any:
        """Make the protocol of a new connection."""
        greeter = self.greeter
        if greeter is None or not greeter.is_needed:
            return self.make_handler()
        return greeter.greet(self)

    def make_handler(self) -> Handler:
        """Make aiohttp's protocol for a connection."""
        return super().__call__()

    async def shutdown(self, timeout: float | None = None) -> None:
        """Wait for requests to end, between `on_shutdown` and `on_cleanup`."""
        with shutting_down():
            await super().shutdown(timeout)


class _WorkersServer(Server):
    """Makes the protocols of `Runner`; aiohttp's gives all unknown arguments to them."""

    def __call__(self) -> Handler:
        options = dict(self._kwargs)
        make: Callable[..., Handler] = options.pop("protocol")
        return make(self, loop=self._loop, **options)


def use_own_server(app: web.Application) -> None:
    """Have `app` served by a `Server`, whatever runs it."""
    make = app._make_handler

    def make_own(**options: Any) -> web.Server:
        server = make(**options)
        return _remade(server, Server) if type(server) is web.Server else server

    # plain assignment makes aiohttp warn in debug mode about custom attributes of an application
    object.__setattr__(app, "_make_handler", make_own)


def let_shutdowns_end(app: web.Application) -> None:
    """Have exits wait for `on_shutdown` and `on_cleanup`; see also `Server.shutdown`."""
    shutdown, cleanup = app.shutdown, app.cleanup

    async def shut_down() -> None:
        with shutting_down():
            await shutdown()

    async def clean_up() -> None:
        with shutting_down():
            await cleanup()

    object.__setattr__(app, "shutdown", shut_down)
    object.__setattr__(app, "cleanup", clean_up)


def _remade(server: web.Server, kind: type[web.Server], **more: Any) -> web.Server:
    return kind(
        server.request_handler,
        request_factory=server.request_factory,
        handler_cancellation=server.handler_cancellation,
        loop=server._loop,
        **server._kwargs,
        **more,
    )


# Applications.


def is_patched(app: web.Application) -> bool:
    """Tell whether a class or a tool has replaced the method through which requests come."""
    return "_handle" in vars(app) or not _is_from("web_app.py", type(app)._handle)


def is_watched(server: web.Server) -> bool:
    """Tell whether a tool has replaced what aiohttp does between a connection and its requests."""
    handle = server.request_handler
    return (
        getattr(handle, "__func__", None) is not web.Application._handle
        or not _is_from("web_protocol.py", RequestHandler.start)
        or not _is_from("web_protocol.py", RequestHandler._handle_request)
        or not _is_from("web_protocol.py", RequestHandler.finish_response)
        or not _is_from("web_urldispatcher.py", web.UrlDispatcher.resolve)
    )


def _is_from(name: str, function: object) -> bool:
    return isinstance(function, types.FunctionType) and function.__code__.co_filename.endswith(name)


def has_own_way(app: web.Application) -> bool:
    """Tell whether code of the application decides which resource of `app` gets a request."""
    ways = [app.router, *app.router.resources()]
    return any(
        type(way).__module__ != web.UrlDispatcher.__module__ or "resolve" in vars(way)
        for way in ways
    )


def depends_on_host(resource: web.AbstractResource) -> bool:
    """Tell whether a resource is a sub-application for some hosts."""
    return isinstance(resource, MatchedSubAppResource)


def has_fixed_path(resource: web.AbstractResource) -> bool:
    """Tell whether a resource matches a single path."""
    return isinstance(resource, PlainResource)


def leads_to(resource: web.AbstractResource, apps: Sequence[web.Application]) -> bool:
    """Tell whether a resource is one of these sub-applications."""
    return isinstance(resource, PrefixedSubAppResource) and resource._app in apps


# Connections.


def writer_to(handler: RequestHandler) -> Writer:
    """Make aiohttp's writer for a connection, which can wait until the client has taken data."""
    return StreamWriter(handler, handler._loop)


AccessLog: TypeAlias = AbstractAccessLogger
"""What writes the lines of an access log."""

access_log_of: Callable[[Handler], AccessLog | None] = attrgetter("access_logger")
"""Return what writes the access log of a connection.  All connections of a server have alike ones,
which tell whether they are `enabled` now."""


def logs_access(handler: RequestHandler) -> bool:
    """Tell whether an access log has a line for each request."""
    return handler._logging_enabled


_NAMES = (
    *("_buffer_paused", "_close", "_current_request", "_force_close", "_handler_waiter"),
    *("_keepalive", "_keepalive_handle", "_loop", "_manager", "_messages"),
    *("_next_keepalive_close_time", "_process_keepalive", "_reading_paused"),
    *("_request_in_progress", "_upgraded", "_waiter"),
)


def takes(handler: RequestHandler) -> bool:
    """Tell whether there may be a lane: this aiohttp is as we know it, and its limits are not below
    those of the lane's grammar.
    """
    return (
        all(hasattr(handler, name) for name in _NAMES)
        and handler.max_line_size >= MAX_LINE
        and handler.max_field_size >= MAX_FIELD
        and handler.max_headers >= MAX_FIELDS
    )


def path_of(handler: RequestHandler) -> str:
    """Return the path of the request that aiohttp serves now, as it came.

    A middleware may have replaced the request that a handler gets.
    """
    request = handler._current_request
    return "" if request is None else request._message.path.partition("?")[0]


def is_waiting(handler: RequestHandler) -> bool:
    """Tell whether aiohttp waits for the next request, and has none."""
    waiter = handler._waiter
    return (
        waiter is not None
        and not waiter.done()
        and not handler._messages
        and not (handler._upgraded or handler._close or handler._force_close)
    )


def has_stopped_reading(handler: RequestHandler) -> bool:
    """Tell whether aiohttp leaves what comes in the socket; it reads on by itself."""
    return handler._reading_paused or handler._buffer_paused


def has_taken(handler: RequestHandler, request: DirectRequest) -> bool:
    """Tell whether what aiohttp has just got, while it was waiting, made only `request`.

    Then its parser is between two requests: nothing came before this one, and nothing is missing.
    """
    return taken(handler) == trace_of(request)


Trace: TypeAlias = tuple[str, str, int]
"""What shows that aiohttp has read the same request: method, path with query, number of headers."""


def taken(handler: RequestHandler) -> Trace | None:
    """Return the trace of the only request that aiohttp has got, and whole; otherwise None."""
    if len(handler._messages) != 1:
        return None
    message, payload = handler._messages[0]
    if not isinstance(message, RawRequestMessage) or message.should_close or not payload.is_eof():
        return None
    return message.method, message.path, len(message.raw_headers)


def trace_of(request: DirectRequest) -> Trace:
    """Return what `taken` returns if aiohttp reads the request as the lane does."""
    return request.start.method, request.start.path + request.query, request.fields.number


def borrow(handler: RequestHandler) -> Waiter:
    """Make aiohttp busy, as with a request of its own, while the direct lane answers one.

    aiohttp must be waiting.  Return what to pass to `give_back`.
    """
    waiter = handler._waiter
    assert waiter is not None, "the lane takes a connection only while aiohttp waits"
    handler._waiter = None  # a shutdown cancels it where it finds one
    handler._request_in_progress = True  # a shutdown waits for that
    handler._keepalive = False  # the timer does nothing
    return waiter


def give_back(handler: RequestHandler, waiter: Waiter) -> bool:
    """End what `borrow` began, as aiohttp ends a request.

    Return False if no further request is to be read, because the server is shutting down.
    """
    handler._request_in_progress = False
    if handler._handler_waiter is not None and not handler._handler_waiter.done():
        handler._handler_waiter.set_result(None)
    if waiter.done():  # the shutdown did not want to wait any longer
        return False
    handler._waiter = waiter
    if handler._close or handler._force_close:
        waiter.cancel()
        if handler.transport is not None:
            handler.transport.close()
        return False
    handler._keepalive = True
    count_request(handler)
    return True


def count_request(handler: RequestHandler) -> None:
    """Note that a request was answered: aiohttp counts it, and its keep-alive time begins."""
    if handler._manager is not None:
        handler._manager.requests_count += 1
    end = handler._loop.time() + handler.keepalive_timeout
    handler._next_keepalive_close_time = end
    if handler._keepalive_handle is None:
        handler._keepalive_handle = handler._loop.call_at(end, handler._process_keepalive)
