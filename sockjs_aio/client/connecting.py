"""`connect`: one connection, or one after another whenever the last has ended."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Collection, Generator
from typing import Any

from aiohttp import ClientSession, CookieJar

from sockjs_aio.client.address import Address
from sockjs_aio.client.fallback import open_transport
from sockjs_aio.client.options import TRANSPORTS, ClientOptions, checked_transports
from sockjs_aio.client.socket import ClientSocket
from sockjs_aio.errors import ConnectError, ConnectionClosedError

logger: logging.Logger = logging.getLogger("sockjs_aio")

FIRST_DELAY = 1.0
"""Seconds of the first pause at the most; each further one may be twice as long."""


class connect:
    """Connects to a SockJS service.

    Use it in one of three ways: ``async with connect(...) as socket:`` closes the connection at the
    end of the block; ``socket = await connect(...)`` leaves that to you; and
    ``async for socket in connect(...):`` connects again whenever your block has ended, after a
    random pause that grows with each attempt that fails or does not last.  Leave that loop with
    ``break``.

    Args:
        url: The URL of the service, such as ``https://example.com/chat``.  Its query goes along
            with each request.
        transports: The names of the transports to try, in this order.  ``rawwebsocket`` is not
            among those that are tried by default.  You may write a single name.
        session: An aiohttp session for all requests: give it headers, cookies, a proxy or a TLS
            context.  It stays open.  Without one, each connection has its own.
        options: Times and limits.

    Raises:
        SettingsError: If `url` is not the URL of a service, or there is no such transport.

    When it connects, it raises a ConnectError if that fails, or a ConnectionClosedError if the
    server closes the session at once.  The loop goes on after both, unless a later attempt cannot
    succeed either, as after a 404.
    """

    def __init__(
        self,
        url: str,
        *,
        transports: Collection[str] = TRANSPORTS,
        session: ClientSession | None = None,
        options: ClientOptions | None = None,
    ) -> None:
        self._address = Address(url)
        self._names = checked_transports(transports)
        self._session = session
        self._options = options or ClientOptions()
        self._socket: ClientSocket | None = None

    async def _open(self) -> ClientSocket:
        session = self._session
        if session is None:
            # servers without a name have cookies too, such as that of a load balancer
            session = ClientSession(cookie_jar=CookieJar(unsafe=True))
        elif session.closed:
            message = "the ClientSession that you passed to connect() is closed"
            raise ConnectError(message, is_temporary=False)
        release = session.close if self._session is None else _nothing
        try:
            transport = await open_transport(session, self._address, self._names, self._options)
        except BaseException:
            await release()
            raise
        socket = ClientSocket(transport, self._options, release)
        try:
            await asyncio.sleep(0)  # its reader begins, and releases all whatever comes next
        except asyncio.CancelledError:
            socket.close_soon()
            raise
        return socket

    def __await__(self) -> Generator[Any, None, ClientSocket]:
        return self._open().__await__()

    async def __aenter__(self) -> ClientSocket:
        self._socket = await self._open()
        return self._socket

    async def __aexit__(self, *error: object) -> None:
        assert self._socket is not None, "__aenter__ comes first"
        await self._socket.close()

    async def __aiter__(self) -> AsyncIterator[ClientSocket]:
        loop = asyncio.get_running_loop()
        longest = FIRST_DELAY
        while True:
            began = loop.time()
            try:
                socket = await self._open()
            except (ConnectError, ConnectionClosedError) as error:
                if isinstance(error, ConnectError) and not error.is_temporary:
                    raise
                why = str(error)
            else:
                try:
                    yield socket
                finally:  # without await: after `break`, the end of the program may come first
                    closing = socket.close_soon()
                await closing
                why = f"closed: {socket.close_code} {socket.close_reason}"
            if loop.time() - began > self._options.reconnect_limit:
                longest = FIRST_DELAY
            longest = min(longest, self._options.reconnect_limit)
            delay = random.uniform(0, longest)
            logger.info("%s: %s; connecting again in %.1f s", self._address, why, delay)
            await asyncio.sleep(delay)
            longest *= 2


async def _nothing() -> None:
    """Release nothing: the session is yours."""
