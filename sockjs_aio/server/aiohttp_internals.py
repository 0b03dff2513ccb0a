"""Every use of aiohttp that its documentation does not promise.

When a new version of aiohttp changes what this module relies on, a test in
`tests/test_aiohttp_internals.py` fails, and says what breaks.  Nothing else in the package relies
on such things, except what `tests/test_layout.py` lists.

Micro-optimisation: where a function would cost a call for each request, there is an `attrgetter`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, ClassVar, Protocol, TypeAlias

import aiohttp
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import SERVER_SOFTWARE, HttpProcessingError, RawRequestMessage
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from multidict import istr

from sockjs_aio.core.tcp import extra_info

# Applications.

has_started: Callable[[web.Application], bool] = attrgetter("frozen")
"""Tell whether an application has started, so that it is too late to add routes."""

apps_of: Callable[[web.Request], Sequence[web.Application]] = attrgetter("match_info.apps")
"""Return the application that got a request, and the sub-applications that it is for."""


def end_after_leftovers(app: web.Application) -> None:
    """Close connections to `app` after a chunked body, or after a compressed body left unread.

    aiohttp (in all versions so far) treats the last trailer of a chunked body as a header of the
    next request.  It also spends up to 10 seconds reading the rest of a body that no handler read;
    if that body is compressed, aiohttp unpacks it without letting other tasks run.  Both affect
    every URL of an application, even where no middleware runs (``Expect``).  So this hooks into the
    place where aiohttp creates requests.
    """
    make_request = app._make_request

    def make_guarded(
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.Request:
        if message.chunked:
            message = message._replace(should_close=True)
        if message.compression:
            protocol._lingering_time = 0.0
        return make_request(message, payload, protocol, writer, task)

    # plain assignment makes aiohttp warn in debug mode about custom attributes of an application
    object.__setattr__(app, "_make_request", make_guarded)


# Requests.


def handling_task(request: web.Request) -> "asyncio.Future[object]":
    """Return aiohttp's task that handles `request` and writes the response.

    That may not be the current task: a middleware may run its handler in a task of its own, which
    ends before the response is written (`asyncio.wait_for` before Python 3.12, `asyncio.shield`).
    aiohttp's task is the one that the connection's task waits for, unless that has not begun to
    wait (eager tasks, Python 3.12).
    """
    waited_for = getattr(request.task, "_fut_waiter", None)
    task = waited_for if asyncio.isfuture(waited_for) else asyncio.current_task()
    assert task is not None, "a request is handled by a task"
    return task


def has_upgrade_data(request: web.Request) -> bool:
    """Tell whether `request` asks for an upgrade, and bytes have come behind it.

    aiohttp keeps them until the response, for what comes after the upgrade.  Until then it has read
    no request behind this one, but may have read this one while it handles another.
    """
    if not request._message.upgrade or request.protocol._messages:
        return False
    return bool(getattr(request.protocol, "_message_tail", b""))


class _Head(web.BaseRequest):
    """What aiohttp needs of a request to find its cookies."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers: Any = headers
        self._cache = {}


