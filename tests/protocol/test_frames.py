"""Sections "Protocol and framing" and "JSON Unicode Encoding" of the protocol."""

import json
import tracemalloc

import pytest

from sockjs_aio.errors import PayloadBrokenError, PayloadMissingError, PayloadTooLargeError
from sockjs_aio.protocol import frames, json_text
from sockjs_aio.protocol.ends import ANOTHER_CONNECTION
from sockjs_aio.protocol.framing import SOCKJS
from sockjs_aio.protocol.json_text import quote
from sockjs_aio.protocol.session_machine import MESSAGE_OVERHEAD

ESCAPED = [
    *range(0x20),
    *range(0x200C, 0x2010),
    *range(0x2028, 0x2030),
    *range(0x2060, 0x2070),
    *range(0xFFF0, 0x10000),
    *range(0xD800, 0xE000),
]
SHORT = {"\b": b"\\b", "\t": b"\\t", "\n": b"\\n", "\f": b"\\f", "\r": b"\\r"}


def test_what_the_protocol_demands_is_escaped() -> None:
    for code in ESCAPED:
        escaped = SHORT.get(chr(code), b"\\u%04x" % code)
        assert quote(chr(code)) == b'"%b"' % escaped


def test_everything_else_goes_out_as_plain_utf_8() -> None:
    escaped = {*ESCAPED, ord('"'), ord("\\")}
    text = "".join(chr(code) for code in range(0x11000) if code not in escaped) + "\U0001f600"
    assert quote(text) == b'"%b"' % text.encode()


def test_every_character_survives_json() -> None:
    text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x10000), 0x10000, 0x10FFFF]))
    assert json.loads(quote(text)) == text
    assert json.loads(quote("\ud800x\udfff")) == "\ud800x\udfff"


@pytest.mark.parametrize("is_installed", [True, False], ids=["orjson", "no-orjson"])
def test_long_texts_are_as_short_ones(monkeypatch: pytest.MonkeyPatch, is_installed: bool) -> None:
    if not is_installed:
        monkeypatch.setattr(json_text, "orjson", None)
    padding = "x" * 1000
    for character in map(chr, [*range(0x100), *ESCAPED]):
        quoted = b'"%b%b"' % (padding.encode(), quote(character)[1:-1])
        assert quote(padding + character) == quoted
        assert frames.decode_messages(b"[%b]" % quoted, 1) == [padding + character]
    for payload in ["[1]", '["', "[[]]", "{}", '["x"]]', "[NaN]", "[1e9]", "[" * 100_000]:
        with pytest.raises(PayloadBrokenError):
            frames.decode_messages(" " * 1000 + payload, 1)


@pytest.mark.parametrize("is_installed", [True, False], ids=["orjson", "no-orjson"])
@pytest.mark.parametrize("text", ["x" * 1000, 'x"' * 500], ids=["plain", "escaped"])
def test_queued_text_takes_the_memory_of_its_length(
    monkeypatch: pytest.MonkeyPatch, is_installed: bool, text: str
) -> None:
    if not is_installed:
        monkeypatch.setattr(json_text, "orjson", None)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        queue = [quote(text) for _ in range(100)]
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < sum(map(len, queue)) + 100 * MESSAGE_OVERHEAD


def test_frames_look_as_in_the_protocol() -> None:
    assert frames.array_frame([quote("x"), quote('y"')]) == b'a["x","y\\""]'
    assert frames.close_frame(3000, "Go away!") == b'c[3000,"Go away!"]'
    assert frames.close_frame(*ANOTHER_CONNECTION) == (b'c[2010,"Another connection still open"]')
    assert frames.close_frame(1, "</script>\u2028") == b'c[1,"</script>\\u2028"]'


def test_close_frame_keeps_its_parts() -> None:
    frame = frames.close_frame(3001, "x")
    assert (frame.code, frame.reason) == (3001, "x")


def test_shared_frame_is_dressed_once_by_each_dress() -> None:
    calls = []

    def dress(frame: bytes) -> bytes:
        calls.append(frame)
        return frame + b"\n"

    shared = frames.SharedMessage(quote("x"))
    assert shared == b'"x"'
    assert [shared.frame.dressed(dress) for _ in range(3)] == [b'a["x"]\n'] * 3
    assert calls == [b'a["x"]']


