"""Relays one request to another process, and passes its answer to the client as it arrives."""

import asyncio
import re
import sys
from collections.abc import Callable

import aiohttp
from aiohttp import ClientError, HttpVersion11, hdrs, web
from multidict import CIMultiDict

from sockjs_aio.cluster.relay.peers import (
    BUFFER,
    OwnerAbsentError,
    OwnerLostError,
    OwnerSilentError,
    Peer,
    Stamp,
    check_room,
    is_silence,
    url_at,
)
from sockjs_aio.cluster.relay.signed_header import HEADER
from sockjs_aio.cluster.relay.upload import Upload
from sockjs_aio.core.tcp import Delivery, give_up_after
from sockjs_aio.server.aiohttp_internals import (
    DirectResponse,
    ResponseWriter,
    end_of,
    received,
    writer_of,
)
from sockjs_aio.server.direct.lane import connection_of

CONNECT_INTERVAL = 0.05
"""Seconds between two attempts to reach a process that is being started."""

MISDIRECTED = 421
"""The status that a process answers to a request meant for another one (RFC 9110, 15.5.20)."""

_BODILESS = (204, 304)

_BODY = web.RequestKey("relayed body", bytes)
"""Where a request keeps its body once read: it may have to go to a second process."""

# These concern a single connection (RFC 9110, section 7.6.1).  Headers that `Connection` names are
# kept: otherwise a client could have us drop headers that a proxy has added.
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
# aiohttp has read the body and decompressed it, so these are no longer true
_OF_REQUEST = _OF_CONNECTION | {"content-length", "content-encoding", "expect", HEADER.lower()}

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class MisdirectedError(Exception):
    """Another process than the intended one has taken the request."""


def misdirected() -> web.Response:
    """Refuse a request that is meant for another process."""
    return web.Response(status=MISDIRECTED, headers={HEADER: "misdirected"})


def keeps_body(request: web.Request) -> bool:
    """Tell whether the body of a relayed request was kept, and can go to another process."""
    return _BODY in request


