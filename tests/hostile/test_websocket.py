"""Frames that break RFC 6455, or come as nobody would send them, on both WebSocket endpoints.

That nothing is logged with a traceback is checked after each test, by `tests.log_check`.
"""

import asyncio
import struct
from collections.abc import AsyncIterator

import async_timeout
import pytest

from tests.cases import case
from tests.conftest import Serve
from tests.hostile.websocket import (
    RAW,
    Watched,
    both,
    deliver,
    message,
    opened,
    refused,
    reply,
    still_serves,
)
from tests.process import ServerProcess
from tests.websocket_wire import close_code, close_frame, frame, masked
from tests.wire import Wire

ways = pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])

MEGABYTE = 1 << 20


@pytest.fixture
async def server(unused_tcp_port: int) -> AsyncIterator[ServerProcess]:
    process = await ServerProcess.start(unused_tcp_port, {"heartbeat_delay": 60})
    yield process
    assert await process.stop() == 0


def head(opcode: int, size: int, *, mask: bool = True) -> bytes:
    """Make the head of a frame that announces `size` bytes, in eight bytes."""
    return bytes([0x80 | opcode, 0x80 * mask | 127]) + struct.pack("!Q", size)


def unmasked(opcode: int, payload: bytes) -> bytes:
    return bytes([0x80 | opcode, len(payload)]) + payload


START = masked(1, b"[", fin=0)
VIOLATIONS = {
    # announced lengths: these heads are all that is sent
    "one-more": (head(1, MEGABYTE + 1), 1009),
    "2**32": (head(1, 1 << 32), 1009),
    "2**62": (head(1, 1 << 62), 1009),
    "2**63": (head(1, 1 << 63), 1002),  # the first bit of a length must be 0
    "2**64-1": (head(1, (1 << 64) - 1), 1002),
    "binary-2**62": (head(2, 1 << 62), 1009),
    "continuation-2**62": (START + head(0, 1 << 62), 1009),
    "continuation-one-more": (START + head(0, MEGABYTE), 1009),
    "unmasked-2**62": (head(1, 1 << 62, mask=False), 1002),
    # not as short as can be, or not masked
    "length-in-two-bytes": (b"\x81\xfe\0\x05" + bytes(4) + b'["m"]', 1002),
    "length-in-eight-bytes": (head(1, 5) + bytes(4) + b'["m"]', 1002),
    "unmasked": (unmasked(1, b'["m"]'), 1002),
    "unmasked-ping": (unmasked(9, b""), 1002),
    "unmasked-close": (unmasked(8, b"\x03\xe8"), 1002),
    # control frames
    "long-close": (masked(8, b"\x03\xe8" + b"x" * 124), 1002),
    "long-pong": (masked(10, b"x" * 126), 1002),
    "ping-2**62": (head(9, 1 << 62), 1002),
    "fragmented-close": (masked(8, b"\x03\xe8", fin=0), 1002),
    "fragmented-pong": (masked(10, b"x", fin=0), 1002),
    "fragmented-ping": (START + masked(9, b"x", fin=0), 1002),
    "ping-of-two-length-bytes": (b"\x89\xfe\x00\x01\0\0\0\0x", 1002),
    # reserved bits and opcodes
    "reserved-1": (masked(1, b'"x"', rsv=0x40), 1002),
    "reserved-2": (masked(1, b'"x"', rsv=0x20), 1002),
    "reserved-3": (masked(1, b'"x"', rsv=0x10), 1002),
    "reserved-in-continuation": (START + masked(0, b"]", rsv=0x40), 1002),
    "reserved-in-ping": (masked(9, b"", rsv=0x40), 1002),
    **{f"opcode-{code}": (masked(code, b"x"), 1002) for code in (3, 4, 5, 6, 7)},
    **{f"opcode-{code}": (masked(code, b"x"), 1002) for code in (11, 12, 13, 14, 15)},
    # fragments
    "continuation-first": (masked(0, b"x"), 1002),
    "continuation-first-unfinished": (masked(0, b"x", fin=0), 1002),
    "continuation-after-a-message": (START + masked(0, b"]") + masked(0, b"x"), 1002),
    "text-in-a-message": (START + masked(1, b"x"), 1002),
    "text-behind-an-empty-fragment": (masked(1, b"", fin=0) + masked(1, b'["m"]'), 1002),
    "binary-in-a-message": (START + masked(2, b"x"), 1002),
    "text-in-a-message-unfinished": (START + masked(1, b"x", fin=0), 1002),
    # close frames
    **{
        f"close-{code}": (close_frame(code), 1002)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535)
    },
    "close-with-one-byte": (masked(8, b"\x03"), 1002),
    # text
    "bad-byte": (masked(1, b'["\xff"]'), 1007),
    "overlong": (masked(1, b'["\xc0\xaf"]'), 1007),
    "surrogate": (masked(1, b'["\xed\xa0\x80"]'), 1007),
    "surrogate-pair": (masked(1, b'["\xed\xa0\xbd\xed\xb8\x80"]'), 1007),
    "beyond-unicode": (masked(1, b'["\xf4\x90\x80\x80"]'), 1007),
    "half-a-character": (masked(1, b'["\xc3', fin=0) + masked(0, b'"]'), 1007),
    "cut-at-the-end": (masked(1, b'["\xe2\x82'), 1007),
    "bad-reason": (masked(8, b"\x03\xe8\xff"), 1007),
    "surrogate-reason": (masked(8, b"\x03\xe8\xed\xa0\x80"), 1007),
    "half-reason": (masked(8, b"\x03\xe8\xc3"), 1007),
}


