"""Payloads of Redis messages: what servers send, what others may, and what nobody can read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockjs_aio.brokers.redis.payload import (
    MAX_LABEL,
    NODES,
    CloseOrder,
    GapNotice,
    PayloadError,
    Reader,
    make_close_label,
    make_label,
    pack,
)
from sockjs_aio.protocol.names import MAX_NAME

ANN, BOB = "a" * 16, "b" * 16
TEXTS = st.text(st.characters(exclude_categories=()))  # half pairs as well


@given(TEXTS)
def test_what_is_packed_is_read(text: str) -> None:
    for label in (b"", make_label(ANN, 1)):
        assert Reader(BOB).read(pack(text, label)) == (text, None)
    for label in (make_label(key="k\u00e9=:"), make_label(ANN, 1, key="k\u00e9=:")):
        assert Reader(BOB).read(pack(text, label)) == (text, "k\u00e9=:")


@given(st.binary())
def test_anything_is_read_or_refused(payload: bytes) -> None:
    try:
        read = Reader(ANN).read(payload)
    except PayloadError:
        return
    if not isinstance(read, (CloseOrder, GapNotice)):
        assert read is not None
        text, key = read
        assert isinstance(text, str) and (key is None or 1 <= len(key) <= MAX_NAME)


def test_text_of_others_needs_no_label() -> None:
    assert pack("hello") == b"hello"
    assert Reader(ANN).read("h\u00e9llo".encode()) == ("h\u00e9llo", None)
    assert Reader(ANN).read(b"") == ("", None)


def test_text_that_begins_with_nul_has_an_empty_label() -> None:
    assert pack("\0x") == b"\0\0\0x"
    assert Reader(ANN).read(b"\0\0\0x") == ("\0x", None)


def test_own_messages_are_passed_over() -> None:
    reader = Reader(ANN)
    assert reader.read(pack("x", make_label(ANN, 1))) is None
    assert reader.read(pack("x", make_label(BOB, 1))) == ("x", None)


def test_what_an_earlier_connection_brings_late_is_passed_over() -> None:
    reader = Reader(ANN)
    assert reader.read(pack("1", make_label(BOB, 1))) == ("1", None)
    assert reader.read(pack("2", make_label(BOB, 3))) == ("2", None)
    assert reader.read(pack("late", make_label(BOB, 2))) is None
    assert reader.read(pack("3", make_label(BOB, 3))) == ("3", None)
    assert reader.read(pack("1", make_label("c" * 16, 1))) == ("1", None)


def test_so_many_senders_are_remembered_and_no_more() -> None:
    reader = Reader(ANN)
    assert reader.read(pack("x", make_label(BOB, 2))) == ("x", None)
    for number in range(NODES - 1):
        reader.read(pack("x", make_label(f"{number:016x}", 2)))
    assert reader.read(pack("late", make_label(BOB, 1))) is None
    for number in range(NODES):
        reader.read(pack("x", make_label(f"{number:016x}", 2)))
    assert reader.read(pack("forgotten", make_label(BOB, 1))) == ("forgotten", None)


@pytest.mark.parametrize(
    "payload",
    [
        b"\0",
        b"\0x",
        b"\0" + b"a" * 16 + b"\0x",
        b"\0" + b"a" * 16 + b":\0x",
        b"\0" + b"a" * 16 + b":-1\0x",
        b"\0" + b"A" * 16 + b":1\0x",
        b"\0" + b"a" * 17 + b":1\0x",
        b"\0" + b"a" * 16 + b":" + b"1" * 19 + b"\0x",
        b"\0" + b"a" * 16 + b":1 x",
        b"\0=\0x",
        b"\0=" + b"k" * (MAX_NAME + 1) + b"\0x",
        b"\0k\0x",
        b"\0!4001",
        b"\0!0999\0x",
        b"\0!5000\0x",
        b"\0!40010\0x",
        b"\0!4001+\0x",
        b"\0!4001+-1\0x",
        b"\0!4001+" + b"1" * 19 + b"\0x",
        b"\0" + b"a" * 16 + b"!4001\0x",
    ],
)
def test_broken_labels_are_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError, match="label"):
        Reader(BOB).read(payload)


@pytest.mark.parametrize("key", [b"\xff", b"a\nb", b"\xed\xa0\x80"])
def test_broken_keys_are_refused(key: bytes) -> None:
    with pytest.raises(PayloadError, match="key"):
        Reader(BOB).read(b"\0=" + key + b"\0x")


@pytest.mark.parametrize("data", [b"\xff", b"\xc0\x80", b"x\xe2\x98", b"\xf5\x80\x80\x80"])
@pytest.mark.parametrize("label", [b"", b"\0\0", make_label(ANN, 1)])
def test_what_is_no_utf8_is_refused(label: bytes, data: bytes) -> None:
    with pytest.raises(PayloadError, match="UTF-8"):
        Reader(BOB).read(label + data)


def test_label_is_as_long_as_is_said() -> None:
    assert len(make_label(ANN, 10**18 - 1, "k" * MAX_NAME)) <= MAX_LABEL
    assert len(make_close_label(4999, 10**18 - 1, make_label(ANN, 10**18 - 1))) <= MAX_LABEL


@given(st.integers(1000, 4999), TEXTS, st.none() | st.integers(0, 10**18 - 1))
def test_order_to_close_is_read_with_its_code_and_reason(
    code: int, reason: str, claim: int | None
) -> None:
    for label in (b"", make_label(ANN, 1)):
        payload = pack(reason, make_close_label(code, claim, label))
        assert Reader(BOB).read(payload) == CloseOrder(code, reason, claim, False)
    own = None if claim is None else CloseOrder(code, reason, claim, True)
    assert Reader(ANN).read(payload) == own


def test_order_that_comes_late_is_passed_over() -> None:
    reader = Reader(ANN)
    assert reader.read(pack("x", make_label(BOB, 2))) == ("x", None)
    for claim in (None, 7):
        assert reader.read(pack("", make_close_label(4001, claim, make_label(BOB, 1)))) is None


@given(TEXTS)
def test_no_text_is_an_order_to_close(text: str) -> None:
    for label in (b"", make_label(ANN, 1)):
        for forged in (text, "\0!4001\0" + text):
            assert Reader(BOB).read(pack(forged, label)) == (forged, None)
