"""A small HTTP client that shows what came over the wire, byte by byte and chunk by chunk."""

import asyncio
import os
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any, cast

from sockjs_aio.core.tcp import buffered_bytes


def end_sending(transport: asyncio.WriteTransport) -> None:
    """End the half of a client's connection that sends, once the kernel has what was sent."""
    if transport.can_write_eof():
        transport.write_eof()
        return
    # asyncio's TLS cannot; this is what the server sees of a client whose process has ended
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as sock:
        sock.shutdown(socket.SHUT_WR)


@dataclass
class Reply:
    """A response: its head, and as much of its body as was asked for."""

    version: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """Return the value of the only header called `name`."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, f"{name} is there {len(values)} times"
        return values[0] if values else None


class Wire:
    """One TCP connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(
        cls, port: int, tls: ssl.SSLContext | None = None, limit: int = 1 << 24, **options: Any
    ) -> "Wire":
        """Connect; `limit` and `options` are those of `asyncio.open_connection`."""
        if "sock" not in options:
            options.update(host="127.0.0.1", port=port)
        elif tls is not None:
            options["server_hostname"] = "127.0.0.1"
        return cls(*await asyncio.open_connection(limit=limit, ssl=tls, **options))

    def send(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        *,
        headers: dict[str, str] | None = None,
        version: str = "1.1",
    ) -> None:
        """Write a request."""
        if isinstance(body, str):
            body = body.encode()
        lines = [f"{method} {path} HTTP/{version}", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + (body or b""))

    async def head(self) -> Reply:
        """Read the head of a response."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status_line, *lines = head.rstrip("\r\n").split("\r\n")
        version, status, *_ = status_line.split(" ")
        headers = [(name, value.strip()) for name, _, value in (x.partition(":") for x in lines)]
        return Reply(version, int(status), headers)

    async def reply(self, method: str = "GET") -> Reply:
        """Read a whole response."""
        reply = await self.head()
        if method == "HEAD" or reply.status in (204, 304):
            return reply
        if reply.header("Transfer-Encoding") == "chunked":
            while chunk := await self.chunk():
                reply.chunks.append(chunk)
            reply.body = b"".join(reply.chunks)
        elif (length := reply.header("Content-Length")) is not None:
            reply.body = await self.reader.readexactly(int(length))
        else:
            reply.body = await self.reader.read()
        return reply

    async def chunk(self) -> bytes:
        """Read one chunk of a body; empty at its end."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def request(
        self, method: str, path: str, body: bytes | str | None = None, **options: object
    ) -> Reply:
        """Write a request and read its response."""
        self.send(method, path, body, **options)  # type: ignore[arg-type]
        return await self.reply(method)

    async def is_closed(self) -> bool:
        """Wait for the server to close the connection."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        """Close the connection in the ordinary way."""
        self.writer.close()
        if not self.writer.can_write_eof():  # TLS would wait for the server to say good-bye too
            self.writer.transport.abort()

    def abort(self) -> None:
        """Reset the connection."""
        self.writer.transport.abort()

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not taken."""
        return buffered_bytes(self.writer.transport)

    def end_sending(self) -> None:
        """End the half of the connection that sends, behind what was sent."""
        end_sending(self.writer.transport)

    def stop_reading(self) -> None:
        """Leave what comes to the kernel, until its buffers are full."""
        cast(asyncio.Transport, self.writer.transport).pause_reading()
