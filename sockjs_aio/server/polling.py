"""xhr and jsonp: each request waits for one frame.

Section of the protocol: "XhrPolling", "JsonpPolling".
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.payload import Payload

from sockjs_aio.core.session import Session
from sockjs_aio.core.tcp import Delivery, give_up_after, is_left
from sockjs_aio.errors import ReceiverRefusedError
from sockjs_aio.protocol.frames import HEARTBEAT, javascript_string
from sockjs_aio.protocol.transports import line
from sockjs_aio.server.aiohttp_internals import (
    ResponseWriter,
    apps_of,
    server_of,
    set_body,
    set_text,
)
from sockjs_aio.server.aiohttp_protocol import is_patched, is_watched
from sockjs_aio.server.body import discard_body
from sockjs_aio.server.callback import read_callback
from sockjs_aio.server.client_loss import ClientConnection
from sockjs_aio.server.connection_writer import PATIENCE
from sockjs_aio.server.direct.lane import connection_of
from sockjs_aio.server.headers import (
    JAVASCRIPT,
    Head,
    readable_head,
    uncached_head,
)
from sockjs_aio.server.response_outcome import ResponseOutcome
from sockjs_aio.server.responses import ShortResponse
from sockjs_aio.server.service import Service, is_wrapped
from sockjs_aio.server.session_cookie import set_session_cookie

JSONP_HEAD = uncached_head(200, JAVASCRIPT)


async def xhr(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer ``POST .../xhr`` with one frame and a line feed."""
    head = readable_head(request, 200, JAVASCRIPT)
    return await _poll(service, request, "xhr", head, line)


async def jsonp(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer ``GET .../jsonp?c=CALLBACK`` with a script that passes one frame to CALLBACK."""
    callback = read_callback(request)
    return await _poll(service, request, "jsonp", JSONP_HEAD, partial(call, callback))


def call(callback: bytes, frame: bytes) -> bytes:
    """Make the script that passes `frame` to the function `callback`."""
    # the leading comment keeps a callback's name from turning the script into another type of file
    return b"/**/%b(%b);\r\n" % (callback, javascript_string(frame))


async def _poll(
    service: Service,
    request: web.Request,
    transport: str,
    head: Head,
    dress: Callable[[bytes], bytes],
) -> web.StreamResponse:
    await discard_body(request, service.registry)
    try:
        session = await service.session(request, transport)
        await service.begin(session)
        writer = PollWriter(request)
        session.attach(writer)
    except ReceiverRefusedError as refusal:
        last = ShortResponse(head, dress(refusal.frame))
        set_session_cookie(request, last, service.settings)
        return last
    try:
        frame = await writer.wait()
    except asyncio.CancelledError:
        session.connection_lost(writer)
        raise
    if not writer.is_alive:
        session.connection_lost(writer)
    writer.give_up_after(PATIENCE * service.settings.heartbeat_delay)
    body = b"" if frame is None else dress(frame)
    may_be_replaced = _may_be_replaced(request)
    kind = ReplaceableResponse if may_be_replaced else PollResponse
    response = kind(session, writer, body, head)
    if may_be_replaced:
        response.watch(request)
    try:
        set_session_cookie(request, response, service.settings)
    except BaseException:
        response.fail()
        raise
    return response


def _may_be_replaced(request: web.Request) -> bool:
    """Tell whether code of an application, or a tool, may answer with another response."""
    server = server_of(request)  # None once the connection is lost: then nobody answers
    return (
        any(map(_may_replace, apps_of(request)))
        or is_wrapped(request.match_info.handler)
        or (server is not None and is_watched(server))
    )


def _may_replace(app: web.Application) -> bool:
    return bool(app.middlewares) or is_patched(app)


class PollWriter:
    """Takes the one frame that answers a poll; it is done before the response starts."""

    __slots__ = ("is_full", "is_done", "delivery", "_request", "connection", "_frame", "_waiter")

    is_http = True
    buffered = 0

    def __init__(self, request: web.Request) -> None:
        self.is_full: bool = False
        self.is_done: bool = False
        self.delivery: Delivery = Delivery(request.transport)
        self._request = request
        self.connection: ClientConnection | None = connection_of(request)
        self._frame: bytes | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the client is still waiting."""
        return self.connection is not None and self._request.transport is not None

    @property
    def is_left(self) -> bool:
        """True if the client closed its side, even if we have not read the EOF yet."""
        transport = self._request.transport
        return transport is None or is_left(transport)

    async def wait(self) -> bytes | None:
        """Wait for the frame; return None if the client disconnects first."""
        if self._frame is None and self._waiter is None and self.is_alive:
            assert self.connection is not None, "the connection exists while the client waits"
            self._waiter = asyncio.get_running_loop().create_future()
            self.connection.lost = self.release
            try:
                await self._waiter
            finally:
                self.connection.lost = None
        frame, self._frame = self._frame, None
        return frame

    def give_up_after(self, seconds: float) -> None:
        """Make the kernel end the connection if the client takes no data for `seconds`.

        The session cannot do it: the connection may outlive the session.
        """
        if self.connection is not None and self._request.transport is not None:
            give_up_after(self._request.transport, seconds)
            self.connection.use(self.delivery)

    def write(self, frame: bytes) -> None:
        """Take the frame that becomes the response."""
        self._frame = frame
        self.is_full = self.is_done = self.delivery.is_unfinished = True

    def flush(self) -> int:
        """Return 0: nothing is buffered here."""
        return 0

    def send(self, frame: bytes) -> int:
        """Do what `write` and `flush` do."""
        self.write(frame)
        return 0

    def conclude(self) -> None:
        """Answer with a heartbeat frame, so that the client polls again."""
        self.write(HEARTBEAT)

    def release(self) -> None:
        """Make `wait` return."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def probe(self, busy: bool) -> bool:
        """Return True: a waiting request is not asked for signs of life."""
        return True

    def abort(self) -> None:
        """Cut the connection."""
        if self._request.transport is not None:
            self._request.transport.abort()


class PollResponse(ShortResponse):
    """The response to a poll; it tells the session whether it was delivered."""

    def __init__(self, session: Session, writer: PollWriter, body: bytes, head: Head) -> None:
        self._outcome = ResponseOutcome(session, writer, writer.connection)
        super().__init__(head, body)

    def watch(self, request: web.Request) -> None:
        """Count the response as failed if it is not written by the end of `request`."""
        self._outcome.watch(request)

    def fail(self) -> None:
        """Tell the session that the response is not written."""
        self._outcome.failed()

    async def prepare(self, request: web.BaseRequest) -> ResponseWriter | None:
        """Send the head."""
        try:
            return await super().prepare(request)
        except BaseException:
            self._outcome.failed()
            raise

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the body."""
        try:
            if type(super().body) is bytes and not self.compression:  # that may take turns
                self._outcome.written()
            await super().write_eof(data)
            if self._outcome.is_kept:
                await self._outcome.passes_on()
        except BaseException:
            self._outcome.failed()
            raise
        self._outcome.succeeded()
        self.body = None  # aiohttp may keep the response for a long time


class ReplaceableResponse(PollResponse):
    """A poll's response that a middleware or decorator may drop or replace by a copy."""

    @property
    def body(self) -> "bytes | bytearray | Payload | None":
        """The response's body; a middleware that reads it may send a copy instead."""
        self._outcome.is_read = True
        return super().body

    @body.setter
    def body(self, body: Any) -> None:
        set_body(self, body)

    @property
    def text(self) -> str | None:
        """The body as text; see `body`."""
        self._outcome.is_read = True
        return super().text

    @text.setter
    def text(self, text: str) -> None:
        set_text(self, text)