def test_javascript_string_cannot_end_the_script_element() -> None:
    frame = frames.array_frame([quote("</script><!--\u2028\\\"'")])
    assert frames.javascript_string(frame) == (
        b'"a[\\"\\u003c/script>\\u003c!--\\\\u2028\\\\\\\\\\\\\\"\'\\"]"'
    )
    assert json.loads(frames.javascript_string(frame)) == frame.decode()


@pytest.mark.parametrize(
    ("payload", "messages"),
    [
        (b"[]", []),
        (b'["a"]', ["a"]),
        (b' [ "a" ,\r\n\t"b" ] ', ["a", "b"]),
        (b'["\\ud800","\\u0000","\\u00e9\xc3\xa9",""]', ["\ud800", "\0", "éé", ""]),
        (b'["\\ud83d\\ude00"]', ["😀"]),
        ('["a"]', ["a"]),
    ],
)
def test_arrays_of_strings_are_decoded(payload: bytes | str, messages: list[str]) -> None:
    assert frames.decode_messages(payload, 10) == messages


BROKEN = [
    b" ",
    b'["a"',
    b'["a"]]',
    b'["a"]["b"]',
    b'["a",]',
    b'"a"',
    b"{}",
    b'{"a":"b"}',
    b"null",
    b"1",
    b"[1]",
    b"[1.5]",
    b"[" + b"9" * 100_000 + b"]",
    b"[NaN]",
    b"[Infinity]",
    b"[null]",
    b"[true]",
    b'[["a"]]',
    b'["a",{}]',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'["\xff"]',
    b'["\xed\xa0\x80"]',
    b'["a\x00b"]',
    b'["a\nb"]',
    b"['a']",
    b'\xef\xbb\xbf["a"]',
    '["a"]'.encode("utf-16"),
    b'["\\x"]',
    b'["\\u12"]',
]


@pytest.mark.parametrize("payload", BROKEN, ids=lambda payload: repr(payload[:12]))
def test_everything_else_is_broken(payload: bytes) -> None:
    with pytest.raises(PayloadBrokenError):
        frames.decode_messages(payload, 10)


def test_large_string_may_have_any_number_of_brackets() -> None:
    text = '["a",{"b":[]}]' * 10_000
    assert frames.decode_websocket_messages(json.dumps(text), 10) == [text]
    assert frames.decode_messages(json.dumps([text, "x"]), 10) == [text, "x"]


@pytest.mark.parametrize("tail", ['"x",[]]', '"x"', '"x"]]', '"x",]', "[]]", "1]"])
@pytest.mark.parametrize("start", ["[" + '"[",' * 9_000, '["' + "[" * 20_000 + '",'])
def test_large_payload_with_many_brackets_is_refused_as_a_small_one(start: str, tail: str) -> None:
    with pytest.raises(PayloadBrokenError):
        frames.decode_messages(start + tail, 10_000)


def test_what_comes_behind_too_many_messages_is_not_looked_at() -> None:
    with pytest.raises(PayloadTooLargeError):
        frames.decode_messages("[" + '"a",' * 30_000 + "broken", 10_000)


def test_an_empty_payload_is_missing() -> None:
    with pytest.raises(PayloadMissingError):
        frames.decode_messages(b"", 10)


def test_too_many_messages_are_refused() -> None:
    assert len(frames.decode_messages(b'["","",""]', 3)) == 3
    with pytest.raises(PayloadTooLargeError):
        frames.decode_messages(b'["","","",""]', 3)


@pytest.mark.parametrize(
    ("payload", "messages"),
    [("", []), ('"m"', ["m"]), ('["m","n"]', ["m", "n"]), ("[]", []), ('"\\ud800"', ["\ud800"])],
)
def test_websocket_messages_may_be_bare_strings(payload: str, messages: list[str]) -> None:
    assert frames.decode_websocket_messages(payload, 10) == messages


@pytest.mark.parametrize("payload", ['"m', '"m""n"', "m", "{}", "1", " ", '["m"', '"a",'])
def test_other_websocket_messages_are_broken(payload: str) -> None:
    with pytest.raises(PayloadBrokenError):
        frames.decode_websocket_messages(payload, 10)


def test_json_over_several_lines_is_a_frame_of_one() -> None:
    assert SOCKJS.encode_json('{\r\n\t"a": "\\n"\n}') == b'{   "a": "\\n" }'
