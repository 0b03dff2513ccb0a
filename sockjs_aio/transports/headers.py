"""Response headers: content types, caching, CORS and the cookie for load balancers.

Section of the protocol: "Static URLs", "CORS", "JSESSIONID".
"""

import email.utils
import re
import time

from aiohttp import web
from multidict import CIMultiDict

from sockjs_aio.settings import Settings

Headers = CIMultiDict[str]

PLAIN = "text/plain; charset=UTF-8"
HTML = "text/html; charset=UTF-8"
JSON = "application/json; charset=UTF-8"
JAVASCRIPT = "application/javascript; charset=UTF-8"
EVENT_STREAM = "text/event-stream"

YEAR = 31536000  # seconds

_NO_CACHE = "no-store, no-cache, no-transform, must-revalidate, max-age=0"
# cookie-octets of RFC 6265, section 4.1.1; anything else is not echoed
_JSESSIONID = re.compile(r"(?:^|;)\s*JSESSIONID=([!#-+\--:<-\[\]-~]+)\s*(?:;|$)")


def uncached(content_type: str) -> Headers:
    """Make the headers of a response that nobody may store or alter."""
    return CIMultiDict({"Content-Type": content_type, "Cache-Control": _NO_CACHE})


def cached(content_type: str | None = None) -> Headers:
    """Make the headers of a response that may be stored for a year."""
    headers: Headers = CIMultiDict({"Cache-Control": f"public, max-age={YEAR}"})
    headers["Expires"] = email.utils.formatdate(time.time() + YEAR, usegmt=True)
    if content_type is not None:
        headers["Content-Type"] = content_type
    return headers


def allow_origin(request: web.Request, headers: Headers) -> None:
    """Let the requesting page read the response; its origin has been checked before.

    Values with anything but printable ASCII are not echoed.
    """
    headers["Vary"] = "Origin"
    origin = request.headers.get("Origin")
    if origin is None or not _is_plain(origin):
        headers["Access-Control-Allow-Origin"] = "*"
        return
    headers["Access-Control-Allow-Origin"] = origin
    headers["Access-Control-Allow-Credentials"] = "true"
    asked = request.headers.get("Access-Control-Request-Headers")
    if asked and _is_plain(asked):
        headers["Access-Control-Allow-Headers"] = asked


def set_session_cookie(
    request: web.Request, response: web.StreamResponse, settings: Settings
) -> None:
    """Set JSESSIONID as `Settings.jsessionid` says: the client's own value, ``dummy`` at first."""
    if callable(settings.jsessionid):
        settings.jsessionid(request, response)
    elif settings.jsessionid:
        found = _JSESSIONID.search(request.headers.get("Cookie", ""))
        value = found[1] if found else "dummy"
        response.headers.add("Set-Cookie", f"JSESSIONID={value}; Path=/")


def _is_plain(value: str) -> bool:
    return value.isascii() and value.isprintable()
