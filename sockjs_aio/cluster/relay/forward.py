"""Hands a request on to another process, and what that answers to the client, as it comes."""

import asyncio
import re
import sys
from collections.abc import Callable

import aiohttp
from aiohttp import ClientError, HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from sockjs_aio.cluster.relay.peers import (
    BUFFER,
    OwnerLostError,
    OwnerSilentError,
    Peer,
    Stamp,
    check_room,
    end_of,
    is_silence,
    url_at,
)
from sockjs_aio.cluster.relay.signed_header import HEADER
from sockjs_aio.cluster.relay.upload import Upload
from sockjs_aio.core.tcp import Delivery, give_up_after
from sockjs_aio.server.client_loss import connection_of

CONNECT_INTERVAL = 0.05
"""Seconds between two attempts to reach a process that is being started."""

MISDIRECTED = 421
"""What a process answers to what is meant for another one (RFC 9110, section 15.5.20)."""

_BODILESS = (204, 304)

_BODY = web.RequestKey("relayed body", bytes)
"""Where a request keeps what was read of it, for the next process that it may go to."""

# of one connection only (RFC 9110, section 7.6.1); what `Connection` names is kept: this is one
# server to the client, which could otherwise have headers dropped that a proxy has added
_OF_CONNECTION = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
        "transfer-encoding",
    ]
)
# the server has read the body, and unpacked it
_OF_REQUEST = _OF_CONNECTION | {"content-length", "content-encoding", "expect", HEADER.lower()}

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class MisdirectedError(Exception):
    """At that place is another process than the one that was meant."""


def misdirected() -> web.Response:
    """Answer what is meant for another process."""
    return web.Response(status=MISDIRECTED, headers={HEADER: "misdirected"})


def keeps_body(request: web.Request) -> bool:
    """Tell whether the body of a request that was handed on is here for another process."""
    return _BODY in request


