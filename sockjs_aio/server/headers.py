"""Response headers: content types, caching and CORS.

Sections of the protocol: "Static URLs", "CORS".
"""

import email.utils
import functools
import time
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web
from multidict import CIMultiDict

Headers = CIMultiDict[str]

PLAIN = "text/plain; charset=UTF-8"
HTML = "text/html; charset=UTF-8"
JSON = "application/json; charset=UTF-8"
JAVASCRIPT = "application/javascript; charset=UTF-8"
EVENT_STREAM = "text/event-stream"

HOUR = 3600  # seconds
YEAR = 31536000

MAX_ORIGIN = 256
"""Maximum length of an origin whose response heads are cached."""

_NO_CACHE = "no-store, no-cache, no-transform, must-revalidate, max-age=0"


def uncached(content_type: str) -> Headers:
    """Make the headers of a response that no cache or proxy may store or alter."""
    return CIMultiDict({"Content-Type": content_type, "Cache-Control": _NO_CACHE})


def cached(content_type: str | None = None, seconds: int = YEAR) -> Headers:
    """Make the headers of a response that may be stored for `seconds`."""
    headers: Headers = CIMultiDict({"Cache-Control": f"public, max-age={seconds}"})
    headers["Expires"] = email.utils.formatdate(time.time() + seconds, usegmt=True)
    if content_type is not None:
        headers["Content-Type"] = content_type
    return headers


def allow_origin(request: web.Request, headers: Headers) -> None:
    """Let the requesting page read the response; check its origin first.

    Header values are echoed only if they are printable ASCII.
    """
    _allow(headers, *_asked(request))


@dataclass(frozen=True, slots=True)
class Head:
    """The status and headers of a response, shared by all responses that begin with them."""

    status: int
    reason: str
    headers: Headers
    """Copy these before you add anything."""
    block: bytes
    """The bytes on the wire, without the empty line at the end."""


def uncached_head(status: int, content_type: str) -> Head:
    """Make the head of an `uncached` response whose type browsers must not guess (``nosniff``)."""
    headers = uncached(content_type)
    headers["X-Content-Type-Options"] = "nosniff"
    return _head(status, headers)


def readable_head(request: web.Request, status: int, content_type: str) -> Head:
    """Return the head of an `uncached` response that the requesting page may read.

    See `allow_origin`.  Heads are cached by origin.
    """
    origin, asked = _asked(request)
    if asked is None and len(origin or "") <= MAX_ORIGIN:
        return head_for(origin, status, content_type)
    headers = uncached(content_type)
    _allow(headers, origin, asked)
    return _head(status, headers)


@functools.lru_cache
def head_for(origin: str | None, status: int, content_type: str) -> Head:
    """Return the `readable_head` of a request that has this ``Origin``."""
    headers = uncached(content_type)
    _allow(headers, origin, None)
    return _head(status, headers)


@functools.lru_cache
def stream_head_for(origin: str | None, content_type: str) -> Head:
    """Return the head of a stream for a request that has this ``Origin``."""
    headers = uncached(content_type)
    _allow(headers, origin, None)
    keep_unbuffered(headers)
    return _head(200, headers)


def keep_unbuffered(headers: Headers) -> None:
    """Keep nginx from buffering a stream."""
    headers["X-Accel-Buffering"] = "no"


def _head(status: int, headers: Headers) -> Head:
    reason = HTTPStatus(status).phrase
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {headers[name]}" for name in headers)]
    return Head(status, reason, headers, "".join(f"{line}\r\n" for line in lines).encode())


def _asked(request: web.Request) -> tuple[str | None, str | None]:
    """Return the request's origin, and the headers that the page asks to send (preflight)."""
    headers = request.headers
    return headers.get("Origin"), headers.get("Access-Control-Request-Headers")


def _allow(headers: Headers, origin: str | None, asked: str | None) -> None:
    vary(headers, "Origin")
    if origin is None or not _is_plain(origin):
        headers["Access-Control-Allow-Origin"] = "*"
        return
    headers["Access-Control-Allow-Origin"] = origin
    headers["Access-Control-Allow-Credentials"] = "true"
    if asked and _is_plain(asked):
        headers["Access-Control-Allow-Headers"] = asked


def vary(headers: Headers, name: str) -> None:
    """Add the request header `name` to ``Vary``, unless it is there."""
    there = headers.get("Vary")
    if there is None:
        headers["Vary"] = name
    elif name.lower() not in there.lower().replace(" ", "").split(","):
        headers["Vary"] = f"{there}, {name}"


def _is_plain(value: str) -> bool:
    return value.isascii() and value.isprintable()