@both
@ways
async def test_violation_is_told_by_its_code_and_ends_the_session(
    serve: Serve, path: str, bytewise: bool
) -> None:
    class Noted(Watched):
        pass

    served = await serve(Noted)
    for name, (data, code) in VIOLATIONS.items():
        with case(name):
            await served.until_empty()
            Noted.forget()
            wire = await opened(served, path)
            assert await refused(wire, data, bytewise=bytewise) == code
            assert await Noted.end() == (code, "error")
            assert [word for word in Noted.seen if word != "[]"] == ["open", "close"]
            await still_serves(served, path)


@both
@ways
async def test_close_code_of_a_client_comes_back(serve: Serve, path: str, bytewise: bool) -> None:
    class Noted(Watched):
        pass

    served = await serve(Noted)
    for code in (1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999):
        with case(code):
            await served.until_empty()
            Noted.forget()
            wire = await opened(served, path)
            assert await refused(wire, close_frame(code, "é€"), bytewise=bytewise) == code
            assert await Noted.end() == (code, "client")
            assert Noted.ends[0].reason == "é€"
            await still_serves(served, path)


@both
@ways
async def test_legal_but_odd_frames_are_understood(serve: Serve, path: str, bytewise: bool) -> None:
    class Noted(Watched):
        pass

    whole = "a€b" if path == RAW else '["a€b"]'
    data = whole.encode()
    middle = data.index("€".encode()) + 1  # inside the character
    wire = await opened(await serve(Noted), path)
    await deliver(
        wire,
        masked(1, b"", fin=0)
        + masked(9, b"x" * 125)
        + masked(0, data[:middle], fin=0)
        + masked(10, b"never asked for")
        + masked(0, b"", fin=0)
        + masked(9, b"")
        + masked(0, data[middle:]),
        bytewise=bytewise,
    )
    assert [await frame(wire) for _ in range(2)] == [(10, b"x" * 125), (10, b"")]
    assert await frame(wire) == reply(path, "a€b")
    assert Noted.seen == ["open", "a€b"]
    wire.close()


@both
async def test_messages_before_a_violation_are_handled(serve: Serve, path: str) -> None:
    class Noted(Watched):
        pass

    wire = await opened(await serve(Noted), path)
    data = message(path, "a") + message(path, "b") + masked(3, b"") + message(path, "c")
    assert await refused(wire, data) == 1002
    assert await Noted.end() == (1002, "error")
    assert Noted.seen == ["open", "a", "b", "close"]


@both
@pytest.mark.parametrize("fin", [0, 0x80], ids=["unfinished", "finished"])
async def test_data_after_the_close_frame_is_ignored(serve: Serve, path: str, fin: int) -> None:
    class Noted(Watched):
        pass

    served = await serve(Noted)
    wire = await opened(served, path)
    rest = message(path, "a") + masked(9, b"ping") + masked(3, b"") + masked(1, b"\xff", fin=fin)
    assert await refused(wire, close_frame(4000, "bye") + rest) == 4000
    assert await Noted.end() == (4000, "client")
    assert Noted.seen == ["open", "close"]
    await still_serves(served, path)