class Forward:
    """One request on its way to another process, and the answer on its way back.

    Args:
        request: From the client.
        peer: Who is to answer.
        stamp: Makes the signed that goes along.
        last_words: What a stream ends with if the other process ends first.
        body_limit: Bytes that the other process takes of the request's body.
        silence: Seconds for which a client may take nothing of a stream.
        patience: Seconds for which the other process may write nothing; None for any time.
        is_last: Tells, when the answer is there, whether the client's connection is to end with it.
    """

    def __init__(
        self,
        request: web.Request,
        peer: Peer,
        stamp: Stamp,
        *,
        last_words: bytes = b"",
        body_limit: int,
        silence: float,
        patience: float | None = None,
        is_last: Callable[[], bool],
    ) -> None:
        self._request = request
        self._peer = peer
        self._stamp = stamp
        self._last_words = last_words
        self._silence = silence
        self._is_last = is_last
        connect_limit = peer.client.timeout.sock_connect
        self._timeout = aiohttp.ClientTimeout(sock_connect=connect_limit, sock_read=patience)
        self.is_cut = False
        self._waiting: asyncio.Task[object] | None = None
        self._answer: aiohttp.ClientResponse | None = None
        self._delivery: Delivery | None = None
        self._headers = _request_headers(request)
        content = request.content
        self._body: bytes | Upload | None = None
        if not content.is_eof() or content.total_bytes > BUFFER:
            self._body = Upload(content, body_limit)
            if request.content_length and hdrs.CONTENT_ENCODING not in request.headers:
                self._headers[hdrs.CONTENT_LENGTH] = str(request.content_length)
        elif not content.at_eof():
            self._body = request[_BODY] = content.read_nowait()
        else:
            self._body = request.get(_BODY)

    @property
    def can_be_repeated(self) -> bool:
        """Whether all that there is to send is still here after `run`."""
        return not isinstance(self._body, Upload)

    async def run(self, patience: float) -> web.StreamResponse:
        """Carry it out.

        Args:
            patience: Seconds to wait for a process that is being started.

        Raises:
            ConnectionRefusedError: If it cannot be reached.
            OwnerLostError: If it has ended, and nothing has gone to the client.
            ExhaustedError: If this process can make no connection.
            OwnerSilentError: If it does not answer, and nothing has gone to the client.
            MisdirectedError: If it is another one.
            web.RequestPayloadError: If the body cannot be read.
            ConnectionError: If the client has gone before its end.
        """
        self._answer = None
        self._waiting = asyncio.current_task()
        try:
            answer = self._answer = await self._send(patience)
        except asyncio.CancelledError:
            if not self.is_cut:
                raise
            if sys.version_info >= (3, 11) and self._waiting is not None:
                self._waiting.uncancel()
            raise OwnerLostError from None
        async with answer:
            if answer.status == MISDIRECTED and HEADER in answer.headers:
                raise MisdirectedError
            return await self._pass_on(answer)

    def cut(self) -> None:
        """The other process has ended, as somebody else tells."""
        self.is_cut = True
        if self._answer is None:
            if self._waiting is not None:
                self._waiting.cancel()
        elif (connection := self._answer.connection) is not None and connection.transport:
            connection.transport.abort()

    async def _send(self, patience: float) -> aiohttp.ClientResponse:
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        method, url = self._request.method, url_at(self._request, self._peer)
        while True:
            self._headers[HEADER] = self._stamp(method, url.raw_path_qs)
            try:
                return await self._peer.client.request(
                    method,
                    url,
                    headers=self._headers,
                    data=self._body,
                    allow_redirects=False,
                    timeout=self._timeout,
                )
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                if isinstance(error, aiohttp.ClientConnectorError):
                    check_room(error)
                if loop.time() >= end:
                    raise ConnectionRefusedError from error
            except ClientError as error:
                if isinstance(self._body, Upload) and self._body.error is not None:
                    raise self._body.error from None
                if is_silence(error.__cause__):
                    raise OwnerSilentError from error
                raise OwnerLostError from error
            await asyncio.sleep(CONNECT_INTERVAL)

    async def _pass_on(self, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        content = answer.content
        connection = answer.connection
        response: RelayedResponse | None = None
        is_at_boundary = False
        while True:
            try:
                data, is_at_boundary = await content.readchunk()
            except ClientError as error:
                silent = is_silence(error) or is_silence(end_of(connection))
                if response is None:
                    raise (OwnerSilentError if silent else OwnerLostError) from error
                await self._break_off(response, is_at_boundary, b"" if silent else self._last_words)
                return response
            if response is None:
                response = await self._begin(answer)
            if content.at_eof():
                await response.write_eof(data)
                self._take_back()
                return response
            await response.write(data)

    async def _begin(self, answer: aiohttp.ClientResponse) -> "RelayedResponse":
        request = self._request
        is_last = self._is_last() or not request.content.is_eof()
        response = RelayedResponse(request, answer, is_last=is_last)
        await response.prepare(request)
        connection = connection_of(request) if response.is_stream else None
        if connection is not None and request.transport is not None:
            # the other process cannot see whether the client takes what it is sent
            give_up_after(request.transport, self._silence)
            self._delivery = Delivery(request.transport)
            connection.use(self._delivery)
        return response

    def _take_back(self) -> None:
        """Have the connection as it was with the next request, if the response was limited."""
        connection = connection_of(self._request)
        if connection is not None and self._delivery is not None:
            self._delivery.finish()
            connection.response_ended(self._delivery)

    async def _break_off(
        self, response: "RelayedResponse", is_at_boundary: bool, last_words: bytes
    ) -> None:
        """End what has begun: in an orderly way, if nothing would be added to half a message."""
        response.force_close()
        if response.is_stream and self._last_words and is_at_boundary:
            await response.write_eof(last_words)
        else:
            response.abort()


class RelayedResponse(web.StreamResponse):
    """A response that another process has made: middlewares and hooks have seen it there.

    Args:
        request: From the client.
        answer: Of the other process.
        is_last: Whether the client's connection is to end with it.
    """

    def __init__(
        self, request: web.Request, answer: aiohttp.ClientResponse, *, is_last: bool
    ) -> None:
        headers = CIMultiDict(answer.headers)
        closes = headers.pop(hdrs.CONNECTION, "").lower() == "close"
        super().__init__(status=answer.status, reason=answer.reason or "", headers=headers)
        self.is_stream = hdrs.CONTENT_LENGTH not in headers and answer.status not in _BODILESS
        """Whether only its end tells how long it is."""
        self._is_chunked = self.is_stream and request.version >= HttpVersion11
        unchunked = self.is_stream and not self._is_chunked
        # of a body in chunks aiohttp takes the trailer for another request, see `end_where_unsafe`
        was_chunked = hdrs.TRANSFER_ENCODING in request.headers
        if is_last or closes or unchunked or was_chunked or not request.keep_alive:
            self.force_close()
        self._client: web.Request = request
        self._relay_writer: AbstractStreamWriter | None = None
        self._has_ended = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Start; the head leaves with what is written first."""
        if self._relay_writer is None:
            version, headers = request.version, self.headers
            self._relay_writer = request.writer
            if self._is_chunked:
                headers[hdrs.TRANSFER_ENCODING] = "chunked"
                request.writer.enable_chunking()
            else:
                headers.pop(hdrs.TRANSFER_ENCODING, None)
            if self.keep_alive is False:
                if version >= HttpVersion11:
                    headers[hdrs.CONNECTION] = "close"
            elif version < HttpVersion11:
                headers[hdrs.CONNECTION] = "keep-alive"
            line = f"HTTP/{version.major}.{version.minor} {self.status} {self.reason}"
            await request.writer.write_headers(line, headers)
        return self._relay_writer

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write a chunk, and wait if the client does not take it."""
        assert self._relay_writer is not None, "it has not been prepared"
        if data:
            await self._relay_writer.write(data)
            await self._relay_writer.drain()

    async def write_eof(self, data: bytes = b"") -> None:
        """Write the last chunk, and the end."""
        if not self._has_ended:
            assert self._relay_writer is not None, "it has not been prepared"
            self._has_ended = True
            await self._relay_writer.write_eof(data)

    def abort(self) -> None:
        """Cut the client's connection: what it has got has no end."""
        self._has_ended = True
        if self._client.transport is not None:
            self._client.transport.abort()

    @property
    def prepared(self) -> bool:
        """Whether it has started."""
        return self._relay_writer is not None

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays."""
        return super().keep_alive is not False

    @property
    def body_length(self) -> int:
        """Bytes that were sent, with the head, as aiohttp counts them."""
        return 0 if self._relay_writer is None else self._relay_writer.output_size

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status} {self.reason}>"


def _request_headers(request: web.Request) -> CIMultiDict[str]:
    """Return the headers that are for the other process."""
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in request.headers.items():
        if name.lower() not in _OF_REQUEST:
            if not (value.isascii() and value.isprintable()):
                value = _sendable(value)
            kept.add(name, value)
    kept.setdefault(hdrs.HOST, "")  # aiohttp would make one up
    return kept


def _sendable(value: str) -> str:
    """Return what of a header's value can be sent: aiohttp writes UTF-8, no control characters."""
    text = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _CONTROL.sub(" ", text)
