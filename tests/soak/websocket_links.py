"""Lean clients of the WebSocket and the raw WebSocket."""

import json
import os
import struct

from tests.soak.link import Event, Gone, Link, check_status, connect, parsed
from tests.websocket_wire import HANDSHAKE, frame

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def client_frame(opcode: int, payload: bytes) -> bytes:
    """Make a masked frame; masking all bytes at once, as one large number."""
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, size)
    mask = os.urandom(4)
    masks = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ masks).to_bytes(size, "big")


class WebSocket(Link):
    name = "websocket"
    is_http = False

    async def open(self) -> None:
        await self.connect(f"/soak/000/{self.token}/websocket")
        if await self.receive() != ("o", None):
            raise Gone("no open frame")

    async def connect(self, path: str) -> None:
        self.is_leaving = False
        self.down = await connect(self.port, small=self.small)
        self.down.send("GET", f"{path}?client={self.token}", headers=HANDSHAKE)
        reply = await self.down.head()
        check_status(reply, 101)

    async def receive(self) -> Event | None:
        assert self.down is not None
        while True:
            opcode, payload = await frame(self.down)
            if opcode == TEXT:
                return self.event(payload)
            if opcode == PING and self.returns:
                self.write(PONG, payload)
            elif opcode == CLOSE:
                if not self.is_leaving:
                    self.is_leaving = True
                    self.write(CLOSE, payload)
                    return self.closed(payload)
                return None

    def event(self, payload: bytes) -> Event:
        return parsed(payload)

    def closed(self, payload: bytes) -> Event | None:
        return None

    def write(self, opcode: int, payload: bytes) -> None:
        assert self.down is not None
        self.down.writer.write(client_frame(opcode, payload))

    async def send(self, messages: list[str]) -> None:
        self.write(TEXT, json.dumps(messages).encode())

    async def send_half(self) -> None:
        assert self.down is not None
        self.down.writer.write(client_frame(TEXT, b'["half a frame"]' * 100)[:-500])

    async def leave(self) -> None:
        self.is_leaving = True
        self.write(CLOSE, struct.pack("!H", 1000) + b"bye")


class RawWebSocket(WebSocket):
    name = "rawwebsocket"

    async def open(self) -> None:
        await self.connect("/soak/websocket")

    def event(self, payload: bytes) -> Event:
        return "a", [payload.decode()]

    def closed(self, payload: bytes) -> Event | None:
        return "c", [int.from_bytes(payload[:2], "big"), payload[2:].decode()]

    async def send(self, messages: list[str]) -> None:
        for message in messages:
            self.write(TEXT, message.encode())
