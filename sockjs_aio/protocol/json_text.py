"""JSON text of strings and arrays of strings, out and in; with orjson where it is installed.

orjson gains with long texts only, and refuses lone surrogates, which are legal here: whatever it
does not take is left to the standard library.
"""

import json
import re
from collections.abc import Callable
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, NoReturn

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

_LONG = 256
"""Characters beyond which there is a faster way than the standard library's."""

_LARGE = 16384
"""Characters beyond which an unusual text could hold up the loop, and is looked at before."""

_MANY = 4096
"""What may be done one by one, with a call of Python or an object for each."""

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
    if json_text.isascii():
        return json_text.encode()
    is_long = len(json_text) > _LARGE and len(json_text) * 4 > len(message) * 5
    escaped = None if is_long else _escape_fragile(json_text)
    # it is right to escape whatever is not ASCII, too, and takes a hundredth of the time
    return (encode_basestring_ascii(message) if escaped is None else escaped).encode()


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
    escaped = json_text if json_text.isascii() else _escape_fragile(json_text)
    if escaped is None:
        # only in strings there is something that is not ASCII; what else was escaped is put back
        escaped = encode_basestring_ascii(json_text)[1:-1]
        escaped = escaped.replace('\\"', '"').replace("\\\\", "\\")
    return escaped.encode()


def _escape_fragile(json_text: str) -> str | None:
    """Escape one by one what may not go out as it is; return None if that is too much."""
    escaped, count = _FRAGILE.subn(lambda found: f"\\u{ord(found[0]):04x}", json_text, _MANY)
    return escaped if count < _MANY else None


def _refuse(_token: object) -> NoReturn:
    raise ValueError("only strings are allowed")


# An array of strings needs no numbers, objects or constants: refusing them where they start
# keeps huge integers and nested objects from costing anything.
_decoder: Any = json.JSONDecoder(
    object_pairs_hook=_refuse, parse_int=_refuse, parse_float=_refuse, parse_constant=_refuse
)
_scan: Callable[[str, int], tuple[object, int]] = _decoder.scan_once


_STRING = re.compile(r'[ \t\r\n]*"')
_FIRST = re.compile(r'[ \t\r\n]*\[[ \t\r\n]*"')
_NEXT = re.compile(r'[ \t\r\n]*,[ \t\r\n]*"')
_LAST = re.compile(r"[ \t\r\n]*\][ \t\r\n]*\Z")


def parse(text: str, most: int) -> object:
    """Return the value of JSON text, which is a string or an array; others may be refused.

    Args:
        text: What to parse.
        most: Strings of an array behind which the rest of a large text need not be looked at.

    Raises:
        ValueError: If it is not valid, or one of the others.
    """
    if len(text) > _LARGE and _is_suspect(text, most):
        return _parse_strings(text, most)
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


def _is_suspect(text: str, most: int) -> bool:
    """Tell whether text may have very many arrays, objects or strings: all would be made first."""
    if _STRING.match(text):
        return False
    if text.count("[") + text.count("{") > _MANY:
        return True
    return text.count('"') - text.count('\\"') > 2 * most


def _parse_strings(text: str, most: int) -> list[object]:
    """Return the first strings of an array that has nothing else, up to one more than `most`."""
    strings: list[object] = []
    found, end = _FIRST.match(text), 0
    while found and len(strings) <= most:
        string, end = _scan(text, found.end() - 1)
        strings.append(string)
        found = _NEXT.match(text, end)
    if found is None and _LAST.match(text, end) is None:
        raise ValueError("not an array of strings")
    return strings
