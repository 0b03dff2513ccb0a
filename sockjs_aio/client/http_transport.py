"""The HTTP transports: responses bring frames, one after another, and requests take messages."""

import asyncio
import collections
import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import async_timeout
from aiohttp import ClientResponse, ClientSession, ClientTimeout

from sockjs_aio.client.address import Address
from sockjs_aio.client.http_sender import HttpSender
from sockjs_aio.client.options import ClientOptions
from sockjs_aio.client.transport import LOST, Message, TransportError, failures, refused
from sockjs_aio.errors import ServerFrameError
from sockjs_aio.protocol import response_reader
from sockjs_aio.protocol.response_reader import ResponseReader
from sockjs_aio.protocol.server_frames import ServerFrame, decode_frame
from sockjs_aio.protocol.transports import TRANSPORTS

_CALLBACK = "_jp.sockjs"

_HURRY = 1.0
"""A response that brings no frame and ends within this many seconds would have us ask in a circle.
"""


_ANSWER = 1.0
"""Seconds in which the server may say why a response was cut off."""


@dataclass(frozen=True)
class _Form:
    """What is particular to one transport."""

    reader: Callable[[int], ResponseReader]
    query: str = ""
    sends_to: str = "xhr_send"


_FORMS = {
    "xhr": _Form(response_reader.lines),
    "xhr_streaming": _Form(response_reader.lines),
    "eventsource": _Form(response_reader.events),
    "htmlfile": _Form(response_reader.scripts, f"c={_CALLBACK}"),
    "jsonp": _Form(
        functools.partial(response_reader.call, callback=_CALLBACK), f"c={_CALLBACK}", "jsonp_send"
    ),
}


class HttpTransport:
    """One session over an HTTP transport.

    Args:
        name: The name of the transport.
        session: What requests are made with.
        address: Where the service is.
        path: The path of the session.
        options: The options of the connection.
        encoding: What requests accept.  By default nothing: a proxy that compresses a stream waits
            for more of it.
    """

    def __init__(
        self,
        name: str,
        session: ClientSession,
        address: Address,
        path: str,
        options: ClientOptions,
        *,
        encoding: str = "identity",
    ) -> None:
        self.name = name
        self._form = _FORMS[name]
        self._method = TRANSPORTS[name].method
        url = address.below(f"{path}/{name}")
        self._url = url.update_query(self._form.query) if self._form.query else url
        self._headers = {"Accept-Encoding": encoding}
        self._session = session
        self._limit = options.max_frame_size
        send_url = address.below(f"{path}/{self._form.sends_to}")
        self.failed: Callable[[TransportError], None] = lambda error: None
        self._sender = HttpSender(session, send_url, options, lambda error: self.failed(error))
        self._response: ClientResponse | None = None
        self._reader = self._form.reader(self._limit)
        self._frames: collections.deque[bytes] = collections.deque()
        # of the present response
        self._began = 0.0
        self._has_frames = False

    async def open(self) -> ServerFrame:
        """Make the first request, and return the first frame."""
        return await self.receive()

    async def receive(self) -> ServerFrame:
        """Return the next frame, from this response or the next."""
        with failures():
            while not self._frames:
                if self._response is None:
                    await self._request()
                else:
                    await self._read(self._response)
            return decode_frame(self._frames.popleft())

    async def _request(self) -> None:
        self._reader = self._form.reader(self._limit)
        self._began, self._has_frames = time.monotonic(), False
        response = await self._session.request(
            self._method,
            self._url,
            timeout=ClientTimeout(total=None),
            allow_redirects=False,
            headers=self._headers,
        )
        if response.status != 200:
            response.close()
            raise refused(f"{self.name} request", response.status)
        self._response = response

    async def _read(self, response: ClientResponse) -> None:
        try:
            data = await response.content.readany()
        except aiohttp.ClientError as error:
            self._drop_response()
            await self._ask_why(error)
            return
        self._add(self._reader.feed(data) if data else self._reader.end())
        if data:
            return
        self._response = None
        if not self._has_frames and time.monotonic() - self._began < _HURRY:
            raise TransportError(f"the server ended a {self.name} response without a frame", 1002)

    async def _ask_why(self, cut: aiohttp.ClientError) -> None:
        """A response was cut off, perhaps with frames: go on only to a close frame."""
        try:
            async with async_timeout.timeout(_ANSWER):
                await self._request()
                while not self._frames and self._response is not None:
                    data = await self._response.content.readany()
                    if data:
                        self._add(self._reader.feed(data))
                        continue
                    self._response = None
                    with contextlib.suppress(ServerFrameError):  # there may be no frame
                        self._add(self._reader.end())
        except (aiohttp.ClientError, asyncio.TimeoutError):
            pass
        if not self._frames or decode_frame(self._frames[0]).kind != "c":
            raise TransportError("a response was cut off") from cut

    def _add(self, frames: list[bytes]) -> None:
        self._has_frames = self._has_frames or bool(frames)
        self._frames += frames

    def _drop_response(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    async def send(self, message: Message) -> None:
        """Queue a message; wait if the queue is full."""
        if isinstance(message, bytes):
            raise TypeError(
                "send(bytes) is for the transport rawwebsocket: SockJS messages are str"
            )
        await self._sender.send(message)

    async def ping(self) -> None:
        """Do nothing: the server's heartbeats are its only signs of life."""

    async def close(self, code: int, reason: str) -> None:
        """Send what is queued, then drop the response, which tells the server."""
        try:
            await self._sender.drain()
        finally:
            await self.abort(code)

    async def abort(self, code: int = LOST) -> None:
        """Drop the request that sends and the one that receives."""
        await self._sender.stop()
        self._drop_response()
