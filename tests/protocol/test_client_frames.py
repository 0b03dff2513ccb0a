"""What a client's frames leave in memory while they are read."""

import pytest

from sockjs_aio.protocol.client_frames import BATCH, ClientFrames
from sockjs_aio.protocol.frames import decode_websocket_messages
from tests.websocket_wire import masked


def test_bytes_that_are_read_are_freed_although_there_are_always_more() -> None:
    frames = ClientFrames(100_000)
    frame = masked(1, b"x" * 1000)
    frames.feed(frame * 3)
    for _ in range(500):  # the client keeps three messages under way
        frames.feed(frame)
        assert frames.next() == (1, "x" * 1000)
        assert len(frames.data) < 20_000
    assert len(frames) == 3 * len(frame)


def test_part_of_a_frame_does_not_keep_what_came_with_it() -> None:
    frames = ClientFrames(100_000)
    frames.feed(masked(1, b"x" * 60_000) + masked(1, b"y")[:3])
    assert frames.next() == (1, "x" * 60_000)
    assert frames.next() is None
    assert len(frames.data) == 3


@pytest.mark.parametrize("size", [0, 1, 119, 120, 121, 3000])
def test_whole_texts_are_read_together(size: int) -> None:
    frames = ClientFrames(100_000)
    one = masked(1, b'["%b"]' % (b"x" * size))
    frames.feed(one * (BATCH + 1) + one[:-1])
    assert frames.texts(decode_websocket_messages, 1) == ["x" * size] * BATCH
    assert frames.texts(decode_websocket_messages, 1) == ["x" * size]
    assert frames.texts(decode_websocket_messages, 1) == []
    frames.feed(one[-1:])
    assert frames.texts(decode_websocket_messages, 1) == ["x" * size] and not frames.data


@pytest.mark.parametrize("payload", [b"", b"x", b"x" * 125])
def test_pong_alone_is_known_at_once(payload: bytes) -> None:
    frames, pong = ClientFrames(1000), masked(10, payload)
    assert frames.is_pong(pong)
    others = [pong[:1], pong[:-1], pong + pong[:1], pong * 2, masked(9, payload)]
    others += [masked(10, b"x" * 126), masked(10, payload, fin=0), masked(10, payload, rsv=0x40)]
    others += [b"\x8a" + bytes([len(payload)]) + bytes(4) + payload]
    assert not any(map(frames.is_pong, others))
    frames.feed(masked(1, b"[")[:-1])
    assert not frames.is_pong(pong), "it is part of the text"


@pytest.mark.parametrize(
    "other",
    [
        *(
            masked(1, b"["),
            masked(1, b'["a","b","c"]'),
            masked(1, b"\xff"),
            masked(1, b'["', fin=0),
        ),
        *(masked(0, b'["x"]'), masked(2, b"x"), masked(9, b""), masked(8, b"\x03\xe8")),
        *(masked(1, b"x", rsv=0x40), masked(1, b'"%b"' % (b"x" * 100_000)), b"\x81\x01x"),
        b"\x81\xfe\x00\x02" + bytes(4) + b'""',  # longer than necessary
    ],
)
def test_what_is_not_a_valid_text_is_left_where_it_is(other: bytes) -> None:
    frames = ClientFrames(1000)
    frames.feed(masked(1, b'["x"]') + other + masked(1, b'["y"]'))
    assert frames.texts(decode_websocket_messages, 2) == ["x"]
    assert frames.texts(decode_websocket_messages, 2) == []
    assert len(frames) == len(other) + len(masked(1, b'["y"]'))
