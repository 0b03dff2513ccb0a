"""WebSockets by hand: what a client sends and what comes back, frame by frame."""

import base64
import os
import struct

from tests.target import Target
from tests.wire import Wire

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
}


async def handshake(served: Target, path: str = "/0/1/websocket", **headers: str) -> Wire:
    """Open a WebSocket by hand; its frames are read and written as bytes."""
    wire = await served.wire()
    wire.send("GET", served.prefix + path, headers={**HANDSHAKE, **headers})
    assert (await wire.head()).status == 101
    return wire


def masked(opcode: int, payload: bytes, *, fin: int = 0x80, rsv: int = 0) -> bytes:
    """Make a frame as a client sends it."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + struct.pack("!H", size)
    else:
        length = b"\xff" + struct.pack("!Q", size)
    mask = b"\x01\x02\x03\x04"
    # as two long numbers: byte by byte, a megabyte takes a tenth of a second
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    data = (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")
    return bytes([fin | rsv | opcode]) + length + mask + data


async def frame(wire: Wire) -> tuple[int, bytes]:
    """Read a frame: opcode and payload."""
    first, size = await wire.reader.readexactly(2)
    assert first & 0x80 and not first & 0x30
    if size == 126:
        size = int.from_bytes(await wire.reader.readexactly(2), "big")
    elif size == 127:
        size = int.from_bytes(await wire.reader.readexactly(8), "big")
    return first & 0x4F, await wire.reader.readexactly(size)


async def close_code(wire: Wire) -> int:
    """Read frames up to the close frame; return its code."""
    while True:
        opcode, payload = await frame(wire)
        if opcode == 8:
            return int.from_bytes(payload[:2], "big")


def close_frame(code: int, reason: str = "") -> bytes:
    """Make a client's close frame."""
    return masked(8, struct.pack("!H", code) + reason.encode())