@both
async def test_data_that_follows_the_close_handshake_for_ever_is_not_read(
    serve: Serve, path: str
) -> None:
    class Noted(Watched):
        pass

    served = await serve(Noted)
    wire = await opened(served, path)
    wire.writer.write(close_frame(1000))
    assert await close_code(wire) == 1000
    async with async_timeout.timeout(5):
        while not wire.writer.transport.is_closing():
            wire.writer.write(message(path, "x" * 1000))
            await asyncio.sleep(0.001)
    assert Noted.seen == ["open", "close"]
    await still_serves(served, path)


@both
@pytest.mark.usefixtures("endless_turns")
@pytest.mark.parametrize("order", ["client first", "at once", "server first"])
async def test_both_sides_close(serve: Serve, path: str, order: str) -> None:
    class Closing(Watched):
        async def on_message(self, message: str | bytes) -> None:
            if message == "close":
                self.close(3001, "server's")
            else:
                await super().on_message(message)

    served = await serve(Closing)
    wire = await opened(served, path)
    ask, leave = message(path, "close"), close_frame(4000, "client's")
    if order == "server first":
        wire.writer.write(ask)
        assert await close_code(wire) == (3001 if path == RAW else 1000)
        wire.writer.write(leave)
    else:
        wire.writer.write(leave + ask if order == "client first" else ask + leave)
        assert await close_code(wire) == 4000
    assert await wire.is_closed(), "there is one close frame, and nothing after it"
    expected = (4000, "client") if order == "client first" else (3001, "server")
    assert await Closing.end() == expected
    assert Closing.seen == ["open", "close"]
    wire.close()
    await still_serves(served, path)


@both
async def test_fragments_are_counted_together(server: ServerProcess, path: str) -> None:
    wire = await opened(server, path)
    closing = asyncio.ensure_future(close_code(wire))
    before = server.resident
    wire.writer.write(masked(1, b"xx", fin=0))
    many = masked(0, b"xx", fin=0) * 10_000
    sent = 1
    async with async_timeout.timeout(100):
        while not closing.done() and sent < 1_000_000:
            wire.writer.write(many)
            await asyncio.wait([closing], timeout=0.001)
            sent += 10_000
        assert await closing == 1009
    assert server.resident - before < 16 * MEGABYTE
    wire.close()
    await echoes(server, path)


@both
async def test_empty_fragments_cost_no_memory_and_others_are_served(
    server: ServerProcess, path: str
) -> None:
    wire = await opened(server, path)
    await echoes(server, path)
    before = server.resident
    wire.writer.write(masked(1, b"", fin=0))
    flood = masked(0, b"", fin=0) * 50_000
    for _ in range(20):  # a million
        wire.writer.write(flood)
        await wire.writer.drain()
        await echoes(server, path)
    assert server.resident - before < 16 * MEGABYTE
    wire.writer.write(masked(0, b"end" if path == RAW else b'"end"'))
    async with async_timeout.timeout(30):
        assert await frame(wire) == reply(path, "end"), "it is a message like any other"
    wire.close()


@both
async def test_floods_of_pings_and_pongs_hold_up_nobody(server: ServerProcess, path: str) -> None:
    wire = await opened(server, path)
    before = server.resident
    pongs = 0
    for opcode in (9, 10):
        wire.writer.write(masked(opcode, b"x" * 100) * 50_000)
    await echoes(server, path)
    wire.writer.write(message(path, "end"))
    async with async_timeout.timeout(30):
        while (received := await frame(wire)) != reply(path, "end"):
            assert received == (10, b"x" * 100)
            pongs += 1
    assert 0 < pongs <= 50_000, "some may be left out, while the client does not read"
    assert server.resident - before < 16 * MEGABYTE
    wire.close()


async def echoes(server: ServerProcess, path: str) -> None:
    """Make sure that another client is served."""
    wire: Wire = await opened(server, path)
    wire.writer.write(message(path, "hello"))
    async with async_timeout.timeout(10):
        assert await frame(wire) == reply(path, "hello")
    wire.close()
