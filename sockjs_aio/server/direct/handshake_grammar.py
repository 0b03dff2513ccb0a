"""The WebSocket handshakes that are answered without aiohttp: those that clients really send.

As in `grammar`, this reads less than aiohttp's parser, never more.
"""

import re
from typing import NamedTuple

from sockjs_aio.server.aiohttp_internals import NAMES
from sockjs_aio.server.direct.grammar import MAX_HEAD, MAX_LINE, read_block, read_path

_LINE = re.compile(
    rb"GET ((?:/[A-Za-z0-9._~-]{1,256}){0,32})/websocket(?:\?([!-\"$-~]*))? HTTP/1\.1\r\n"
)
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64
_MAX_EXTENSIONS = 1024  # characters

_OF_WEBSOCKETS = frozenset(
    ("upgrade", "sec-websocket-extensions", "sec-websocket-key", "sec-websocket-version")
)
"""Subprotocols are not among them: the server may have to choose one."""

_UPGRADING = ("Upgrade", "upgrade", "keep-alive, Upgrade")
_NO_PAGE = (None, "websocket", "empty")


class Handshake(NamedTuple):
    """A request for a WebSocket."""

    path: str
    query: str
    """Without its question mark."""
    key: str
    headers: list[str]
    """Names and values, alternately, as aiohttp gives them."""
    fields: dict[str, str]
    """The headers by their names in lower case."""
    size: int
    """Number of bytes; what follows is the WebSocket's."""

    @property
    def raw_prefix(self) -> str:
        """The prefix of the service that has this URL for raw WebSockets."""
        return self.path[: -len("/websocket")]

    @property
    def session(self) -> tuple[str, str] | None:
        """The prefix of the service that has this URL for a session, and the session's id."""
        target = read_path(self.path)
        return None if target is None else target[:2]


def read_handshake(data: bytes) -> Handshake | None:
    """Return the handshake that `data` begins with; None if there is none with one meaning."""
    line = _LINE.match(data, 0, MAX_LINE)
    if line is None:
        return None
    start = line.end()
    end = data.find(b"\r\n\r\n", start, start + MAX_HEAD)
    block = data[start:end] if end > 0 else b""
    fields = read_block(block, _OF_WEBSOCKETS)
    if fields is None or not _is_valid(fields):
        return None
    lines = block.decode().split("\r\n")
    names = [NAMES.get(name) or line[: len(name)] for name, line in zip(fields, lines, strict=True)]
    headers = [part for pair in zip(names, fields.values(), strict=True) for part in pair]
    path, query = line[1].decode() + "/websocket", (line[2] or b"").decode()
    return Handshake(path, query, fields["sec-websocket-key"], headers, fields, end + 4)


def _is_valid(fields: dict[str, str]) -> bool:
    return (
        fields.get("upgrade", "").lower() == "websocket"
        and fields.get("connection") in _UPGRADING
        and fields.get("sec-websocket-version") == "13"
        and _KEY.fullmatch(fields.get("sec-websocket-key", "")) is not None
        and "content-length" not in fields
        and fields.get("sec-fetch-dest") in _NO_PAGE
        and len(fields.get("sec-websocket-extensions", "")) <= _MAX_EXTENSIONS
    )
