"""The requests that the direct lane understands: a small part of HTTP, and nothing near its edges.

Two parsers that read the same bytes in different ways let one client's request end up in another's
(request smuggling).  So this one reads less than aiohttp's, never more: a request must be all that
has arrived, have one meaning in every reading of HTTP, and have only headers that change nothing.
`parse` returns None for any other data, which aiohttp then gets.
"""

import re
from typing import NamedTuple

MAX_LINE = 1024
"""Maximum bytes of the first line.  aiohttp takes 8190 by default."""

MAX_FIELD = 4096
"""Maximum bytes of one header."""

MAX_FIELDS = 48
"""Maximum number of headers."""

MAX_HEAD = 8192
"""Maximum bytes of all headers."""

_LINE = re.compile(rb"(GET|POST) (/[!-\"$-~]*) HTTP/1\.1")  # no fragment
_SESSION = re.compile(
    r"((?:/[A-Za-z0-9._~-]+)*)/[A-Za-z0-9_-]{1,256}/([A-Za-z0-9_-]{1,256})/([a-z_]{1,20})"
    r"(?:\?[A-Za-z0-9=&._~-]*)?"
)
_HOST = re.compile(r"[A-Za-z0-9._-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,7}")

_HARMLESS = frozenset(
    (
        *("host", "connection", "content-length", "origin"),
        *("accept", "accept-charset", "accept-encoding", "accept-language", "authorization"),
        *("baggage", "cache-control", "cdn-loop", "content-type", "cookie", "dnt", "forwarded"),
        *("if-modified-since", "if-none-match", "pragma", "priority", "referer", "save-data"),
        *("sec-gpc", "traceparent", "tracestate", "true-client-ip", "upgrade-insecure-requests"),
        *("user-agent", "via"),
    )
)
"""Headers that change nothing about a session's request, or that `parse` reads itself.

Everything else makes `parse` return None: Transfer-Encoding, Expect, Upgrade, Content-Encoding,
Access-Control-Request-Headers, and what nobody has thought of yet.
"""

_FAMILIES = re.compile(r"(?:x|cf|sec-ch|sec-fetch)-[a-z0-9-]{1,60}")
"""More harmless headers: those of proxies, and what browsers tell about themselves."""


class Fields(NamedTuple):
    """What the headers of a request say."""

    number: int
    """How many headers there are."""
    length: int | None
    """Content-Length."""
    origin: str | None


class DirectRequest(NamedTuple):
    """A whole request."""

    method: str
    target: str
    """Path and query, as they came."""
    fields: Fields
    body: bytes


class SessionTarget(NamedTuple):
    """The parts of a session's URL."""

    prefix: str
    session_id: str
    transport: str


def parse(data: bytes) -> DirectRequest | None:
    """Return the request that `data` is; None if it is not exactly one that has one meaning."""
    line_end = data.find(b"\r\n", 0, MAX_LINE)
    head_end = data.find(b"\r\n\r\n", line_end, line_end + MAX_HEAD)
    if line_end < 0 or head_end <= line_end:
        return None
    line = _LINE.fullmatch(data, 0, line_end)
    if line is None:
        return None
    fields = read_fields(data[line_end + 2 : head_end])
    if fields is None or len(data) - head_end - 4 != (fields.length or 0):
        return None
    method, target = line[1].decode(), line[2].decode()
    if (method == "POST") != (fields.length is not None):
        return None
    return DirectRequest(method, target, fields, data[head_end + 4 :])


def read_fields(block: bytes) -> Fields | None:
    """Read the lines of headers, without the empty line behind them."""
    if not block.isascii():
        return None
    found: dict[str, str] = {}
    lines = block.decode().split("\r\n")
    for line in lines:
        name, colon, value = line.partition(": ")
        name = name.lower()
        if name not in _HARMLESS and _FAMILIES.fullmatch(name) is None:
            return None
        # no control characters, and so no line ends but CR LF; a header comes once
        if not colon or name in found or not line.isprintable() or len(line) > MAX_FIELD:
            return None
        if not value or value[0] == " " or value[-1] == " ":
            return None
        found[name] = value
    return _checked(found)


def _checked(found: dict[str, str]) -> Fields | None:
    length = found.get("content-length")
    if len(found) > MAX_FIELDS or _HOST.fullmatch(found.get("host", "")) is None:
        return None
    if found.get("connection", "keep-alive").lower() != "keep-alive":
        return None
    if length is not None and _LENGTH.fullmatch(length) is None:
        return None
    return Fields(len(found), None if length is None else int(length), found.get("origin"))


def read_target(target: str) -> SessionTarget | None:
    """Return the parts of a session's URL without any character that could be read in two ways."""
    match = _SESSION.fullmatch(target)
    return None if match is None else SessionTarget(*match.groups())