def cookies_in(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the cookies of a request with these headers, as aiohttp's ``request.cookies``."""
    return _Head(headers).cookies


def remote_of(transport: asyncio.Transport) -> str | None:
    """Return aiohttp's ``request.remote`` for requests that come over `transport`."""
    name = extra_info(transport, "peername")
    if isinstance(name, (list, tuple)):
        return str(name[0])
    return None if name is None else str(name)


def _find_names() -> dict[str, str]:
    if HttpRequestParser is HttpRequestParserPy:
        return {}
    return {str(name).lower(): str(name) for name in vars(hdrs).values() if type(name) is istr}


NAMES: Mapping[str, str] = _find_names()
"""How aiohttp's parser writes the headers that it knows, by their names in lower case.  All others
it leaves as they came."""

# Bodies of requests.

BODY_ERRORS = (web.RequestPayloadError, HttpProcessingError)
"""What the reader of a broken body gets; the second one comes from aiohttp's parser in Python."""

received: Callable[[StreamReader], int] = attrgetter("total_bytes")
"""Return how many bytes of a body have come so far, after unpacking."""


async def invite_rest(request: web.Request) -> None:
    """Write ``100 Continue``; the response has not begun with it."""
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0


def drop_rest(request: web.Request) -> None:
    """Keep aiohttp from reading the rest of a body after the response."""
    request.content.feed_eof()


def is_broken(request: web.Request) -> bool:
    """Tell whether the body of a request cannot be read."""
    return request.content.exception() is not None


# Responses.

SERVER = SERVER_SOFTWARE
"""The value of aiohttp's header ``Server``."""

ResponseWriter: TypeAlias = AbstractStreamWriter
"""Writes one response: what `web.StreamResponse.prepare` returns."""

writer_of: Callable[[web.BaseRequest], ResponseWriter] = attrgetter("writer")
"""Return the writer of the response to a request.  It writes all bytes as they are, unless it is
given a head with `write_headers`, and counts them in `output_size`."""

set_body: Callable[[web.Response, Any], None] = web.Response.body.fset  # type: ignore[attr-defined]
"""Set the body of a response whose class has another property of that name."""

set_text: Callable[[web.Response, Any], None] = web.Response.text.fset  # type: ignore[attr-defined]
"""Do the same with `text`."""


class DirectResponse(web.StreamResponse):
    """A response whose head and body may be written without aiohttp's help.

    aiohttp calls only `prepare` and `write_eof`, and reads `keep_alive` and the properties below.
    """

    _direct: ResponseWriter | None = None
    """Set, in `prepare`, if aiohttp does not write this response."""

    @property
    def prepared(self) -> bool:
        """Whether the response has started."""
        return self._direct is not None or super().prepared

    @property
    def body_length(self) -> int:
        """Number of bytes sent, including the head, as aiohttp counts them."""
        return super().body_length if self._direct is None else self._direct.output_size

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status} {self.reason}>"


# Connections.


class Heir(Protocol):
    """What aiohttp's server needs of one of its connections."""

    _task_handler: ClassVar[None]

    def close(self) -> None:
        """The server takes no new connections and requests."""

    async def shutdown(self, timeout: float | None = None) -> None:
        """End the connection: the server ends."""


def transport_of(request: web.Request) -> asyncio.Transport | None:
    """Return what aiohttp writes the response to; None if the connection is lost."""
    return request.protocol.transport


def set_transport(request: web.Request, transport: asyncio.Transport) -> None:
    """Make aiohttp write to `transport`, and close that when it is done."""
    request.protocol.transport = transport


def release(request: web.Request, heir: Heir, transport: asyncio.Transport) -> bytes:
    """Make aiohttp forget a connection; its server counts `heir` instead.

    Return what has come behind `request`, which must be a handshake with a response.  In the end,
    call ``connection_lost(heir)`` of the server (`server_of`).
    """
    handler = request.protocol
    rest = _Rest()
    handler.set_parser(rest)  # type: ignore[arg-type]
    handler.keep_alive(False)
    handler.close()  # even if a middleware answers with a response that keeps the connection
    handler._parser = None  # otherwise the two refer to each other
    server: Any = handler._manager
    server.connection_lost(handler)
    server.connection_made(heir, transport)
    return rest.data


class _Rest:
    """Gets from aiohttp what came behind a handshake, as its parser of frames would."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """The connection is lost, and its heir is told that too."""


is_paused: Callable[[web.Request], bool] = attrgetter("protocol.writing_paused")
"""Tell whether the transport of a request has asked its protocol to write no more."""

server_of: Callable[[web.Request], Any] = attrgetter("protocol._manager")
"""Return the server that has the connection of a request: it must be told of its heir's end."""


def has_another(protocol: asyncio.BaseProtocol) -> bool:
    """Tell whether the next request has come while a connection still handles one."""
    return bool(getattr(protocol, "_messages", None))


def has_moved_on(protocol: asyncio.BaseProtocol) -> bool:
    """Tell whether a connection handles a request, and does not wait for one."""
    return getattr(protocol, "_waiter", True) is None


def _find_unmask() -> Callable[[bytes, bytearray], object] | None:
    try:
        from aiohttp._websocket.helpers import websocket_mask
    except ImportError:
        return None
    return websocket_mask


unmask: Callable[[bytes, bytearray], object] | None = _find_unmask()
"""aiohttp's function for the masks of frames; in C, it is 20 times as fast as ours for 4 KiB."""


# The client.


def end_of(connection: aiohttp.connector.Connection | None) -> BaseException | None:
    """Return the error that ended a connection; the error of a body has it in its text only."""
    if connection is None or connection.protocol is None:
        return None
    return connection.protocol.exception()
