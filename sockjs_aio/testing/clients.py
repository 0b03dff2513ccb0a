"""The clients of a test: real ones, over a real network that fails when you say so."""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

import aiohttp
import async_timeout
from aiohttp import web

from sockjs_aio.client import ClientSocket, connect
from sockjs_aio.client.options import TRANSPORTS as CLIENTS_TRANSPORTS
from sockjs_aio.connection import SockJSConnection
from sockjs_aio.core.websocket_session import InlineSession
from sockjs_aio.protocol.ends import UNANSWERED
from sockjs_aio.session_info import CloseInfo
from sockjs_aio.testing.network import Network
from sockjs_aio.testing.server import MARK, Opened, server_of

TRANSPORTS = ("rawwebsocket", *CLIENTS_TRANSPORTS)
"""All transports, for tests that run on each of them."""

_PAUSE = 0.002
"""Seconds between two looks at the server."""

T = TypeVar("T")


class Client:
    """A client of your application, and the server's side of it.  Make it with `client`.

    What it waits for must come within `timeout` seconds, or it raises an AssertionError.
    """

    def __init__(
        self,
        app: web.Application,
        url: str,
        transport: str,
        timeout: float,
        headers: Mapping[str, str],
        cookies: Mapping[str, str],
    ) -> None:
        self.transport = transport
        self._server = server_of(app)
        self._url = url
        self._timeout = timeout
        self._headers = headers
        self._cookies = cookies
        self._mark = secrets.token_hex(8)
        self._stack = contextlib.AsyncExitStack()
        self._network: Network | None = None
        self._socket: ClientSocket | None = None

    async def __aenter__(self) -> "Client":
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(self._server.used())
            self._network = Network(server.port)
            stack.push_async_callback(self._network.stop)
            port = await self._network.start()
            headers = {**self._headers, MARK: self._mark}
            jar = aiohttp.CookieJar(unsafe=True)
            session = await stack.enter_async_context(
                aiohttp.ClientSession(headers=headers, cookies=self._cookies, cookie_jar=jar)
            )
            url = f"http://127.0.0.1:{port}{self._url}"
            self._socket = await connect(url, transports=self.transport, session=session)
            stack.push_async_callback(self._leave)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _leave(self) -> None:
        if not self._open_network.is_working:  # nobody would hear a close frame
            self._open_network.take_down()
        await self.socket.close()

    # The client's side.

    @property
    def socket(self) -> ClientSocket:
        """The Python client's own connection; it has everything else."""
        assert self._socket is not None, "use it as `async with client(...) as socket:`"
        return self._socket

    @property
    def close_code(self) -> int | None:
        """The close code that the client got; None while its connection is open."""
        return self.socket.close_code

    @property
    def close_reason(self) -> str | None:
        """The close reason that the client got; None while its connection is open."""
        return self.socket.close_reason

    async def send(self, *messages: str) -> None:
        """Send messages."""
        for message in messages:
            await self.socket.send(message)

    async def receive(self) -> Any:
        """Return the next message: a `str`, or `bytes` that came over a raw WebSocket.

        Raises:
            ConnectionClosedError: If the connection has ended instead.
        """
        return await self._soon(self.socket.receive(), "no message has come")

    def __aiter__(self) -> "Client":
        return self

    async def __anext__(self) -> Any:
        return await self._soon(self.socket.__anext__(), "no message and no end has come")

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close, as the page's `socket.close()` does."""
        await self.socket.close(code, reason)

    # The server's side.

    @property
    def connection(self) -> Any:
        """Your connection object for this client, an instance of your class."""
        connection: SockJSConnection = self._opened.connection
        return connection

    @property
    def close_info(self) -> CloseInfo | None:
        """The connection's `close_info`: how the session ended; None while it is open."""
        return self._opened.connection.close_info

    async def closed(self) -> CloseInfo:
        """Wait until the session has ended and `on_close` has returned; return `close_info`."""
        hooks = self._opened.session.hooks
        await self._until(
            lambda: self.close_info is not None and hooks.is_finished, "the session has not ended"
        )
        assert self.close_info is not None, "it was there a moment ago"
        return self.close_info

    # What may happen to clients.

    async def drop(self) -> None:
        """Break the network: reset all TCP connections, and refuse new ones.

        The server notices at once; this returns when it has.
        """
        await self._until(self._is_attached, "the client does not ask for messages")
        self._open_network.take_down()
        await self._until(lambda: not self._opened.session.is_open, "the session has not ended")

    def vanish(self) -> None:
        """Vanish without a word, like a phone in a tunnel: the server hears nothing more.

        The server notices after its timeouts; `expire` does not wait for them.
        """
        self._open_network.hold()

    def stall(self) -> None:
        """Have the network hold everything, in both directions, until `resume`."""
        self._open_network.hold()

    def stop_reading(self) -> None:
        """Read nothing more until `resume`; what the client sends still arrives."""
        self._open_network.hold(to_server=False)

    def resume(self) -> None:
        """Let go of what `stall` or `stop_reading` holds up."""
        self._open_network.resume()

    async def expire(self) -> None:
        """Vanish, and let all timeouts of the server pass at once.

        On HTTP transports the session ends by `disconnect_delay`, on WebSockets by a ping that is
        not answered: `close_info.initiator` is ``"timeout"``.
        """
        self.vanish()
        session = self._opened.session
        if isinstance(session, InlineSession):
            if session.is_open and (writer := session._writer) is not None:
                session.peer_failed(UNANSWERED)
                writer.abort()
            return
        session.end_response()

        def is_over() -> bool:
            if session.is_open:
                session.tick(session.deadline())
            return not session.is_open

        await self._until(is_over, "the session has not expired")

    # Inside.

    @property
    def _open_network(self) -> Network:
        assert self._network is not None, "use it as `async with client(...) as socket:`"
        return self._network

    @property
    def _opened(self) -> Opened:
        opened = self._server.opened.get(self._mark)
        assert opened is not None, "use it as `async with client(...) as socket:`"
        return opened

    def _is_attached(self) -> bool:
        session = self._opened.session
        return session.has_http_writer or "websocket" in self.transport or not session.is_open

    async def _until(self, is_true: Callable[[], bool], complaint: str) -> None:
        async def look() -> None:
            while not is_true():
                await asyncio.sleep(_PAUSE)

        await self._soon(look(), complaint)

    async def _soon(self, awaitable: Awaitable[T], complaint: str) -> T:
        try:
            async with async_timeout.timeout(self._timeout):
                return await awaitable
        except asyncio.TimeoutError:
            raise AssertionError(f"{complaint} within {self._timeout:g} s") from None


ClientFactory: TypeAlias = Callable[..., Client]
"""What the fixture `sockjs` is: `client`, with one of the transports."""


def client(
    app: web.Application,
    url: str = "",
    *,
    transport: str = "websocket",
    headers: Mapping[str, str] | None = None,
    cookies: Mapping[str, str] | None = None,
    timeout: float = 5,
) -> Client:
    """Serve `app`, if that is not done yet, and connect to it.

    Args:
        app: An application with a router, not started yet.  It ends with its last client.
        url: The service's prefix, and a query if you like, such as ``"/chat?token=x"``.
        transport: The name of the transport, one of `TRANSPORTS`.
        headers: Headers of all requests, such as ``{"Authorization": "Bearer x"}``.
        cookies: Cookies of all requests.
        timeout: Seconds that messages and the like may take; then it raises an AssertionError.

    Returns:
        What you use as ``async with client(...) as socket:``.  Connecting raises a ConnectError if
        the server refuses.
    """
    return Client(app, url, transport, timeout, headers or {}, cookies or {})
