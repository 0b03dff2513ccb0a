"""Examines one transport: does it open at once, and echo, and how long may it be silent?"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import async_timeout

from sockjs_aio.cli.doctor.findings import (
    BUFFERING,
    NO_ECHO,
    STICKINESS,
    UNREACHABLE,
    UPGRADE,
    Finding,
    timeouts,
)
from sockjs_aio.cli.doctor.sends_check import post
from sockjs_aio.client.address import Address, session_path
from sockjs_aio.client.http_transport import HttpTransport
from sockjs_aio.client.options import ClientOptions
from sockjs_aio.client.transport import Transport, TransportError, failures
from sockjs_aio.client.websocket import RawWebSocket, WebSocket
from sockjs_aio.protocol.ends import INTERRUPTED
from sockjs_aio.protocol.server_frames import ServerFrame

_FOR_ALL_ORIGINS = ("jsonp", "htmlfile")
"""Transports that are off if the service's `origins` are not ``"*"``."""

_SLOW = 2.0
"""Seconds after which an open frame was probably held back by something."""


class TransportCheck:
    """The examination of one transport.

    Args:
        name: The transport.
        session: What requests are made with.
        address: Where the service is.
        timeout: Seconds that it may take to open.
        silence: Seconds to wait for a heartbeat.
        echo: A message that the service sends back; None to send no message.
    """

    def __init__(
        self,
        name: str,
        session: aiohttp.ClientSession,
        address: Address,
        timeout: float,
        silence: float,
        echo: str | None,
    ) -> None:
        self._name = name
        self._session = session
        self._address = address
        self._timeout = timeout
        self._silence = silence
        self._echo = echo
        self._path = session_path()

    async def run(self) -> Finding:
        """Examine it."""
        loop = asyncio.get_running_loop()
        async with self._transport() as transport:
            began = loop.time()
            try:
                with failures():
                    async with async_timeout.timeout(self._timeout):
                        frame = await transport.open()
            except TransportError as error:
                return await self._why_not_open(error)
            if frame.kind == "c":
                text = f"the service closes it at once: {frame.code} {frame.reason}"
                return self._finding("broken", text)
            opened = loop.time() - began
            if opened > _SLOW and self._is_stream:
                text = f"the open frame was held back for {opened:.1f} s"
                return self._finding("broken", text, BUFFERING)
            return await self._use(transport, f"opened in {opened * 1000:.0f} ms")

    @property
    def _is_stream(self) -> bool:
        return self._name in ("xhr_streaming", "eventsource", "htmlfile")

    @property
    def _is_websocket(self) -> bool:
        return self._name.endswith("websocket")

    @contextlib.asynccontextmanager
    async def _transport(self) -> AsyncIterator[Transport]:
        options = ClientOptions(close_timeout=1)
        transport: Transport
        if self._name == "rawwebsocket":
            url = self._address.below("/websocket")
            transport = RawWebSocket(self._session, url, options)
        elif self._name == "websocket":
            url = self._address.below(f"{self._path}/websocket")
            transport = WebSocket(self._session, url, options)
        else:
            transport = HttpTransport(
                self._name,
                self._session,
                self._address,
                self._path,
                options,
                encoding="gzip, deflate",  # as browsers
            )
        try:
            yield transport
        finally:
            await transport.abort(1000)

    def _finding(self, verdict: str, text: str, advice: tuple[str, ...] = ()) -> Finding:
        return Finding(self._name, verdict, text, advice)  # type: ignore[arg-type]

    async def _why_not_open(self, error: TransportError) -> Finding:
        """Return why there is no open frame; the request is still waiting for it."""
        is_late = isinstance(error.__cause__, asyncio.TimeoutError)
        if is_late and not self._is_websocket and await self._has_session():
            text = "the service has answered, but something holds its answer back"
            return self._finding("broken", text, BUFFERING)
        if is_late:
            return self._finding("broken", f"no answer within {self._timeout:g} s", UNREACHABLE)
        if self._is_websocket and error.status in (200, 400, 426, 501):
            text = f"the upgrade does not reach the service ({error.status})"
            return self._finding("broken", text, UPGRADE)
        if error.status == 404:
            return self._finding("note", "is not served (404)", _disabled(self._name))
        return self._finding("broken", str(error))

    async def _has_session(self) -> bool:
        with contextlib.suppress(TransportError):
            return await post(self._session, self._address, self._path, b"[]") in (200, 204)
        return False

    async def _use(self, transport: Transport, seen: str) -> Finding:
        """Have a message echoed, if one was given; then wait for a heartbeat."""
        if self._echo is not None:
            loop = asyncio.get_running_loop()
            began = loop.time()
            try:
                with failures():
                    async with async_timeout.timeout(self._timeout):
                        await transport.send(self._echo)
                        while not _has(await transport.receive(), self._echo):
                            pass
            except TransportError as error:
                return self._finding("broken", f"{seen}, but did not echo ({error})", NO_ECHO)
            seen += f", echoed in {(loop.time() - began) * 1000:.0f} ms"
        return await self._wait(transport, seen)

    async def _wait(self, transport: Transport, opened: str) -> Finding:
        """Wait for a heartbeat, or for the end of the connection."""
        loop = asyncio.get_running_loop()
        since = began = loop.time()
        while (left := began + self._silence - loop.time()) > 0:
            try:
                with failures():
                    async with async_timeout.timeout(left):
                        frame = await transport.receive()
            except TransportError as error:
                if isinstance(error.__cause__, asyncio.TimeoutError):
                    break
                return self._cut(loop.time() - since, str(error))
            silent, since = loop.time() - since, loop.time()
            if isinstance(frame, bytes) or frame.kind == "a":
                continue  # the service has something to say
            if frame.kind == "h":
                text = f"{opened}, and its first heartbeat came after {silent:.3g} s"
                return self._finding("ok", text)
            return self._ended(frame, silent)
        text = f"{opened}, and stayed open for {self._silence:g} s without a heartbeat"
        return self._finding("ok", text)

    def _ended(self, frame: ServerFrame, silent: float) -> Finding:
        if frame.kind == "o" and self._name in ("xhr", "jsonp"):
            text = "its second request opened another session: it reached another process"
            return self._finding("broken", text, STICKINESS)
        # a stream that was cut shows in the answer to the next request
        is_cut = frame.kind == "o" or (frame.code, frame.reason) == tuple(INTERRUPTED)
        if is_cut or (self._is_websocket and frame.code in (1001, 1005, 1006)):
            return self._cut(silent, "the session was lost with it")
        text = f"the service closed it after {silent:.3g} s: {frame.code} {frame.reason}"
        return self._finding("note", text)

    def _cut(self, seconds: float, why: str) -> Finding:
        text = f"was cut after {seconds:.3g} s of silence, before a heartbeat came ({why})"
        return self._finding("broken", text, timeouts(seconds))


def _disabled(name: str) -> tuple[str, ...]:
    advice = "remove it from the setting disabled_transports, or let the proxy pass it"
    if name in _FOR_ALL_ORIGINS:
        return ("the setting allow_jsonp_and_frames, if origins is a list", f"or {advice}")
    return (advice,)


def _has(frame: ServerFrame | bytes, message: str) -> bool:
    """Tell whether a frame has a message; a frame that ends the session is an error."""
    if isinstance(frame, bytes):
        return False
    if frame.kind in ("o", "c"):
        raise TransportError(f"the session ended: {frame.code} {frame.reason}".rstrip(" 0"))
    return message in frame.messages
