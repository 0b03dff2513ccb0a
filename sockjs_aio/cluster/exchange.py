"""Hands a request on to the process that has its session, and what that answers to the client.

The bytes of the response are the other process's own: where it ends is all that is looked for.
"""

import asyncio

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from sockjs_aio.cluster.link import Link
from sockjs_aio.cluster.passport import Passport, request_head
from sockjs_aio.cluster.reply import Reply, ReplyBroken
from sockjs_aio.errors import PayloadTooLarge
from sockjs_aio.settings import Settings
from sockjs_aio.tcp import give_up_after
from sockjs_aio.transports.outlet import Outlet

BODY_PART = 65536
"""Bytes of a request body that are handed on at a time; the link takes about as many more before
it has to wait."""


class OwnerLost(Exception):
    """The process that has the session has ended before it has answered."""


class RelayedResponse(web.StreamResponse):
    """A response that another process has written, with its head.

    Hooks on responses and what middlewares do to them are done there.

    Args:
        reply: Its head, read.
        rest: Bytes that have not gone to the client yet.
        sent: Bytes that have.
    """

    def __init__(self, reply: Reply, rest: bytes, sent: int) -> None:
        super().__init__(status=reply.status, reason=reply.reason)
        self._keeps_alive = reply.keeps_alive
        self._rest = rest
        self._sent = sent
        self._relay_writer: AbstractStreamWriter | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Do nothing: the head is among the bytes."""
        self._relay_writer = request.writer
        return self._relay_writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Send what has not been sent."""
        if self._rest and self._relay_writer is not None:
            rest, self._rest = self._rest, b""
            self._sent += len(rest)
            await self._relay_writer.write(rest)
            await self._relay_writer.drain()

    @property
    def prepared(self) -> bool:
        """Whether its head is written; always."""
        return True

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays."""
        return self._keeps_alive and super().keep_alive is not False

    @property
    def body_length(self) -> int:
        """Bytes that were sent, with the head, as aiohttp counts them."""
        return self._sent


class Exchange:
    """One request on its way to another process, and the response on its way back.

    A short response that comes in one piece is returned; whatever else goes to the client as it
    comes, in the same turn of the loop.  If the client does not read, the link is not read.

    Args:
        request: From the client.
        link: To the other process, used by nobody else.
        settings: Of the service.
        body_limit: Bytes that the request's body may have.
        last_words: What a stream ends with if the other process ends first.
    """

    def __init__(
        self,
        request: web.Request,
        link: Link,
        settings: Settings,
        body_limit: int,
        last_words: bytes,
    ) -> None:
        self._request = request
        self._link = link
        self._body_limit = body_limit
        self._last_words = last_words
        self._patience = settings.heartbeat_delay
        self._reply = Reply()
        self._first = b""
        self._sent = 0
        self._outlet = Outlet(request, settings, self)
        self._is_streaming = False
        self._is_sent = False
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._may_write: asyncio.Future[None] | None = None
        link.user = self

    @property
    def is_left(self) -> bool:
        """Whether the client has gone."""
        return self._request.transport is None

    async def run(self, passport: Passport, *, is_last: bool) -> web.StreamResponse:
        """Carry it out.

        Raises:
            OwnerLost: If the other process has ended, and nothing has gone to the client.
            PayloadTooLarge: If the body is longer than allowed.
            web.RequestPayloadError: If it cannot be read.
            ConnectionError: If the client has gone before its end.
        """
        upload = None
        try:
            upload = self._send(passport, is_last)
            await self._ended
            if not self._reply.is_complete:
                return self._broken_off()
            return RelayedResponse(self._reply, self._first, self._sent)
        finally:
            if upload is not None:
                upload.cancel()
            if self._reply.is_complete and self._reply.keeps_alive and self._is_sent:
                self._link.keep()
            else:
                self._link.cut()

    def let_go(self) -> None:
        """The client has gone: have the other process see so."""
        if not self._ended.done():
            self._ended.set_result(None)

    # For the link.

    def received(self, data: bytes) -> None:
        """Take what has come, and hand it on."""
        try:
            self._reply.feed(data)
        except ReplyBroken:
            self._link.cut()
            self.lost()
            return
        if self._is_streaming:
            self._pass_on(data)
        else:
            self._first += data
            if self._reply.status and not self._reply.is_complete:
                self._begin_stream()
        if self._reply.is_complete:
            self.let_go()

    def lost(self) -> None:
        """The other process has ended the connection."""
        self._reply.end()
        self.writable(True)
        self.let_go()

    def writable(self, is_writable: bool) -> None:
        """The link takes no more at present, or does so again."""
        if not is_writable:
            if self._may_write is None:
                self._may_write = asyncio.get_running_loop().create_future()
        elif self._may_write is not None:
            waiter, self._may_write = self._may_write, None
            if not waiter.done():
                waiter.set_result(None)

    # To the client.

    def _begin_stream(self) -> None:
        self._is_streaming = True
        self._outlet.open(self._request.writer)
        if self._request.transport is not None:
            # the other process cannot see whether a client takes what it is sent
            give_up_after(self._request.transport, self._patience)
        first, self._first = self._first, b""
        self._pass_on(first)

    def _pass_on(self, data: bytes) -> None:
        self._sent += len(data)
        self._outlet.write(data)
        if self._outlet.is_congested and not self._link.is_lost:
            self._link.transport.pause_reading()

    def receiver_changed(self) -> None:
        """The client takes more again, or has gone."""
        if self.is_left:
            self.let_go()
        elif not self._link.is_lost:
            self._link.transport.resume_reading()

    def _broken_off(self) -> web.StreamResponse:
        """The other process has ended, or the client has gone."""
        if not (self.is_left or self._sent):
            raise OwnerLost
        self._reply.keeps_alive = False
        if self._last_words and self._reply.is_at_boundary and not self._outlet.is_congested:
            words = b"%x\r\n%b\r\n0\r\n\r\n" % (len(self._last_words), self._last_words)
            return RelayedResponse(self._reply, words, self._sent)
        self._outlet.abort()  # what it has got has no end
        return RelayedResponse(self._reply, b"", self._sent or 1)

    # From the client.

    def _send(self, passport: Passport, is_last: bool) -> "asyncio.Task[None] | None":
        """Write the request; return the task that brings the rest of its body, if there is one."""
        request, content = self._request, self._request.content
        self._check_size(request.content_length or 0)
        body, length = b"", None
        if content.is_eof():
            body = content.read_nowait() if request.can_read_body else b""
            length = len(body)
            self._check_size(length)
        elif "Content-Encoding" not in request.headers:  # otherwise it has been unpacked
            length = request.content_length
        head = request_head(request, passport, is_last=is_last, body_length=length)
        self._link.transport.write(head + body)
        if content.is_eof():
            self._is_sent = True
            return None
        return asyncio.get_running_loop().create_task(self._upload(is_chunked=length is None))

    async def _upload(self, is_chunked: bool) -> None:
        """Hand on the body as it comes and as the link takes it."""
        content, link = self._request.content, self._link
        size = 0
        try:
            while not content.at_eof():
                part = await content.read(BODY_PART)
                size += len(part)
                self._check_size(size)
                link.transport.write(b"%x\r\n%b\r\n" % (len(part), part) if is_chunked else part)
                if self._may_write is not None:
                    await self._may_write
            if is_chunked:
                link.transport.write(b"0\r\n\r\n")
            self._is_sent = True
        except Exception as error:
            if not self._ended.done():
                self._ended.set_exception(error)

    def _check_size(self, size: int) -> None:
        if size > self._body_limit:
            raise PayloadTooLarge(f"more than {self._body_limit} bytes")
