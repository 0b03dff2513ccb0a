"""xhr_streaming, eventsource and htmlfile: one response carries frames up to a size limit.

Section of the protocol: "XhrStreaming", "EventSource", "HtmlFile".
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiohttp import HttpVersion, HttpVersion11, web

from sockjs_aio.core.tcp import Delivery, is_left, is_left_unseen
from sockjs_aio.errors import ReceiverRefusedError
from sockjs_aio.protocol.frames import SharedFrame
from sockjs_aio.protocol.transports import TRANSPORTS
from sockjs_aio.server.body import discard_body
from sockjs_aio.server.callback import read_callback
from sockjs_aio.server.client_loss import ClientConnection
from sockjs_aio.server.connection_writer import Connected, ConnectionWriter
from sockjs_aio.server.direct.lane import connection_of
from sockjs_aio.server.headers import (
    EVENT_STREAM,
    HTML,
    JAVASCRIPT,
    Headers,
    allow_origin,
    keep_unbuffered,
    uncached,
)
from sockjs_aio.server.response_outcome import ResponseOutcome
from sockjs_aio.server.service import Service
from sockjs_aio.server.session_cookie import set_session_cookie

HTMLFILE_SIZE = 1024
"""Size that the start of a page must reach before every browser runs the page's scripts."""


# browsers pass the beginning of a response to the page only after about this many bytes
XHR_PRELUDE = b"h" * 2048 + b"\n"

EVENTS_PRELUDE = b"\r\n"

# `try` is not in the protocol; see `pages`
HTMLFILE_HEAD = b"""\
<!doctype html>
<html><head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
</head><body><h2>Don't panic!</h2>
  <script>
    try { document.domain = document.domain; } catch (e) {}
    var c = parent.%b;
    c.start();
    function p(d) {c.message(d);};
    window.onload = function() {c.stop();};
  </script>"""


Begin = Callable[[web.Request], tuple[Headers, bytes]]
"""Returns the headers of a stream and its prelude; may raise `CallbackError`."""


def _begin_lines(request: web.Request) -> tuple[Headers, bytes]:
    return _headers(request, JAVASCRIPT), XHR_PRELUDE


def _begin_events(request: web.Request) -> tuple[Headers, bytes]:
    return _headers(request, EVENT_STREAM), EVENTS_PRELUDE


def _begin_page(request: web.Request) -> tuple[Headers, bytes]:
    head = HTMLFILE_HEAD % read_callback(request)
    headers = uncached(HTML)
    headers["X-Content-Type-Options"] = "nosniff"
    keep_unbuffered(headers)
    return headers, head.ljust(HTMLFILE_SIZE + 1) + b"\r\n\r\n"


def _headers(request: web.Request, content_type: str) -> Headers:
    headers = uncached(content_type)
    allow_origin(request, headers)
    keep_unbuffered(headers)
    return headers


