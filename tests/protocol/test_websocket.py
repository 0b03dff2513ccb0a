"""RFC 6455, sections 5.2, 5.5 and 7.4."""

import pytest

from sockjs_aio.protocol import websocket


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_length_has_the_shortest_form(size: int, header: bytes) -> None:
    assert websocket.text_frame(b"x" * size) == header + b"x" * size


def test_messages_go_out_by_their_type() -> None:
    assert websocket.message_frame("é") == b"\x81\x02\xc3\xa9"
    assert websocket.message_frame(b"\xff") == b"\x82\x01\xff"


def test_lone_surrogates_are_replaced_as_browsers_do() -> None:
    assert websocket.message_frame("\ud800x") == websocket.message_frame("\ufffdx")
    assert websocket.message_frame("\ud83d\ude00") == websocket.message_frame("😀")
    odd = "\udfff\ufffd\ufffd\ud83d\ud83d\ude00\ude00\ufffd\ufffd\ufffd\ud800"
    plain = odd.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert websocket.message_frame(odd) == websocket.message_frame(plain)


def test_joined_frames_are_split_again() -> None:
    sizes = [0, 1, 125, 126, 65535, 65536]
    data = b"".join(websocket.websocket_frame(websocket.BINARY, b"x" * size) for size in sizes)
    parts = list(websocket.split_frames(data + websocket.text_frame(b"end")))
    assert [(opcode, len(payload)) for opcode, payload in parts[:-1]] == [(2, n) for n in sizes]
    assert parts[-1] == (websocket.TEXT, b"end")


def test_close_payload_is_cut_at_a_character() -> None:
    assert websocket.close_payload(3000, "Go away!") == b"\x0b\xb8Go away!"
    assert websocket.close_payload(1000, "é" * 100) == b"\x03\xe8" + "é".encode() * 61
    assert websocket.close_payload(1000, "\ud800") == b"\x03\xe8?"


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1011, 1012, 1014, 3000, 4999])
def test_sendable_codes(code: int) -> None:
    assert websocket.is_sendable_code(code)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2010, 2999, 5000, 65535])
def test_codes_that_never_go_out(code: int) -> None:
    assert not websocket.is_sendable_code(code)
