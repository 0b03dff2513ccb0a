"""The contract between a connection and what carries it, and how failures are told."""

import asyncio
import http
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import aiohttp

from sockjs_aio.errors import ServerFrameError, SockJSError
from sockjs_aio.protocol.server_frames import ServerFrame

Message = str | bytes

LOST = 1006
"""The code of a connection that was lost."""


class TransportError(SockJSError):
    """A transport cannot go on.

    Args:
        message: What happened.
        code: The close code for it.
        status: The HTTP status that the server answered, if it did.
    """

    def __init__(self, message: str, code: int = LOST, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Transport(Protocol):
    """Carries the frames and messages of one connection.

    One task calls `open` and then `receive`, again and again; `send` is called for one message
    after another.  All but `abort` raise a TransportError when they cannot go on.
    """

    name: str
    failed: Callable[[TransportError], None]
    """Called if a queued message cannot be sent; you set it."""

    async def open(self) -> ServerFrame:
        """Connect, and return the first frame."""
        ...

    async def receive(self) -> ServerFrame | bytes:
        """Return the next frame; a heartbeat for any sign of life.  A raw WebSocket has bytes."""
        ...

    async def send(self, message: Message) -> None:
        """Send a message, or queue it; wait if the queue is full."""
        ...

    async def ping(self) -> None:
        """Ask the server for a sign of life, if the transport can."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Send what is queued, and close as sockjs-client does."""
        ...

    async def abort(self, code: int) -> None:
        """Release all that is open, at once.  Does not raise, and may be called at any time."""
        ...


@contextmanager
def failures() -> Iterator[None]:
    """Turn what aiohttp and the parsers raise into a TransportError."""
    try:
        yield
    except ServerFrameError as error:
        raise TransportError(str(error), 1002) from error
    except aiohttp.WSServerHandshakeError as error:
        raise refused("handshake", error.status) from None
    except aiohttp.ClientHttpProxyError as error:
        raise refused("request", error.status, by="proxy") from None
    except aiohttp.ClientProxyConnectionError as error:
        raise TransportError(f"the proxy: {error}") from error
    except aiohttp.ServerDisconnectedError as error:  # its text may have the headers of an answer
        raise TransportError("the server ended the connection") from error
    except aiohttp.ClientResponseError as error:  # its text has the URL, which may have a token
        raise TransportError(f"the server did not answer in HTTP: {error.message}") from None
    except asyncio.TimeoutError as error:
        raise TransportError("the server did not answer in time") from error
    except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
        # RuntimeError: the ClientSession is closed; ValueError: a header that HTTP does not allow
        raise TransportError(f"{error or type(error).__name__}") from error


def refused(what: str, status: int, by: str = "server") -> TransportError:
    """Return the error for a `status` that `what`, a request, should not have got."""
    try:
        meaning = f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        meaning = str(status)
    return TransportError(f"the {by} answered the {what} with {meaning}", status=status)
