"""Frames and messages: encode text to bytes, and decode.  No I/O, no state.

Section of the protocol: "Protocol and framing".
"""

import functools
import operator
from collections.abc import Callable, Sequence
from json.encoder import encode_basestring
from typing import Any

from sockjs_aio.errors import PayloadBrokenError, PayloadMissingError, PayloadTooLargeError
from sockjs_aio.protocol.json_text import LARGE, loads, parse, quote

OPEN = b"o"
HEARTBEAT = b"h"


class SharedFrame(bytes):
    """An array frame for many sessions; each transport's form of it is made once."""

    def __init__(self, _frame: bytes) -> None:
        self._dressed: dict[Callable[[bytes], bytes], bytes] = {}

    def dressed(self, dress: Callable[[bytes], bytes]) -> bytes:
        """Return ``dress(self)``; the result is kept for later calls."""
        data = self._dressed.get(dress)
        if data is None:
            data = self._dressed[dress] = dress(self)
        return data


class SharedMessage(bytes):
    """An encoded message that many sessions queue."""

    @functools.cached_property
    def frame(self) -> SharedFrame:
        """The frame that has only this message.  It is made when a writer first needs it."""
        return SharedFrame(array_frame((self,)))


class CloseFrame(bytes):
    """``c[code,"reason"]``, with code and reason for the close frame of a WebSocket."""

    code: int
    reason: str


def array_frame(messages: Sequence[bytes]) -> bytes:
    """Join encoded `messages`, in order, into one array frame: ``a["x","y"]``."""
    return b"a[%b]" % b",".join(messages)


def close_frame(code: int, reason: str) -> CloseFrame:
    """Make the frame ``c[code,"reason"]``.

    Raises:
        TypeError: If `code` is not an `int` or `reason` is not a `str`.
    """
    code = operator.index(code)  # ``%d`` takes a float too, but a WebSocket's close frame does not
    frame = CloseFrame(b"c[%d,%b]" % (code, quote(reason)))
    frame.code, frame.reason = code, reason
    return frame


def javascript_string(frame: bytes) -> bytes:
    """Write `frame` as a JavaScript string literal that cannot end the script element around it.

    In a frame, control characters and U+2028/2029 are escaped already (see `json_text`).  Only
    quotes, backslashes and ``<`` remain.
    """
    return encode_basestring(frame.decode()).encode().replace(b"<", b"\\u003c")


def decode_messages(payload: bytes | str, max_messages: int) -> list[str]:
    """Decode the payload of a client: a JSON array of at most `max_messages` strings.

    Raises:
        PayloadMissingError: If `payload` is empty.
        PayloadBrokenError: If it is not valid UTF-8, not valid JSON, or not such an array.
        PayloadTooLargeError: If the array has more than `max_messages` strings.

    Section: "XhrPolling".
    """
    return _checked(_decode_json(payload, max_messages), max_messages)


def decode_websocket_messages(payload: str, max_messages: int) -> list[str]:
    """Decode a WebSocket text message: an array as for `decode_messages`, or one JSON string.

    An empty `payload` is legal and has no messages.

    Raises:
        PayloadBrokenError: If `payload` is neither.
        PayloadTooLargeError: If the array has more than `max_messages` strings.

    Section: "WebSocket protocol".
    """
    if len(payload) <= LARGE:  # micro-optimisation: nearly all are, and have only strings
        try:
            strings: Any = loads(payload)
            if type(strings) is list and len(strings) <= max_messages:
                "".join(strings)  # raises TypeError if one is not a string
                return strings
        except (ValueError, TypeError, StopIteration, RecursionError):
            pass  # `parse` says why, or accepts it
    if not payload:
        return []
    decoded = _decode_json(payload, max_messages)
    return [decoded] if type(decoded) is str else _checked(decoded, max_messages)


def raw_messages(payload: str, _max_messages: int) -> list[str]:
    """Return the message in the text of a raw WebSocket's frame."""
    return [payload]


def _checked(decoded: object, max_messages: int) -> list[str]:
    if type(decoded) is not list:
        raise PayloadBrokenError("not an array")
    for message in decoded:
        if type(message) is not str:
            raise PayloadBrokenError("not an array of strings")
    if len(decoded) > max_messages:
        raise PayloadTooLargeError(f"more than {max_messages} messages")
    return decoded


def _decode_json(payload: bytes | str, max_messages: int) -> object:
    if not payload:
        raise PayloadMissingError("empty payload")
    try:
        text = payload.decode() if isinstance(payload, bytes) else payload
        return parse(text, max_messages)
    except ValueError as error:
        raise PayloadBrokenError("not a JSON array of strings") from error