class Forward:
    """One request on its way to another process, and its answer on the way back.

    Args:
        request: The client's request.
        peer: The process that answers it.
        stamp: Makes the signed header that goes with it.
        last_words: The end of a stream whose owner dies before the stream has ended.
        body_limit: Bytes of the request's body that the other process accepts.
        silence: Seconds for which a client may accept no data of a stream.
        patience: Seconds for which the other process may write nothing; None for no limit.
        is_last: Called when the answer starts: whether to close the client's connection after it.
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
        self.is_cut: bool = False
        self._is_given_up = False
        self._waiting: asyncio.Task[object] | None = None
        self._answer: aiohttp.ClientResponse | None = None
        self._delivery: Delivery | None = None
        self._headers = _request_headers(request)
        content = request.content
        self._body: bytes | Upload | None = None
        if not content.is_eof() or received(content) > BUFFER:
            self._body = Upload(request, body_limit)
            if request.content_length and hdrs.CONTENT_ENCODING not in request.headers:
                self._headers[hdrs.CONTENT_LENGTH] = str(request.content_length)
        elif not content.at_eof():
            self._body = request[_BODY] = content.read_nowait()
        else:
            self._body = request.get(_BODY)

    @property
    def can_be_repeated(self) -> bool:
        """Whether `run` can be called again: a body that is still arriving is not kept."""
        return not isinstance(self._body, Upload)

    async def run(self, patience: float) -> web.StreamResponse:
        """Send the request, and write the answer to the client.

        Args:
            patience: Seconds to wait for a process that is still starting.

        Raises:
            OwnerAbsentError: If the other process cannot be reached.
            OwnerLostError: If it has ended, and the client has got nothing yet.
            ExhaustedError: If this process cannot open another connection.
            OwnerSilentError: If it does not answer, and the client has got nothing yet.
            MisdirectedError: If it is not the intended process.
            web.RequestPayloadError: If the client's body cannot be read.
            ConnectionError: If the client leaves before the end of the answer.
        """
        self._answer = None
        self._waiting = asyncio.current_task()
        try:
            answer = self._answer = await self._send(patience)
        except asyncio.CancelledError:
            if not (self.is_cut or self._is_given_up):
                raise
            if sys.version_info >= (3, 11) and self._waiting is not None:
                self._waiting.uncancel()
            raise (OwnerLostError if self.is_cut else OwnerSilentError) from None
        async with answer:
            if answer.status == MISDIRECTED and HEADER in answer.headers:
                raise MisdirectedError
            return await self._pass_on(answer)

    def cut(self) -> None:
        """Stop: the other process has ended, though the connection has not told so."""
        self.is_cut = True
        if self._answer is None:
            if self._waiting is not None:
                self._waiting.cancel()
        elif (connection := self._answer.connection) is not None and connection.transport:
            connection.transport.abort()

    def give_up(self) -> None:
        """Stop, unless the answer has begun: the other process cannot be reached any more."""
        if self._answer is None and self._waiting is not None and not self.is_cut:
            self._is_given_up = True
            self._waiting.cancel()

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
                    raise OwnerAbsentError from error
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
            # only this process can see whether the client accepts what it is sent
            give_up_after(request.transport, self._silence)
            self._delivery = Delivery(request.transport)
            connection.use(self._delivery)
        return response

    def _take_back(self) -> None:
        """Undo, before the next request on the connection, what `_begin` has set on it."""
        if self._delivery is None:
            return
        connection = connection_of(self._request)
        if connection is not None:
            self._delivery.finish()
            connection.response_ended(self._delivery)

    async def _break_off(
        self, response: "RelayedResponse", is_at_boundary: bool, last_words: bytes
    ) -> None:
        """End a response that has begun: a stream properly if between messages, else by a reset."""
        response.force_close()
        if response.is_stream and self._last_words and is_at_boundary:
            await response.write_eof(last_words)
        else:
            response.abort()


class RelayedResponse(DirectResponse):
    """The other process's response; middlewares and response hooks have already run there.

    Args:
        request: The client's request.
        answer: The other process's answer.
        is_last: Whether to close the client's connection after it.
    """

    def __init__(
        self, request: web.Request, answer: aiohttp.ClientResponse, *, is_last: bool
    ) -> None:
        headers = CIMultiDict(answer.headers)
        closes = headers.pop(hdrs.CONNECTION, "").lower() == "close"
        super().__init__(status=answer.status, reason=answer.reason or "", headers=headers)
        self.is_stream: bool = hdrs.CONTENT_LENGTH not in headers and answer.status not in _BODILESS
        """Whether its length is unknown until it ends."""
        self._is_chunked = self.is_stream and request.version >= HttpVersion11
        unchunked = self.is_stream and not self._is_chunked
        # aiohttp reads the trailer of a chunked body as another request, see `end_where_unsafe`
        was_chunked = hdrs.TRANSFER_ENCODING in request.headers
        if is_last or closes or unchunked or was_chunked or not request.keep_alive:
            self.force_close()
        self._client: web.Request = request
        self._has_ended = False

    async def prepare(self, request: web.BaseRequest) -> ResponseWriter | None:
        """Start; the head is sent together with the first data."""
        if self._direct is None:
            version, headers = request.version, self.headers
            writer = self._direct = writer_of(request)
            if self._is_chunked:
                headers[hdrs.TRANSFER_ENCODING] = "chunked"
                writer.enable_chunking()
            else:
                headers.pop(hdrs.TRANSFER_ENCODING, None)
            if self.keep_alive is False:
                if version >= HttpVersion11:
                    headers[hdrs.CONNECTION] = "close"
            elif version < HttpVersion11:
                headers[hdrs.CONNECTION] = "keep-alive"
            line = f"HTTP/{version.major}.{version.minor} {self.status} {self.reason}"
            await writer.write_headers(line, headers)
        return self._direct

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write a chunk; wait while the client is slow to accept data."""
        assert self._direct is not None, "prepare the response first"
        if data:
            await self._direct.write(data)
            await self._direct.drain()

    async def write_eof(self, data: bytes = b"") -> None:
        """Write the last chunk and the end of the body."""
        if not self._has_ended:
            assert self._direct is not None, "prepare the response first"
            self._has_ended = True
            await self._direct.write_eof(data)

    def abort(self) -> None:
        """Reset the connection, so that the client does not take the body for complete."""
        self._has_ended = True
        if self._client.transport is not None:
            self._client.transport.abort()

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open afterwards."""
        return super().keep_alive is not False


def _request_headers(request: web.Request) -> CIMultiDict[str]:
    """Return the headers to send to the other process."""
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in request.headers.items():
        if name.lower() not in _OF_REQUEST:
            if not (value.isascii() and value.isprintable()):
                value = _sendable(value)
            kept.add(name, value)
    kept.setdefault(hdrs.HOST, "")  # otherwise aiohttp adds one of its own
    return kept


def _sendable(value: str) -> str:
    """Replace what aiohttp cannot send in a header: bytes that are not UTF-8, and controls."""
    text = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _CONTROL.sub(" ", text)
