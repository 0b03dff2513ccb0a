"""Other processes of the service: connections to them, and questions about their sessions."""

import asyncio
import errno
from collections.abc import Callable
from urllib.parse import quote

import aiohttp
from aiohttp import ClientError, hdrs, web
from yarl import URL

from sockjs_aio.cluster.relay.signed_header import HEADER

Stamp = Callable[[str, str], str]
"""Makes the signed header for a request, given its method and target."""

CONNECT_LIMIT = 2.0
"""Seconds within which a connection to another process must be made."""

BUFFER = 65536
"""Bytes of a body that may wait here, in either direction, before this process stops reading."""

MAX_HEADER = 65536
"""Bytes that one header of another process's response may have."""

_ASK_TIMEOUT = aiohttp.ClientTimeout(total=5)

_AUTOMATIC = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE)


class OwnerAbsentError(Exception):
    """No connection to the owner can be made; the cause says why."""


class OwnerLostError(Exception):
    """The owner ended before it answered, or it cannot be reached."""


class ExhaustedError(Exception):
    """This process has no resources for another connection; the other one may be well."""


class OwnerSilentError(OwnerLostError):
    """The owner does not answer, and it is not known whether it has ended."""


class PeerBrokeError(ClientError):
    """The connection was lost before the answer came."""


def is_silence(error: BaseException | None) -> bool:
    """Tell whether a connection ended because the other host went silent, not its process."""
    if isinstance(error, asyncio.TimeoutError):
        return True
    return isinstance(error, OSError) and error.errno in _SILENT


_SILENT = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN)


class Peer:
    """Another process of the service.

    Args:
        url: Its URL, without a path.
        client: From `make_client`; several peers may share one.
        patience: Seconds to wait for it, while it starts, with a request that may open a session.
        name: Its name, if another process may take its place at `url`.
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
    """Make a client for requests to other processes.  Close it when done."""
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
    """Keep aiohttp from repeating a poll: the other process may have got the first one."""
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
    """Find out why a connection failed.

    Raises:
        ExhaustedError: If this process has run out of file descriptors or memory.
    """
    if error.os_error.errno in _NO_ROOM:
        raise ExhaustedError(error.os_error.strerror) from error


_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def url_at(request: web.Request, peer: Peer) -> URL:
    """Return the URL for a request at a peer: the same target, with invalid bytes quoted."""
    target = request.raw_path
    if target[:1] != "/" or "#" in target:
        target = request.rel_url.raw_path_qs
    if not target.isascii():
        target = quote(target.encode("utf-8", "surrogateescape"), safe=_ASCII)
    return URL(peer.url + target, encoded=True)


_ASCII = bytes(range(0x21, 0x7F))


async def ask(request: web.Request, peer: Peer, stamp: Stamp) -> int:
    """Ask another process about the session of `request`; return the status of its answer.

    Raises:
        OwnerSilentError: If it does not answer in time.
        OwnerLostError: If it has ended, or cannot be reached.
        ExhaustedError: If this process cannot open another connection.
    """
    url = url_at(request, peer)
    headers = {HEADER: stamp(request.method, url.raw_path_qs)}
    try:
        async with peer.client.request(
            request.method, url, headers=headers, timeout=_ASK_TIMEOUT, allow_redirects=False
        ) as answer:
            return answer.status
    except aiohttp.ClientConnectorError as error:
        check_room(error)
        raise OwnerLostError from error
    except asyncio.TimeoutError as error:
        raise OwnerSilentError from error
    except ClientError as error:
        raise OwnerLostError from error
