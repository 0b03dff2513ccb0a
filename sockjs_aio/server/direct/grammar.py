"""The requests that the direct lane understands: a small part of HTTP, and nothing near its edges.

Two parsers that read the same bytes in different ways let one client's request end up in another's
(request smuggling).  So this one reads less than aiohttp's, never more: a request must be all that
has arrived, have one meaning in every reading of HTTP, and have only headers that change nothing.
`Reader.read` returns None for any other data, which aiohttp then gets.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

MAX_LINE = 1024
"""Maximum bytes of the first line.  aiohttp takes 8190 by default."""

MAX_FIELD = 4096
"""Maximum bytes of one header."""

MAX_FIELDS = 48
"""Maximum number of headers."""

MAX_HEAD = 8192
"""Maximum bytes of all headers."""

_METHOD_AND_PATH = re.compile(rb"(GET|POST) (/[!-\"$->@-~]*)")  # no query, no fragment
_QUERY_AND_VERSION = re.compile(rb"(\?[!-\"$-~]*)? HTTP/1\.1")
_SESSION = re.compile(
    r"((?:/[A-Za-z0-9._~-]+)*)/[A-Za-z0-9_-]{1,256}/([A-Za-z0-9_-]{1,256})/([a-z_]{1,20})"
)
_HOST = re.compile(r"[A-Za-z0-9._-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,7}")

_HARMLESS = frozenset(
    (
        *("host", "connection", "content-length", "origin"),
        *("accept", "accept-charset", "accept-encoding", "accept-language", "authorization"),
        *("baggage", "cache-control", "cdn-loop", "content-type", "cookie", "dnt", "forwarded"),
        *(
            "if-modified-since",
            "if-none-match",
            "last-event-id",
            "pragma",
            "priority",
            "referer",
            "save-data",
        ),
        *("sec-gpc", "traceparent", "tracestate", "true-client-ip", "upgrade-insecure-requests"),
        *("user-agent", "via"),
    )
)
"""Headers that change nothing about a session's request, or that `read_fields` reads itself.

With any other header, `read_fields` returns None: Transfer-Encoding, Expect, Upgrade,
Content-Encoding, Access-Control-Request-Headers, and what nobody has thought of yet.
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


class SessionTarget(NamedTuple):
    """The parts of a session's URL."""

    prefix: str
    session_id: str
    transport: str


class Start(NamedTuple):
    """What the first line says, without the query."""

    method: str
    path: str
    session: SessionTarget | None
    """None if it is not a session's URL, or has characters that could be read in two ways."""


class DirectRequest(NamedTuple):
    """A whole request."""

    start: Start
    query: str
    """With its question mark; empty if there is none."""
    fields: Fields
    body: bytes


class Reader:
    """Reads the requests of one connection.

    Micro-optimisation: a client's requests differ only in their queries and bodies, so this keeps
    the last head, which takes longer to read than to compare.
    """

    __slots__ = ("_line", "_start", "_block", "_fields")

    def __init__(self) -> None:
        self._line = self._block = b""
        self._start: Start | None = None
        self._fields: Fields | None = None

    def read(self, data: bytes) -> DirectRequest | None:
        """Return the request that `data` is; None if it is not exactly one that has one meaning."""
        line_end = data.find(b"\r\n", 0, MAX_LINE)
        head_end = data.find(b"\r\n\r\n", line_end, line_end + MAX_HEAD)
        if line_end < 0 or head_end <= line_end:
            return None
        path_end = data.find(b"?", 0, line_end)
        if path_end < 0:
            path_end = line_end - len(b" HTTP/1.1")
        rest = _QUERY_AND_VERSION.fullmatch(data, path_end, line_end) if path_end > 0 else None
        if rest is None:
            return None
        line, block = data[:path_end], data[line_end + 2 : head_end]
        if line != self._line:
            self._line, self._start = line, read_start(line)
        if block != self._block:
            self._block, self._fields = block, read_fields(block)
        start, fields = self._start, self._fields
        if start is None or fields is None:
            return None
        if (start.method == "POST") != (fields.length is not None):
            return None
        if len(data) - head_end - 4 != (fields.length or 0):
            return None
        query = rest[1].decode() if rest[1] else ""
        return DirectRequest(start, query, fields, data[head_end + 4 :])


def read_target(data: bytes) -> SessionTarget | None:
    """Return whose session's URL the first line of `data` has, if it is a request's; the rest does
    not matter, and need not have come.
    """
    line_end = data.find(b"\r\n", 0, MAX_LINE)
    path_end = data.find(b"?", 0, line_end) if line_end >= 0 else -1
    if path_end < 0:
        path_end = line_end - len(b" HTTP/1.1")
    if path_end < 0 or _QUERY_AND_VERSION.fullmatch(data, path_end, line_end) is None:
        return None
    start = read_start(data[:path_end])
    return None if start is None else start.session


def read_start(line: bytes) -> Start | None:
    """Read the first line of a request, without its query and version."""
    match = _METHOD_AND_PATH.fullmatch(line)
    if match is None:
        return None
    path = match[2].decode()
    return Start(match[1].decode(), path, read_path(path))


def read_fields(block: bytes) -> Fields | None:
    """Read the lines of headers, without the empty line behind them."""
    found = read_block(block)
    if found is None or found.get("connection", "keep-alive").lower() != "keep-alive":
        return None
    length = found.get("content-length")
    if length is not None and _LENGTH.fullmatch(length) is None:
        return None
    return Fields(len(found), None if length is None else int(length), found.get("origin"))


def read_block(block: bytes, more: Collection[str] = ()) -> dict[str, str] | None:
    """Return the headers by their names in lower case, in order; None if one is not harmless.

    Args:
        block: The lines of headers, without the empty line behind them.
        more: Other names that are allowed.
    """
    if not block.isascii():
        return None
    found: dict[str, str] = {}
    for line in block.decode().split("\r\n"):
        name, colon, value = line.partition(": ")
        name = name.lower()
        if name not in _HARMLESS and name not in more and _FAMILIES.fullmatch(name) is None:
            return None
        # no control characters, and so no line ends but CR LF; a header comes once
        if not colon or name in found or not line.isprintable() or len(line) > MAX_FIELD:
            return None
        if not value or value[0] == " " or value[-1] == " ":
            return None
        found[name] = value
    is_fine = len(found) <= MAX_FIELDS and _HOST.fullmatch(found.get("host", "")) is not None
    return found if is_fine else None


def read_path(path: str) -> SessionTarget | None:
    """Return the parts of a session's URL, if no character of it could be read in two ways."""
    match = _SESSION.fullmatch(path)
    return None if match is None else SessionTarget(*match.groups())
