"""What a client's frames leave in memory while they are read."""

from sockjs_aio.protocol.client_frames import ClientFrames
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
