"""Frames in the responses of each HTTP transport, cut into pieces in any place."""

from collections.abc import Callable

import pytest

from sockjs_aio.errors import ServerFrameError
from sockjs_aio.protocol import response_reader
from sockjs_aio.protocol.frames import javascript_string
from sockjs_aio.protocol.response_reader import ResponseReader
from sockjs_aio.protocol.transports import TRANSPORTS

FRAMES = [b"o", b"h", 'a["ä% %25\\u2028 </script> \\"\\\\"]'.encode(), b'c[3000,"Go away!"]']

STREAMS = {
    "xhr_streaming": (response_reader.lines, b"h" * 2048 + b"\n"),
    "eventsource": (response_reader.events, b"\r\n"),
    "htmlfile": (response_reader.scripts, b"<!doctype html><script>c.start();</script>  \r\n\r\n"),
}


def read(new: Callable[[int], ResponseReader], body: bytes, step: int) -> list[bytes]:
    """Feed `body` in pieces of `step` bytes."""
    reading = new(4096)
    found = [
        frame
        for start in range(0, len(body), step)
        for frame in reading.feed(body[start : start + step])
    ]
    return found + reading.end()


@pytest.mark.parametrize("name", STREAMS)
def test_frames_of_a_stream_come_out_as_they_went_in(name: str) -> None:
    new, prelude = STREAMS[name]
    dress = TRANSPORTS[name].dress
    assert dress is not None
    body = prelude + b"".join(map(dress, FRAMES))
    for step in [*range(1, 100), len(body)]:
        found = read(new, body, step)
        assert found == FRAMES, step


def test_jsonp_has_one_frame() -> None:
    def new(limit: int) -> ResponseReader:
        return response_reader.call(limit, "_jp.a1")

    for frame in FRAMES:
        body = b"/**/_jp.a1(%b);\r\n" % javascript_string(frame)
        for step in range(1, len(body) + 1):
            assert read(new, body, step) == [frame]


def test_lines_of_events_that_are_no_data_are_ignored() -> None:
    body = b": hello\nretry: 5\nevent: message\nid: 1\ndata:h\n\ndata: o\r\n\r\n"
    assert read(response_reader.events, body, 1) == [b"h", b"o"]


@pytest.mark.parametrize("new", [new for new, _ in STREAMS.values()])
def test_piece_above_the_limit_is_refused(new: Callable[[int], ResponseReader]) -> None:
    reading = new(10)
    assert reading.feed(b"x" * 10) == []
    with pytest.raises(ServerFrameError, match="more than 10 bytes"):
        reading.feed(b"x")


def test_feeding_bytes_one_by_one_does_not_look_at_all_of_them_again() -> None:
    reading = response_reader.lines(1 << 20)
    for _ in range(200_000):
        reading.feed(b"x")
    assert reading.feed(b"\n") == [b"x" * 200_000]
