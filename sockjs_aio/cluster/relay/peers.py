"""Other processes of the service, the connections to them, and questions that they are asked."""

import asyncio
import errno
from collections.abc import Callable
from urllib.parse import quote

import aiohttp
from aiohttp import ClientError, hdrs, web
from yarl import URL

from sockjs_aio.cluster.relay.signed_header import HEADER

Stamp = Callable[[str, str], str]
"""Makes the signed for a request of a method for a target."""

CONNECT_LIMIT = 2.0
"""Seconds for a connection to another process."""

BUFFER = 65536
"""Bytes of a body, in either direction, beyond which this waits for who has to take them."""

MAX_HEADER = 65536
"""Bytes that a header of another process's response may have."""

_ASK_TIMEOUT = aiohttp.ClientTimeout(total=5)

_AUTOMATIC = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE)


class OwnerLostError(Exception):
    """The process that has the session has ended before it has answered, or cannot be reached."""


class ExhaustedError(Exception):
    """This process can make no connection: it says nothing of the other one."""


class OwnerSilentError(OwnerLostError):
    """The process that has the session does not answer, and nobody knows whether it has ended."""


class PeerBrokeError(ClientError):
    """The connection has ended before there was an answer."""


def is_silence(error: BaseException | None) -> bool:
    """Tell whether a connection has ended as nothing came any more, and not as a process ended."""
    if isinstance(error, asyncio.TimeoutError):
        return True
    return isinstance(error, OSError) and error.errno in _SILENT


def end_of(connection: aiohttp.connector.Connection | None) -> BaseException | None:
    """Return what has ended a connection; the error of a body tells that in its text only."""
    if connection is None or connection.protocol is None:
        return None
    return connection.protocol.exception()


_SILENT = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN)


class Peer:
    """Another process of the service.

    Args:
        url: Where it is, without a path.
        client: The connections to it, of `make_client`; perhaps to others, too.
        patience: Seconds that a request which may open a session waits if it is being started.
        name: What it calls itself, if others may take its place at `url`.
    """

    def __init__(
        self, url: str, client: aiohttp.ClientSession, patience: float = 0, name: str = ""
    ) -> None:
        self.url = url
        self.client = client
        self.patience = patience
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"


def make_client(
    connector: aiohttp.BaseConnector, connect_limit: float = CONNECT_LIMIT
) -> aiohttp.ClientSession:
    """Make what keeps connections to other processes; has to be closed."""
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=_AUTOMATIC,
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_limit),
        read_bufsize=BUFFER,
        max_line_size=MAX_HEADER,
        max_field_size=MAX_HEADER,
        middlewares=[_once],
    )


async def _once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from asking again: a poll that the other process had would start another one."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (
        aiohttp.ClientOSError,
        aiohttp.ServerDisconnectedError,
        aiohttp.SocketTimeoutError,
    ) as error:
        raise PeerBrokeError from error


def check_room(error: aiohttp.ClientConnectorError) -> None:
    """Look why there is no connection.

    Raises:
        ExhaustedError: If that is because this process has too much of something.
    """
    if error.os_error.errno in _NO_ROOM:
        raise ExhaustedError(error.os_error.strerror) from error


_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def url_at(request: web.Request, peer: Peer) -> URL:
    """Return where a request goes: its path as it came, but for bytes that may not be there."""
    target = request.raw_path
    if target[:1] != "/" or "#" in target:
        target = request.rel_url.raw_path_qs
    if not target.isascii():
        target = quote(target.encode("utf-8", "surrogateescape"), safe=_ASCII)
    return URL(peer.url + target, encoded=True)


_ASCII = bytes(range(0x21, 0x7F))


async def ask(request: web.Request, peer: Peer, stamp: Stamp) -> int:
    """Ask another process about the session of `request`; return its answer's status.

    Raises:
        OwnerLostError: If there is no answer.
        ExhaustedError: If this process cannot ask.
    """
    url = url_at(request, peer)
    headers = {HEADER: stamp(request.method, url.raw_path_qs)}
    try:
        async with peer.client.request(
            request.method, url, headers=headers, timeout=_ASK_TIMEOUT
        ) as answer:
            return answer.status
    except aiohttp.ClientConnectorError as error:
        check_room(error)
        raise OwnerLostError from error
    except (ClientError, asyncio.TimeoutError) as error:
        raise OwnerLostError from error
