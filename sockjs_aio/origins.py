"""Which pages may connect: the values of the setting `origins`, and which origins they allow."""

import logging
import re
from collections.abc import Callable, Collection
from typing import Any

logger: logging.Logger = logging.getLogger("sockjs_aio.transports")

IsAllowed = Callable[[str], bool]
"""Returns True if pages of an origin may connect."""

Origins = str | Collection[str] | IsAllowed

# as browsers write it: an entry with upper case or a default port would never match
_ORIGIN = re.compile(
    r"(?!http:.*:80\Z|https:.*:443\Z)"
    r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]+)?"
)
_PATTERN = re.compile(
    r"(?!http:.*:80\Z|https:.*:443\Z)"
    r"([a-z][a-z0-9+.-]*://)\*(\.[a-z0-9_-]+(?:\.[a-z0-9_-]+)*(?::[0-9]+)?)"
)
_SUBDOMAIN = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")

# origins without a host: sandboxed pages, and pages from files (Cordova, Electron)
_WITHOUT_HOST = ("null", "file://")


def is_origin(value: Any) -> bool:
    """Tell whether a browser may send `value` as an origin."""
    return isinstance(value, str) and (
        value in _WITHOUT_HOST or _ORIGIN.fullmatch(value) is not None
    )


def is_entry(value: Any) -> bool:
    """Tell whether `value` may be on a list: an origin, or a pattern for subdomains."""
    return is_origin(value) or (isinstance(value, str) and _PATTERN.fullmatch(value) is not None)


def is_allowed(origins: Origins, origin: str) -> bool:
    """Tell whether pages of `origin`, which a client has sent, may connect."""
    if callable(origins):
        return _is_allowed_by(origins, origin)
    if origins == "*":
        return True
    if origin in origins:
        return "*" not in origin  # a client may send a pattern itself as its origin
    return any("*" in entry and _matches(entry, origin) for entry in origins)


def frame_ancestors(origins: Collection[str]) -> str:
    """Write the list for ``Content-Security-Policy``, where patterns have the same meaning."""
    return " ".join(entry for entry in origins if entry not in _WITHOUT_HOST) or "'none'"


def _is_allowed_by(function: IsAllowed, origin: str) -> bool:
    if not is_origin(origin):  # so that a function that only tests how it ends is safe
        return False
    try:
        return function(origin) is True
    except Exception as error:
        logger.error("origins(%r) failed: the client is refused", origin, exc_info=error)
        return False


def _matches(pattern: str, origin: str) -> bool:
    start, end = pattern.split("*")
    if not (origin.startswith(start) and origin.endswith(end)):
        return False
    return _SUBDOMAIN.fullmatch(origin[len(start) : -len(end)]) is not None
