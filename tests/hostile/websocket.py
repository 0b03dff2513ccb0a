"""What the tests of hostile WebSocket clients share: a connection that notes, ways to send."""

import asyncio
import struct
from typing import ClassVar

import async_timeout
import pytest

from sockjs_aio import CloseInfo
from tests.conftest import Recorder, Served
from tests.target import Target
from tests.websocket_wire import close_code, frame, handshake, masked
from tests.wire import Wire

SOCKJS = "/0/1/websocket"
RAW = "/websocket"

both = pytest.mark.parametrize("path", [SOCKJS, RAW])


class Watched(Recorder):
    """Sends messages back, and notes how its session ended."""

    ends: ClassVar[list[CloseInfo]] = []

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.ends = []

    @classmethod
    def forget(cls) -> None:
        super().forget()
        cls.ends.clear()

    async def on_message(self, message: str | bytes) -> None:
        await super().on_message(message)
        self.send(message)

    async def on_close(self) -> None:
        assert self.close_info is not None
        self.ends.append(self.close_info)
        await super().on_close()

    @classmethod
    async def end(cls) -> tuple[int, str]:
        """Wait for the end of the only session: its code, and who caused it."""
        await cls.until("close")
        (info,) = cls.ends
        return info.code, info.initiator


def message(path: str, text: str) -> bytes:
    """Make what a client sends for one message."""
    return masked(1, text.encode() if path == RAW else f'["{text}"]'.encode())


def reply(path: str, text: str) -> tuple[int, bytes]:
    """Return the frame that carries `text` to the client."""
    return (1, text.encode() if path == RAW else f'a["{text}"]'.encode())


async def opened(served: Target, path: str, **headers: str) -> Wire:
    """Open a WebSocket and see the open frame, where there is one."""
    wire = await handshake(served, path, **headers)
    if path != RAW:
        assert await frame(wire) == (1, b"o")
    return wire


async def deliver(wire: Wire, data: bytes, *, bytewise: bool) -> None:
    """Send `data`, whole or byte by byte, as long as the server takes it."""
    if not bytewise:
        wire.writer.write(data)
        return
    for index in range(len(data)):
        if wire.writer.transport.is_closing():
            return
        wire.writer.write(data[index : index + 1])
        await asyncio.sleep(0)


async def refused(wire: Wire, data: bytes, *, bytewise: bool = False) -> int:
    """Send `data`; return the code with which the server closes, after which the connection ends.

    Reading begins first: the server does not wait for the rest of what it refuses.
    """
    closing = asyncio.ensure_future(close_code(wire))
    await deliver(wire, data, bytewise=bytewise)
    async with async_timeout.timeout(5):
        code = await closing
        assert await wire.is_closed()
    wire.close()
    return code


async def still_serves(served: Served, path: str) -> None:
    """Make sure that the next connection works, and that nothing is left of those before."""
    await served.until_empty()
    wire = await opened(served, path)
    wire.writer.write(message(path, "next"))
    assert await frame(wire) == reply(path, "next")
    wire.writer.write(masked(8, struct.pack("!H", 1000)))
    assert await close_code(wire) == 1000
    wire.close()
