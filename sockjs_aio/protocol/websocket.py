"""WebSocket frames as a server sends them, unmasked.  No I/O.

Source: RFC 6455, sections 5.2, 5.5 and 7.4.
"""

import re
import struct
from collections.abc import Iterator

CONTINUATION = 0x0
TEXT = 0x1
BINARY = 0x2
CLOSE = 0x8
PING = 0x9
PONG = 0xA
MESSAGES = (TEXT, BINARY)
CONTROL = (CLOSE, PING, PONG)

FIN = 0x80
"""Marks the last frame of a message."""
COMPRESSED = 0x40
"""Marks a compressed message (RFC 7692, section 6); added to the opcode."""

_SHORT_TEXT = [bytes((FIN | TEXT, size)) for size in range(126)]
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_MAX_REASON = 123  # a control frame has at most 125 bytes, of which the code takes two


def websocket_frame(opcode: int, payload: bytes) -> bytes:
    """Make one unfragmented frame."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", FIN | opcode, size) + payload
    if size < 65536:
        return struct.pack("!BBH", FIN | opcode, 126, size) + payload
    return struct.pack("!BBQ", FIN | opcode, 127, size) + payload


def text_frame(payload: bytes) -> bytes:
    """Make a text frame of UTF-8 `payload`."""
    if len(payload) < 126:
        return _SHORT_TEXT[len(payload)] + payload
    return websocket_frame(TEXT, payload)


def message_frame(message: str | bytes) -> bytes:
    """Make the frame for `message`: text for `str`, binary for `bytes`.

    Lone surrogates, which UTF-8 cannot carry, become U+FFFD, as in a browser's WebSocket.
    """
    if isinstance(message, bytes):
        return websocket_frame(BINARY, message)
    try:
        return text_frame(message.encode())
    except UnicodeEncodeError:
        return text_frame(_repaired(message).encode())


def _repaired(message: str) -> str:
    """Join pairs of surrogates, and replace each lone one by U+FFFD."""
    message = _PAIR.sub(_joined, message)
    # Micro-optimisation, because an error handler would be called for each surrogate: as UTF-8, a
    # surrogate is three invalid bytes, and "replace" writes U+FFFD for each.
    data = message.replace("\ufffd", "\ufffd" * 3).encode("utf-8", "surrogatepass")
    return data.decode("utf-8", "replace").replace("\ufffd" * 3, "\ufffd")


def _joined(pair: "re.Match[str]") -> str:
    return pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def split_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the opcode and payload of each frame in `data`, which this server made."""
    start = 0
    while start < len(data):
        size, header = data[start + 1], 2
        if size == 126:
            size, header = int.from_bytes(data[start + 2 : start + 4], "big"), 4
        elif size == 127:
            size, header = int.from_bytes(data[start + 2 : start + 10], "big"), 10
        end = start + header + size
        yield data[start] & 0xF, data[start + header : end]
        start = end


def close_payload(code: int, reason: str) -> bytes:
    """Make the payload of a close frame; a long `reason` is cut between two characters."""
    text = reason.encode("utf-8", "replace")[:_MAX_REASON]
    return struct.pack("!H", code) + text.decode("utf-8", "ignore").encode()


def is_sendable_code(code: int) -> bool:
    """Tell whether a close frame may carry `code` (RFC 6455, section 7.4)."""
    return code in _REGISTERED_CODES or 3000 <= code <= 4999


_REGISTERED_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
