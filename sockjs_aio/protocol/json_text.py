"""JSON text of strings and arrays of strings, out and in; with orjson where it is installed.

orjson gains with long texts only, and refuses lone surrogates, which are legal here: whatever it
does not take is left to the standard library.
"""

import json
import re
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any, NoReturn

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

_LONG = 256
"""Characters beyond which there is a faster way than the standard library's."""

_CONTROLS = bytes(range(32))

# What browsers and proxies have been seen to alter on the way, and what UTF-8 cannot carry.
_FRAGILE = re.compile("[\u200c-\u200f\u2028-\u202f\u2060-\u206f\ufff0-\uffff\ud800-\udfff]")

_BLANKS = " \t\r\n"


def quote(message: str) -> bytes:
    """Encode `message` as a JSON string in UTF-8, escaping what may not go out as it is.

    Section: "JSON Unicode Encoding".
    """
    if len(message) > _LONG and message.isascii():
        return _quote_long(message)
    json_text = encode_basestring(message)
    return json_text.encode() if json_text.isascii() else escape(json_text)


def _quote_long(message: str) -> bytes:
    """As `quote`, for ASCII: the standard library looks at each character by itself."""
    if orjson is not None:
        # a copy: what orjson returns keeps the eight or sixteen times as much that it was made in
        return b"".join((orjson.dumps(message), b""))
    if '"' not in message and "\\" not in message:
        data = message.encode()
        if len(data.translate(None, _CONTROLS)) == len(data):
            return b'"%b"' % data
    return encode_basestring(message).encode()


def escape(json_text: str) -> bytes:
    """Encode JSON text in UTF-8, escaping in its strings what may not go out as it is."""
    if not json_text.isascii():
        json_text = _FRAGILE.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)
    return json_text.encode()


def _refuse(_token: object) -> NoReturn:
    raise ValueError("only strings are allowed")


# An array of strings needs no numbers, objects or constants: refusing them where they start
# keeps huge integers and nested objects from costing anything.
_decoder: Any = json.JSONDecoder(
    object_pairs_hook=_refuse, parse_int=_refuse, parse_float=_refuse, parse_constant=_refuse
)
_scan: Callable[[str, int], tuple[object, int]] = _decoder.scan_once


def parse(text: str) -> object:
    """Return the value of JSON text, which is a string or an array; others may be refused.

    Raises:
        ValueError: If it is not valid, or one of the others.
    """
    if orjson is not None and len(text) > _LONG:
        try:
            return orjson.loads(text)
        except ValueError:
            pass  # not valid, or with a lone surrogate
    if text[:1] in _BLANKS or text[-1:] in _BLANKS:
        text = text.strip(_BLANKS)
    try:
        value, end = _scan(text, 0)
    except (StopIteration, RecursionError) as error:  # nesting bombs end in RecursionError
        raise ValueError("not JSON") from error
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value
