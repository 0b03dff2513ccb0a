"""What clients send as messages: each decoder against the standard library's."""

import json
from contextlib import suppress
from json.decoder import py_scanstring  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any
from urllib.parse import parse_qsl

from sockjs_aio.errors import PayloadBrokenError, PayloadMissingError, PayloadTooLargeError
from sockjs_aio.protocol.frames import array_frame, decode_messages, decode_websocket_messages
from sockjs_aio.protocol.json_text import quote
from sockjs_aio.server.client_sends import form_field

MAX_MESSAGES = 4


class Guide(json.JSONDecoder):
    """The decoder in Python: a fuzzer sees which of its branches an input takes.

    What it returns does not count; ``\\u12 `` with a blank is an escape for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parse_string = py_scanstring
        self.scan_once = py_make_scanner(self)


GUIDE = Guide()


def refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def reference(text: str) -> Any:
    """Decode `text`, or return None, which no message is."""
    with suppress(ValueError, RecursionError):
        GUIDE.decode(text)
    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None


def outcome(decode: Any, payload: bytes | str) -> Any:
    """Return the messages, or the type of the refusal."""
    try:
        return decode(payload, MAX_MESSAGES)
    except (PayloadBrokenError, PayloadMissingError, PayloadTooLargeError) as error:
        return type(error)


def expected(value: Any) -> Any:
    """Return what should come of a decoded value: messages, or the type of the refusal."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return PayloadBrokenError
    return PayloadTooLargeError if len(value) > MAX_MESSAGES else value


def fuzz_messages(data: bytes) -> None:
    """The body of xhr_send."""
    found = outcome(decode_messages, data)
    if not data:
        assert found is PayloadMissingError
        return
    try:
        text = data.decode()
    except UnicodeDecodeError:
        assert found is PayloadBrokenError
        return
    assert found == expected(reference(text))
    assert outcome(decode_messages, text) == found
    if isinstance(found, list):
        assert json.loads(array_frame([quote(message) for message in found])[1:]) == found


def fuzz_websocket_messages(data: bytes) -> None:
    """A WebSocket text message, which may be one bare string."""
    text = data.decode("utf-8", "replace")
    found = outcome(decode_websocket_messages, text)
    if not text:
        assert found == []
        return
    value = reference(text)
    assert found == ([value] if isinstance(value, str) else expected(value))


def fuzz_form(data: bytes) -> None:
    """The body of jsonp_send, whose field ``d`` has the messages."""
    # one character for each byte, so that nothing is decoded but the form
    fields = parse_qsl(data.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    values = [value.encode("latin-1") for name, value in fields if name == "d"]
    try:
        found = form_field(data)
    except PayloadMissingError:
        assert not values
    else:
        assert found == values[0]