async def xhr_streaming(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer ``POST .../xhr_streaming`` with frames, one per line."""
    return await stream(service, request, "xhr_streaming", _begin_lines)


async def eventsource(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer ``GET .../eventsource`` with frames, one per event."""
    return await stream(service, request, "eventsource", _begin_events)


async def htmlfile(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer ``GET .../htmlfile?c=CALLBACK`` with frames, one per script element."""
    return await stream(service, request, "htmlfile", _begin_page)


async def stream(
    service: Service, request: web.Request, transport: str, begin: Begin
) -> web.StreamResponse:
    """Answer a request with frames, formatted as the table says for `transport`."""
    headers, prelude = begin(request)
    dress = TRANSPORTS[transport].dress
    assert dress is not None, "a stream's transport has this function"
    await discard_body(request, service.registry)
    response = StreamingResponse(headers=headers)
    set_session_cookie(request, response, service.settings)
    if request.version < HttpVersion11:
        response.force_close()  # the end of the connection is the end of the stream
    settings = service.settings
    try:
        session = await service.session(request, transport)
        output = ConnectionWriter(request, settings, session)
        writer = StreamWriter(request, output, dress, settings.response_limit)
        writer.write_prelude(prelude)
        session.attach(writer)  # before any await, or the session could expire first
    except ReceiverRefusedError as refusal:
        await response.prepare(request)
        await response.write(prelude)
        await response.write(dress(refusal.frame))
        return response
    try:
        await _start(response, request, output)
        await service.begin(session)
        connection = connection_of(request)
        response.outcome = ResponseOutcome(session, writer, connection)
        response.outcome.watch(request)
        writer.delivery.is_unfinished = True
        session.flush()
        await writer.wait(connection)
    finally:
        if not (writer.is_done and writer.is_alive):
            session.connection_lost(writer)
    return response


async def _start(
    response: web.StreamResponse, request: web.Request, output: ConnectionWriter
) -> None:
    writer = await response.prepare(request)
    assert writer is not None, "the first call of prepare returns a writer"
    output.open(writer)


class StreamingResponse(web.StreamResponse):
    """A stream; it tells the session whether its end was delivered.

    It is never compressed, because a compressor would delay frames.
    """

    outcome: ResponseOutcome | None = None

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the end of the body."""
        if self.outcome is not None:
            self.outcome.written()
        try:
            await super().write_eof(data)
        except BaseException:
            if self.outcome is not None:
                self.outcome.failed()
            raise
        if self.outcome is not None:
            self.outcome.succeeded()

    def enable_compression(self, *_args: object, **_kwargs: object) -> None:
        """Ignore a middleware that asks for compression."""


class Streamed(Connected, Protocol):
    """What a stream needs of its request."""

    @property
    def version(self) -> HttpVersion:
        """The version of HTTP."""
        ...


class StreamWriter:
    """Writes frames to a response, as HTTP chunks, up to its limit or the close frame."""

    __slots__ = (
        "is_done",
        "delivery",
        "_request",
        "_output",
        "_dress",
        "_limit",
        "_is_chunked",
        "_parts",
        "_ended",
    )

    is_http = True

    def __init__(
        self,
        request: Streamed,
        output: ConnectionWriter,
        dress: Callable[[bytes], bytes],
        limit: int,
    ) -> None:
        self.is_done: bool = False
        self.delivery: Delivery = output.delivery
        self._request = request
        self._output = output
        self._dress = dress
        self._limit = limit
        self._is_chunked = request.version >= HttpVersion11
        self._parts: list[bytes] = []
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_full(self) -> bool:
        """Whether the connection is congested, or the response is complete."""
        return self.is_done or self._output.is_congested

    @property
    def is_alive(self) -> bool:
        """Whether the connection has not been lost."""
        return self._request.transport is not None

    @property
    def is_left(self) -> bool:
        """True if the client closed its side, even if we have not read the EOF yet."""
        transport = self._request.transport
        return transport is None or is_left(transport)

    @property
    def buffered(self) -> int:
        """Number of written bytes that have not left the process."""
        return self._output.buffered

    async def wait(self, connection: ClientConnection | None) -> None:
        """Wait for the end of the response, or of its `connection`."""
        if connection is None:
            return
        connection.use(self.delivery, is_limited=self._output.is_limited)
        connection.lost = self.release
        try:
            await self._ended
        finally:
            connection.lost = None

    def write_prelude(self, prelude: bytes) -> None:
        """Take what comes before the first frame; it does not count towards the limit."""
        self._add(prelude)

    def write(self, frame: bytes) -> None:
        """Take one frame; the close frame is the last."""
        dress = self._dress
        data = frame.dressed(dress) if type(frame) is SharedFrame else dress(frame)
        self._add(data)
        self._limit -= len(data)
        if self._limit <= 0 or frame[:1] == b"c":
            self.is_done = True

    def flush(self) -> int:
        """Write the frames taken so far if the connection has room; return `buffered`."""
        if not self._parts or self._output.is_congested:
            return self.buffered
        data = b"".join(self._parts)
        self._parts.clear()
        return self._output.write(data)

    def send(self, frame: bytes) -> int:
        """Do what `write` and `flush` do."""
        self.write(frame)
        return self.flush()

    def conclude(self) -> None:
        """End the response before its limit is reached."""
        self.is_done = True

    def release(self) -> None:
        """Make `wait` return."""
        if not self._ended.done():
            self._ended.set_result(None)

    def probe(self, busy: bool) -> bool:
        """Return False if the client left, or takes no data although there is some to take."""
        transport = self._request.transport
        if transport is not None and is_left_unseen(transport):
            return False
        return not self.delivery.is_stalled()

    def abort(self) -> None:
        """Cut the connection."""
        self._output.abort()

    def _add(self, data: bytes) -> None:
        if self._is_chunked:  # `flush` joins the parts: joining here too would copy megabytes twice
            self._parts += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._parts.append(data)
