"""WebSocket frames as a server sends them, unmasked and uncompressed; nothing here does I/O.

Reading frames, and writing compressed ones, is aiohttp's work.  Writing plain ones is a header of
two to ten bytes, and doing it here lets a session write without a coroutine.  Source: RFC 6455,
sections 5.2, 5.5 and 7.4.
"""

import re
import struct
from collections.abc import Iterator

TEXT = 0x1
BINARY = 0x2
CLOSE = 0x8
PING = 0x9
PONG = 0xA

_FIN = 0x80
_SHORT_TEXT = [bytes((_FIN | TEXT, size)) for size in range(126)]
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_MAX_REASON = 123  # a control frame has 125 bytes, two of them are the code


def websocket_frame(opcode: int, payload: bytes) -> bytes:
    """Make one unfragmented frame."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", _FIN | opcode, size) + payload
    if size < 65536:
        return struct.pack("!BBH", _FIN | opcode, 126, size) + payload
    return struct.pack("!BBQ", _FIN | opcode, 127, size) + payload


def text_frame(payload: bytes) -> bytes:
    """Make a text frame of UTF-8 `payload`."""
    if len(payload) < 126:
        return _SHORT_TEXT[len(payload)] + payload
    return websocket_frame(TEXT, payload)


def message_frame(message: str | bytes) -> bytes:
    """Make the frame of `message`: text for `str`, binary for `bytes`.

    Lone surrogates, which UTF-8 has no place for, become U+FFFD, as in a browser's WebSocket.
    """
    if isinstance(message, bytes):
        return websocket_frame(BINARY, message)
    try:
        return text_frame(message.encode())
    except UnicodeEncodeError:
        return text_frame(_repaired(message).encode())


def _repaired(message: str) -> str:
    """Join surrogates to pairs, and write U+FFFD for each that is alone."""
    message = _PAIR.sub(_joined, message)
    # Micro-optimisation, as error handlers are called for each: as UTF-8 a surrogate is three wrong
    # bytes, which "replace" writes U+FFFD for.
    data = message.replace("\ufffd", "\ufffd" * 3).encode("utf-8", "surrogatepass")
    return data.decode("utf-8", "replace").replace("\ufffd" * 3, "\ufffd")


def _joined(pair: "re.Match[str]") -> str:
    return pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def split_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Give back opcode and payload of each of the frames that `data` was joined of."""
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
    """Make the payload of a close frame; `reason` is cut where it does not fit, at a character."""
    text = reason.encode("utf-8", "replace")[:_MAX_REASON]
    return struct.pack("!H", code) + text.decode("utf-8", "ignore").encode()


def is_sendable_code(code: int) -> bool:
    """Tell whether `code` may stand in a close frame on the wire (RFC 6455, section 7.4)."""
    return code in _REGISTERED_CODES or 3000 <= code <= 4999


_REGISTERED_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
