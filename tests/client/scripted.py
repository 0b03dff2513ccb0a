"""A server that answers with the very bytes that a test gives it."""

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

INFO = b'{"websocket": true, "cookie_needed": false, "origins": ["*:*"], "entropy": 1}'

CUT_OFF = b"<the connection ends here>"


def response(body: bytes, status: str = "200 OK", head: str = "") -> bytes:
    """Return a whole response."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


def stream(*chunks: bytes) -> bytes:
    """Return the beginning of a response in chunks, without its end."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


def switching(key: str) -> bytes:
    """Return the answer to a WebSocket's handshake."""
    guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1((key + guid).encode()).digest()).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


def websocket_frame(payload: bytes, first: int = 0x81) -> bytes:
    """Return an unmasked frame of less than 126 bytes; by default a text."""
    return bytes([first, len(payload)]) + payload


class ScriptedServer:
    """Answers each request by what is at the end of its path.

    An answer is bytes, after which the connection stays open, or a list of them: one for each
    request in turn, the last one for all further ones.  Bytes for ``websocket`` follow the
    handshake.  The connection ends where an answer has `CUT_OFF`.
    """

    def __init__(self, answers: dict[str, bytes | list[bytes]]) -> None:
        self.answers = {"info": response(INFO), **answers}
        self.requests: list[str] = []
        self.tasks: set[Any] = set()
        self.writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())
        self.writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                await self.answer(head, reader, writer)
        writer.close()

    async def answer(
        self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        headers = {
            name.lower(): value
            for name, _, value in (x.partition(": ") for x in head.split("\r\n"))
        }
        await reader.readexactly(int(headers.get("content-length", 0)))
        end = head.split()[1].split("?")[0].rsplit("/", 1)[1]
        self.requests.append(end)
        answer = self.answers.get(end, response(b"", "404 Not Found"))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if end == "websocket" and not answer.startswith(b"HTTP/"):
            writer.write(switching(headers["sec-websocket-key"]))
        writer.write(answer.partition(CUT_OFF)[0])
        if CUT_OFF in answer:
            writer.close()


@contextlib.asynccontextmanager
async def scripted(**answers: bytes | list[bytes]) -> AsyncIterator[ScriptedServer]:
    """Run a server that has `answers`."""
    script = ScriptedServer(answers)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/faulty"
    try:
        yield script
    finally:
        server.close()
        for writer in script.writers:
            writer.close()
        if script.tasks:
            await asyncio.wait(script.tasks)
