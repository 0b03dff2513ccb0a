"""Short responses, written in one piece.

Micro-optimisation: aiohttp needs 14 us to write a `web.Response`, mostly for features that our
responses do not use: compression, chunks, cookies, HTTP/1.0, closing the connection.  If the
request or a middleware asks for one of these, we leave the response to aiohttp.  Otherwise we
join the same bytes from a ready-made head, in half the time.
"""

import email.utils
import functools
import time
from collections.abc import Callable, Coroutine
from http.cookies import SimpleCookie
from typing import Any, TypeVar, cast

from aiohttp import HttpVersion11, web

from sockjs_aio.core.events import Reason
from sockjs_aio.server.aiohttp_internals import (
    SERVER,
    DirectResponse,
    ResponseWriter,
    apps_of,
    writer_of,
)
from sockjs_aio.server.headers import PLAIN, Head

RETRY_AFTER = "5"
"""``Retry-After`` of a refusal for lack of room, in seconds."""


_REASON = web.ResponseKey("sockjs_aio reason", str)

R = TypeVar("R", bound=web.StreamResponse)


def because(reason: Reason, refusal: R) -> R:
    """Record on a refusal why it refuses, for `reason_of`."""
    refusal[_REASON] = reason
    return refusal


def reason_of(refusal: web.StreamResponse) -> Reason:
    """Return why a response refuses its request."""
    usual = "unavailable" if refusal.status == 503 else "bad_request"
    return cast(Reason, refusal.get(_REASON, usual))


def plain_response(status: int, text: str) -> web.Response:
    """Make a short text response."""
    return web.Response(status=status, body=text.encode(), headers={"Content-Type": PLAIN})


def unavailable(text: str) -> web.HTTPServiceUnavailable:
    """Make a 503 response with ``Retry-After``."""
    return web.HTTPServiceUnavailable(text=text, headers={"Retry-After": RETRY_AFTER})


Hook = Callable[[web.Request, web.StreamResponse], Coroutine[Any, Any, None]]


class ShortResponse(DirectResponse, web.Response):
    """A response to GET or POST.

    Args:
        head: Status and headers.
        body: None if the status does not allow a body.
    """

    _is_sent = False  # without aiohttp's help
    _has_cookies = False

    def __init__(self, head: Head, body: bytes | None = None) -> None:
        super().__init__(status=head.status, body=body, headers=head.headers)
        self._head = head

    async def prepare(self, request: web.BaseRequest) -> ResponseWriter | None:
        """Start the response; the head leaves with the body."""
        if self._direct is None:
            if not self._is_as_made(request):
                return await super().prepare(request)
            self._direct = writer_of(request)
        return self._direct

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the response."""
        if self._direct is None:
            await super().write_eof(data)
        elif not self._is_sent:
            await self._direct.write(self._complete())
            await self._direct.drain()
            self._is_sent = True

    def _is_as_made(self, request: web.BaseRequest) -> bool:
        """Tell whether the response is still only `head` and a body, and keeps the connection."""
        head = self._head
        return (
            self.headers == head.headers
            and self.status == head.status
            and self.reason == head.reason
            and (type(self.body) is bytes) == (head.status != 204)
            and not (self.compression or self.chunked or self._has_cookies)
            and self.keep_alive is None
            and request.keep_alive
            and request.version == HttpVersion11
            and not has_hooks(request)
        )

    def _complete(self) -> bytes:
        """Return all bytes of the response.

        Set the last headers too, as aiohttp does: an access log may show them.
        """
        headers = self.headers
        headers["Date"], _ = _dated(int(time.time()))
        headers["Server"] = SERVER
        if not isinstance(self.body, bytes):
            return complete(self._head, None)
        headers["Content-Length"] = str(len(self.body))
        return complete(self._head, self.body)

    # What aiohttp, access logs and middlewares read.

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open; None if that is not known yet."""
        return True if self._direct is not None else super().keep_alive

    @property
    def cookies(self) -> "SimpleCookie":
        """The cookies to set."""
        self._has_cookies = True
        return super().cookies

    def set_cookie(self, *args: Any, **kwargs: Any) -> None:
        """Set a cookie; `del_cookie` calls this too."""
        self._has_cookies = True
        super().set_cookie(*args, **kwargs)


def for_refusals(hook: Hook) -> Hook:
    """Mark an `on_response_prepare` hook as one that does not change a `ShortResponse`.

    Any other hook makes aiohttp write the response.
    """
    setattr(hook, _FOR_REFUSALS, True)
    return hook


_FOR_REFUSALS = "sockjs_for_refusals"


def complete(head: Head, body: bytes | None, *, is_last: bool = False) -> bytes:
    """Return all bytes of a response.

    Args:
        head: Its status and headers.
        body: Its body; None if the status does not allow one.
        is_last: Whether the connection is closed after it.
    """
    _, rest = _dated(int(time.time()))
    if is_last:
        rest = rest[:-2] + b"Connection: close\r\n\r\n"
    if body is None:
        return head.block + rest
    return b"%bContent-Length: %d\r\n%b%b" % (head.block, len(body), rest, body)


def begun(head: Head) -> bytes:
    """Return the beginning of a response whose body follows in chunks."""
    _, rest = _dated(int(time.time()))
    return b"%bTransfer-Encoding: chunked\r\n%b" % (head.block, rest)


def switched(accepted: str) -> bytes:
    """Return the response to a WebSocket's handshake, as aiohttp writes it."""
    _, rest = _dated(int(time.time()))
    return b"%bSec-WebSocket-Accept: %b\r\n%b" % (_SWITCHED, accepted.encode(), rest)


_SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"


@functools.lru_cache(maxsize=1)
def _dated(second: int) -> tuple[str, bytes]:
    """Return the date, and the header lines that depend only on the date."""
    date = email.utils.formatdate(second, usegmt=True)
    return date, f"Date: {date}\r\nServer: {SERVER}\r\n\r\n".encode()


def has_hooks(request: web.BaseRequest) -> bool:
    """Tell whether an application has a hook that needs to see this response before it starts."""
    assert isinstance(request, web.Request), "a router's requests are of this type"
    for app in apps_of(request):
        for hook in app.on_response_prepare:
            if not hasattr(hook, _FOR_REFUSALS):
                return True
    return False
