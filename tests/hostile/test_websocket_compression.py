"""permessage-deflate from clients that abuse it: bombs, broken streams, odd parameters."""

import asyncio
import zlib
from pathlib import Path

import async_timeout
import pytest

from tests.cases import case
from tests.conftest import Serve
from tests.hostile.websocket import RAW, Watched, both, opened, refused, still_serves
from tests.process import ServerProcess
from tests.websocket_wire import HANDSHAKE, close_code, close_frame, frame, handshake, masked

OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate"}
ON = {"websocket_compression": True}

RESERVED_1 = 0x40
MEGABYTE = 1 << 20


class Deflater:
    """Compresses messages as a client does, with one context for all of them."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(9, wbits=-15)

    def __call__(self, data: bytes) -> bytes:
        packed = self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return packed[:-4]


def unpacked(payload: bytes, context: "zlib._Decompress") -> bytes:
    return context.decompress(payload + b"\0\0\xff\xff")


def packed(data: bytes, opcode: int = 1) -> bytes:
    """Make the compressed frame of a message."""
    return masked(opcode, Deflater()(data), rsv=RESERVED_1)


def peak(server: ServerProcess) -> int:
    """Return the largest resident size that the server has had."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def bomb() -> bytes:
    """Make the frame of a message of 100 MB that are all zeros."""
    compressor = zlib.compressobj(9, wbits=-15)
    block = compressor.compress(bytes(MEGABYTE)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return masked(1, (block * 100)[:-4], rsv=RESERVED_1)


HELLO = Deflater()(b'["hello hello hello"]')
WRONG = {
    "reserved-block": (masked(1, b"\xff\xff\xff", rsv=RESERVED_1), 1007),
    "no-deflate-at-all": (masked(1, b'["a"]', rsv=RESERVED_1), 1007),
    "wrong-stored-length": (masked(1, b"\x00\x05\x00\x00\x00abcde", rsv=RESERVED_1), 1007),
    "text-is-not-utf-8": (packed(b'["\xff"]'), 1007),
    "binary": (packed(b"\xff" * (MEGABYTE + 2), opcode=2), 1009),
    "bomb": (bomb(), 1009),
    "packed-size": (masked(1, b"\0" * (MEGABYTE + 1), rsv=RESERVED_1), 1009),
    "reserved-2": (masked(1, HELLO, rsv=0x60), 1002),
    "reserved-in-continuation": (
        masked(1, HELLO[:5], fin=0, rsv=RESERVED_1) + masked(0, HELLO[5:], rsv=RESERVED_1),
        1002,
    ),
    "continuation-first": (masked(0, HELLO, rsv=RESERVED_1), 1002),
}


@both
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
async def test_what_cannot_be_unpacked_is_told_by_its_code(
    serve: Serve, path: str, bytewise: bool
) -> None:
    class Noted(Watched):
        pass

    served = await serve(Noted, settings=ON)
    for name, (data, code) in WRONG.items():
        if bytewise and len(data) >= 1000:
            continue
        with case(name):
            await served.until_empty()
            Noted.forget()
            wire = await handshake(served, path, **OFFER)
            if path != RAW:
                assert await frame(wire) == (0x41, Deflater()(b"o"))
            assert await refused(wire, data, bytewise=bytewise) == code
            assert await Noted.end() == (code, "error")
            assert Noted.seen == ["open", "close"]
            await still_serves(served, path)


async def test_broken_compression_is_named_in_close_info(serve: Serve) -> None:
    class Noted(Watched):
        pass

    wire = await handshake(await serve(Noted, settings=ON), RAW, **OFFER)
    assert await refused(wire, masked(1, b"\xff\xff\xff", rsv=RESERVED_1)) == 1007
    await Noted.until("close")
    assert Noted.ends[0].reason == "Broken compression"


@pytest.mark.programs
@both
async def test_bombs_cost_no_memory(unused_tcp_port: int, path: str) -> None:
    settings = {**ON, "max_message_size": MEGABYTE}
    server = await ServerProcess.start(unused_tcp_port, settings)
    assert len(bomb()) < 110_000
    before = peak(server)
    for _ in range(10):
        wire = await handshake(server, path, **OFFER)
        wire.writer.write(bomb())
        async with async_timeout.timeout(10):
            assert await close_code(wire) == 1009
        wire.close()
    assert peak(server) - before < 24 * MEGABYTE
    await server.until_empty()
    assert await server.stop() == 0


@both
@pytest.mark.parametrize("extra", [0, 1])
async def test_size_limit_holds_after_unpacking(serve: Serve, path: str, extra: int) -> None:
    class Noted(Watched):
        async def on_message(self, message: str | bytes) -> None:
            self.seen.append(len(message))

    served = await serve(Noted, settings={**ON, "max_message_size": 1000})
    wire = await handshake(served, path, **OFFER)
    text = b'"' + b"x" * (998 + extra) + b'"'
    if extra:
        assert await refused(wire, packed(text)) == 1009
    else:
        wire.writer.write(packed(text))
        await Noted.until(1000 if path == RAW else 998)


@both
async def test_compressed_frames_are_1002_where_compression_was_not_agreed_on(
    serve: Serve, path: str
) -> None:
    for settings, headers in ((None, OFFER), (ON, {})):

        class Noted(Watched):
            pass

        served = await serve(Noted, settings=settings)
        wire = await opened(served, path, **headers)
        assert await refused(wire, packed(b'["a"]')) == 1002
        assert await Noted.end() == (1002, "error")


@both
async def test_fragments_of_a_compressed_message_may_have_control_frames_between(
    serve: Serve, path: str
) -> None:
    class Noted(Watched):
        pass

    wire = await handshake(await serve(Noted, settings=ON), path, **OFFER)
    text = b"hello hello hello" if path == RAW else b'["hello hello hello"]'
    data = Deflater()(text)
    wire.writer.write(
        masked(1, data[:4], fin=0, rsv=RESERVED_1)
        + masked(9, b"p")
        + masked(0, data[4:9], fin=0)
        + masked(10, b"")
        + masked(0, data[9:])
        + close_frame(1000)
    )
    await Noted.until("close")
    assert Noted.seen == ["open", "hello hello hello", "close"]


@both
async def test_control_frames_and_later_fragments_are_never_marked_as_compressed(
    serve: Serve, path: str
) -> None:
    start = masked(1, b"", fin=0)
    for data in (masked(9, b"p", rsv=RESERVED_1), start + masked(0, b"", rsv=RESERVED_1)):
        wire = await handshake(await serve(Watched, settings=ON), path, **OFFER)
        assert await refused(wire, data) == 1002


PARAMETERS = [
    ("permessage-deflate", "permessage-deflate"),
    ("permessage-deflate; client_max_window_bits", "permessage-deflate"),
    ("permessage-deflate; client_max_window_bits=9", "permessage-deflate"),
    (
        "permessage-deflate; client_no_context_takeover",
        "permessage-deflate; client_no_context_takeover",
    ),
    (
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover",
    ),
    (
        "permessage-deflate; server_max_window_bits=9",
        "permessage-deflate; server_max_window_bits=9",
    ),
    ("permessage-deflate; unknown, permessage-deflate", "permessage-deflate"),
    ("permessage-deflate; server_max_window_bits=8", None),
    ("permessage-deflate; server_max_window_bits=16", None),
    ("permessage-deflate; server_max_window_bits=99999999999", None),
    (
        'permessage-deflate; server_max_window_bits="10"',
        "permessage-deflate; server_max_window_bits=10",
    ),
    ("permessage-deflate; server_max_window_bits", None),
    ("permessage-deflate; client_max_window_bits=16", None),
    ("permessage-deflate; client_no_context_takeover=1", None),
    ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
    ("permessage-deflate; unknown", None),
    ("permessage-bzip2", None),
    (";;;,,,", None),
]


@both
@pytest.mark.parametrize(("offer", "agreed"), PARAMETERS)
async def test_parameters_that_are_agreed_to_are_kept(
    serve: Serve, path: str, offer: str, agreed: str | None
) -> None:
    class Noted(Watched):
        pass

    wire = await (await serve(Noted, settings=ON)).wire()
    headers = {**HANDSHAKE, "Sec-WebSocket-Extensions": offer}
    wire.send("GET", "/echo" + path, headers=headers)
    answer = await wire.head()
    assert (answer.status, answer.header("Sec-WebSocket-Extensions")) == (101, agreed)
    deflate = Deflater()
    inflater = zlib.decompressobj(
        wbits=-int(agreed.split("=")[1]) if agreed and "bits" in agreed else -15
    )
    received = b""
    for number in range(3):
        if agreed and "client_no_context" in offer:
            deflate = Deflater()
        if agreed and "server_no_context" in agreed:
            inflater = zlib.decompressobj(wbits=-15)
        text = f"message {number} of some messages" * 20
        data = (text if path == RAW else f'["{text}"]').encode()
        wire.writer.write(masked(1, deflate(data), rsv=RESERVED_1) if agreed else masked(1, data))
        while f"message {number}".encode() not in received:
            async with async_timeout.timeout(5):
                opcode, payload = await frame(wire)
            assert opcode == (0x41 if agreed else 1)
            received = unpacked(payload, inflater) if agreed else payload
            if agreed and "server_no_context" in agreed:
                inflater = zlib.decompressobj(wbits=-15)
        assert text.encode() in received
    await asyncio.sleep(0)
    assert len(Noted.seen) == 4
