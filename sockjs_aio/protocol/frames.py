"""Frames and messages: text in, bytes out, and back; nothing here does I/O or keeps state.

Section of the protocol: "Protocol and framing", "JSON Unicode Encoding".
"""

import json
import re
from collections.abc import Callable, Sequence
from json.encoder import encode_basestring
from typing import Any, NoReturn

from sockjs_aio.errors import PayloadBroken, PayloadMissing, PayloadTooLarge

OPEN = b"o"
HEARTBEAT = b"h"

# Close codes that the server itself gives, each beside its text.
GO_AWAY = (3000, "Go away!")
ANOTHER_CONNECTION = (2010, "Another connection still open")
INTERRUPTED = (1002, "Connection interrupted")
SLOW_CONSUMER = (1008, "Slow consumer")
INTERNAL_ERROR = (1011, "Internal error")
SERVICE_RESTART = (1012, "Service restart")

# The standard library looks at each character by itself.  A text longer than this is searched for
# those that JSON escapes first: where there is none, that takes a third of the time.
_LONG = 256
_CONTROLS = bytes(range(32))

# What browsers and proxies have been seen to alter on the way, and what UTF-8 cannot carry.
_FRAGILE = re.compile("[\u200c-\u200f\u2028-\u202f\u2060-\u206f\ufff0-\uffff\ud800-\udfff]")


class SharedFrame(bytes):
    """An array frame that many receivers write: what a transport makes of it is made once."""

    def __init__(self, _frame: bytes) -> None:
        self._dressed: dict[Callable[[bytes], bytes], bytes] = {}

    def dressed(self, dress: Callable[[bytes], bytes]) -> bytes:
        """Return ``dress(self)``, from the second call on without calling `dress`."""
        data = self._dressed.get(dress)
        if data is None:
            data = self._dressed[dress] = dress(self)
        return data


class SharedMessage(bytes):
    """An encoded message that many sessions queue; `frame` is the frame that carries it alone."""

    frame: SharedFrame


class CloseFrame(bytes):
    """``c[code,"reason"]`` with its parts, for the transport that closes a WebSocket with them."""

    code: int
    reason: str


def quote(message: str) -> bytes:
    """Encode `message` as a JSON string in UTF-8, escaping what may not go out as it is."""
    if len(message) > _LONG and '"' not in message and "\\" not in message and message.isascii():
        data = message.encode()
        if len(data.translate(None, _CONTROLS)) == len(data):
            return b'"%b"' % data
    json_text = encode_basestring(message)
    return json_text.encode() if json_text.isascii() else escape(json_text)


def escape(json_text: str) -> bytes:
    """Encode JSON text in UTF-8, escaping in its strings what may not go out as it is."""
    if not json_text.isascii():
        json_text = _FRAGILE.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)
    return json_text.encode()


def array_frame(messages: Sequence[bytes]) -> bytes:
    """Join encoded `messages`, in order, to one array frame: ``a["x","y"]``."""
    return b"a[%b]" % b",".join(messages)


def shared_message(encoded: bytes) -> SharedMessage:
    """Prepare an encoded message for any number of sessions."""
    shared = SharedMessage(encoded)
    shared.frame = SharedFrame(array_frame((shared,)))
    return shared


def close_frame(code: int, reason: str) -> CloseFrame:
    """Make the frame ``c[code,"reason"]``."""
    frame = CloseFrame(b"c[%d,%b]" % (code, quote(reason)))
    frame.code, frame.reason = code, reason
    return frame


def javascript_string(frame: bytes) -> bytes:
    """Write `frame` as a JavaScript string literal that cannot end the script element around it.

    Frames have their control characters and U+2028/2029 escaped already (see `quote`), so that
    quotes, backslashes and ``<`` are all that is left to escape.
    """
    text = frame.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"<", b"\\u003c")
    return b'"%b"' % text


def _refuse(_token: object) -> NoReturn:
    raise ValueError("only strings are allowed")


_BLANKS = " \t\r\n"

# An array of strings needs no numbers, objects or constants: refusing them where they start
# keeps huge integers and nested objects from costing anything.
_decoder: Any = json.JSONDecoder(
    object_pairs_hook=_refuse, parse_int=_refuse, parse_float=_refuse, parse_constant=_refuse
)
_scan: Callable[[str, int], tuple[object, int]] = _decoder.scan_once


def decode_messages(payload: bytes | str, max_messages: int) -> list[str]:
    """Decode what a client sent: a JSON array of at most `max_messages` strings.

    Raises:
        PayloadMissing: If `payload` is empty.
        PayloadBroken: If it is not valid UTF-8, not valid JSON, or not such an array.
        PayloadTooLarge: If the array has more than `max_messages` strings.

    Section: "XhrPolling".
    """
    return _checked(_decode_json(payload), max_messages)


def decode_websocket_messages(payload: str, max_messages: int) -> list[str]:
    """Decode a WebSocket text message: as `decode_messages`, or one bare JSON string.

    An empty `payload` is legal and has no messages.

    Raises:
        PayloadBroken: If it is neither.
        PayloadTooLarge: If the array has more than `max_messages` strings.

    Section: "WebSocket protocol".
    """
    if not payload:
        return []
    decoded = _decode_json(payload)
    return [decoded] if type(decoded) is str else _checked(decoded, max_messages)


def _checked(decoded: object, max_messages: int) -> list[str]:
    if type(decoded) is not list:
        raise PayloadBroken("not an array")
    for message in decoded:
        if type(message) is not str:
            raise PayloadBroken("not an array of strings")
    if len(decoded) > max_messages:
        raise PayloadTooLarge(f"more than {max_messages} messages")
    return decoded


def _decode_json(payload: bytes | str) -> object:
    if not payload:
        raise PayloadMissing("empty payload")
    try:
        text = payload.decode() if isinstance(payload, bytes) else payload
        if text[0] in _BLANKS or text[-1] in _BLANKS:
            text = text.strip(_BLANKS)
        decoded, end = _scan(text, 0)
    except (ValueError, RecursionError, StopIteration) as error:  # nesting bombs: RecursionError
        raise PayloadBroken("not JSON") from error
    if end != len(text):
        raise PayloadBroken("more than one JSON value")
    return decoded
