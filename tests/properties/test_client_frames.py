"""What a client sends arrives, however it is packed, cut, and mixed with pings."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockjs_aio.protocol.client_frames import unmask
from sockjs_aio.protocol.deflate import Deflate, Deflater
from sockjs_aio.server import aiohttp_internals
from tests.fuzz.client_frames import fuzz_client_frames, outcome
from tests.websocket_wire import masked

MESSAGES = st.lists(st.one_of(st.text(max_size=60), st.binary(max_size=280)), max_size=8)


def frames_of(message: str | bytes, data: st.DataObject, deflater: Deflater | None) -> list[bytes]:
    """Make the frames for `message`: one or several, with pings between them."""
    opcode = 1 if isinstance(message, str) else 2
    payload = message.encode() if isinstance(message, str) else message
    rsv = 0
    if deflater is not None and data.draw(st.booleans()):
        payload, rsv = deflater.deflate(payload), 0x40
    frames = []
    while data.draw(st.integers(0, 2)) == 0:  # another fragment
        cut = data.draw(st.integers(0, len(payload)))
        frames.append(masked(opcode, payload[:cut], fin=0, rsv=rsv))
        payload, opcode, rsv = payload[cut:], 0, 0
        if data.draw(st.booleans()):
            frames.append(masked(9, b"ping"))
    return [*frames, masked(opcode, payload, rsv=rsv)]


@given(MESSAGES, st.booleans(), st.booleans(), st.integers(1, 400), st.data())
def test_messages_arrive_whole_and_in_order(
    messages: list[str | bytes], is_packed: bool, by_texts: bool, step: int, data: st.DataObject
) -> None:
    deflater = Deflater(Deflate()) if is_packed else None
    frames = [frame for message in messages for frame in frames_of(message, data, deflater)]
    stream = b"".join(frames)
    pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
    found = outcome(pieces, is_packed, by_texts)
    assert [payload for opcode, payload in found if opcode in (1, 2)] == messages
    assert len([opcode for opcode, _ in found if opcode == 9]) == stream.count(masked(9, b"ping"))


@given(st.binary(max_size=400))
def test_any_bytes_are_read_as_a_plain_reader_does(data: bytes) -> None:
    fuzz_client_frames(data)


@given(st.lists(st.binary(max_size=20), max_size=10), st.integers(0, 255), st.data())
def test_any_frames_are_read_as_a_plain_reader_does(
    payloads: list[bytes], first: int, data: st.DataObject
) -> None:
    stream = b"".join(
        masked(
            data.draw(st.sampled_from([0, 1, 2, 8, 9, 10, 3])),
            payload,
            fin=data.draw(st.sampled_from([0x80, 0])),
            rsv=data.draw(st.sampled_from([0, 0, 0, 0x40, 0x20])),
        )
        for payload in payloads
    )
    fuzz_client_frames(bytes([first]) + stream)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 125, 126, 4096, 65537])
def test_both_ways_to_unmask_agree(size: int) -> None:
    payload, mask = os.urandom(size), os.urandom(4)
    slow, fast = bytearray(payload), bytearray(payload)
    unmask(mask, slow)
    (aiohttp_internals.unmask or unmask)(mask, fast)
    assert slow == fast
    assert slow == bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
