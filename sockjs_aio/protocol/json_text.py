"""Write and parse JSON strings and arrays of strings, with orjson where it is installed.

orjson is no faster at quoting short texts, and it refuses lone surrogates, which are legal here.
The standard library handles whatever orjson refuses.
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
"""Characters above which the standard library is not the fastest at quoting."""

LARGE = 16384
"""Characters above which an unusual text could block the loop, and so is checked first."""

_MANY = 4096
"""How many items may each cost a Python call or an object."""

_CONTROLS = bytes(range(32))

# Characters that browsers or proxies are known to alter, and those that UTF-8 cannot carry.
_FRAGILE = re.compile("[\u200c-\u200f\u2028-\u202f\u2060-\u206f\ufff0-\uffff\ud800-\udfff]")

_BLANKS = " \t\r\n"


def quote(message: str | bytes) -> bytes:
    """Encode `message` as a JSON string in UTF-8, with fragile characters escaped.

    Raises:
        TypeError: If it is not a `str`.

    Section: "JSON Unicode Encoding".
    """
    if not isinstance(message, str):
        raise TypeError(
            f"a SockJS message is a str, not {type(message).__name__}: encode it first, "
            "for example with json.dumps() (only raw WebSockets carry bytes)"
        )
    if len(message) > _LONG and message.isascii():
        return _quote_long(message)
    json_text = encode_basestring(message)
    if json_text.isascii():
        return json_text.encode()
    is_long = len(json_text) > LARGE and len(json_text) * 4 > len(message) * 5
    escaped = None if is_long else _escape_fragile(json_text)
    # escaping all non-ASCII characters is valid too, and takes a hundredth of the time
    return (encode_basestring_ascii(message) if escaped is None else escaped).encode()


def _quote_long(message: str) -> bytes:
    """Like `quote`, for ASCII.  The standard library is slow: it looks at each character."""
    if orjson is not None:
        # a copy: orjson's result keeps its work buffer, eight or sixteen times as large
        return b"".join((orjson.dumps(message), b""))
    if '"' not in message and "\\" not in message:
        data = message.encode()
        if len(data.translate(None, _CONTROLS)) == len(data):
            return b'"%b"' % data
    return encode_basestring(message).encode()


def escape(json_text: str) -> bytes:
    """Encode JSON text in UTF-8, with fragile characters in its strings escaped."""
    escaped = json_text if json_text.isascii() else _escape_fragile(json_text)
    if escaped is None:
        # only strings have non-ASCII characters; undo the other escapes
        escaped = encode_basestring_ascii(json_text)[1:-1]
        escaped = escaped.replace('\\"', '"').replace("\\\\", "\\")
    return escaped.encode()


def _escape_fragile(json_text: str) -> str | None:
    """Escape fragile characters one by one; return None if there are too many."""
    escaped, count = _FRAGILE.subn(lambda found: f"\\u{ord(found[0]):04x}", json_text, _MANY)
    return escaped if count < _MANY else None


def _refuse(_token: object) -> NoReturn:
    raise ValueError("only strings are allowed")


# An array of strings has no numbers, objects or constants.  They are refused where they start, so
# that huge integers and nested objects cost nothing.
_decoder: Any = json.JSONDecoder(
    object_pairs_hook=_refuse, parse_int=_refuse, parse_float=_refuse, parse_constant=_refuse
)
_any_decoder = json.JSONDecoder(parse_constant=_refuse)
_scan: Callable[[str, int], tuple[object, int]] = _decoder.scan_once


_STRING = re.compile(r'[ \t\r\n]*"')
_FIRST = re.compile(r'[ \t\r\n]*\[[ \t\r\n]*"')
_NEXT = re.compile(r'[ \t\r\n]*,[ \t\r\n]*"')
_LAST = re.compile(r"[ \t\r\n]*\][ \t\r\n]*\Z")


def parse(text: str, most: int) -> object:
    """Parse JSON text whose value is a string or an array; other values may be refused.

    Args:
        text: The text to parse.
        most: After this many strings of an array, the rest of a large text need not be parsed.

    Raises:
        ValueError: If `text` is not valid, or has a value that is refused.
    """
    if len(text) > LARGE and _is_suspect(text, most):
        return _parse_strings(text, most)
    if orjson is not None and len(text) > _LONG:
        try:
            return orjson.loads(text)
        except ValueError:
            pass  # not valid, or a lone surrogate
    if text[:1] in _BLANKS or text[-1:] in _BLANKS:
        text = text.strip(_BLANKS)
    try:
        value, end = _scan(text, 0)
    except (StopIteration, RecursionError) as error:  # nesting bombs end in RecursionError
        raise ValueError("not JSON") from error
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value


def parse_values(text: str) -> list[Any]:
    """Parse JSON text whose value is an array of any values.

    Only for a client, which has chosen its server and limits its frames: this takes long for some
    texts.

    Raises:
        ValueError: If `text` is anything else.
    """
    try:
        values = _any_decoder.decode(text)
    except RecursionError as error:
        raise ValueError("not JSON") from error
    if type(values) is not list:
        raise ValueError("not an array")
    return values


def _scan_all(text: str) -> object:
    value, end = _scan(text, 0)
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value


loads: Callable[[str], object] = _scan_all if orjson is None else orjson.loads
"""Parse a text of at most `LARGE` characters; refuse some valid ones that `parse` takes.

Raises:
    ValueError, StopIteration, RecursionError: If `text` is refused.
"""


def _is_suspect(text: str, most: int) -> bool:
    """Tell whether parsing `text` might create very many arrays, objects or strings."""
    if _STRING.match(text):
        return False
    if text.count("[") + text.count("{") > _MANY:
        return True
    return text.count('"') - text.count('\\"') > 2 * most


def _parse_strings(text: str, most: int) -> list[object]:
    """Return the first strings of an array of strings, at most one more than `most`."""
    strings: list[object] = []
    found, end = _FIRST.match(text), 0
    while found and len(strings) <= most:
        string, end = _scan(text, found.end() - 1)
        strings.append(string)
        found = _NEXT.match(text, end)
    if found is None and _LAST.match(text, end) is None:
        raise ValueError("not an array of strings")
    return strings
