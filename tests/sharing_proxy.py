"""A reverse proxy that shares its connections to the server between clients, as haproxy's
``http-reuse always`` does: a request goes out on any connection whose last response has ended.

It speaks as much HTTP/1.1 as clients of SockJS do.  A WebSocket has its connection to itself.
"""

import asyncio
import re
from collections import deque

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

END = b"\r\n\r\n"
LIMIT = 1 << 24


class SharingProxy:
    """Passes requests on to a server.

    Args:
        port: Where the server listens, on this machine.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        """Where it listens."""
        self.shared = 0
        """Requests that went out on a connection that another client had used."""
        self._to = port
        self._idle: deque[tuple[object, Streams]] = deque()
        self._server: asyncio.AbstractServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Cut all connections."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for _, (_, writer) in self._idle:
            writer.close()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._exchange((reader, writer)):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # either side has gone, or the test has ended
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, client: Streams) -> bool:
        """Pass one request and its response on; return whether the client's connection stays."""
        reader, writer = client
        head = await reader.readuntil(END)
        body = await reader.readexactly(_length(head))
        upstream = await self._connect(client)
        upstream[1].write(head + body)
        answering = asyncio.ensure_future(self._answer(head, upstream, writer))
        leaving = asyncio.ensure_future(_has_left(reader))
        try:
            await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ConnectionResetError("the client has left, or speaks on: a WebSocket")
            is_upgraded, stays = answering.result()
            if is_upgraded:
                leaving.cancel()
                await _tunnel(client, upstream)
            elif stays:
                self._idle.append((client, upstream))
            return stays
        finally:
            for future in (answering, leaving):
                future.cancel()
            await asyncio.wait([answering, leaving])
            if all(streams is not upstream for _, streams in self._idle):
                upstream[1].close()

    async def _connect(self, client: object) -> Streams:
        while self._idle:
            user, streams = self._idle.popleft()
            if not streams[0].at_eof() and not streams[1].is_closing():
                self.shared += user is not client
                return streams
            streams[1].close()
        return await asyncio.open_connection("127.0.0.1", self._to, limit=LIMIT)

    async def _answer(
        self, asked: bytes, upstream: Streams, writer: asyncio.StreamWriter
    ) -> tuple[bool, bool]:
        """Pass a response on; return whether it is a WebSocket's, and whether connections stay."""
        reader = upstream[0]
        head = await reader.readuntil(END)
        writer.write(head)
        status = int(head.split(b" ", 2)[1])
        if status == 101:
            return True, False
        if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
            while (size := await self._pass_line(reader, writer)) > 0:
                writer.write(await reader.readexactly(size + 2))
                await writer.drain()
            writer.write(await reader.readexactly(2))
        elif re.search(rb"(?i)\r\ncontent-length:", head):
            if not asked.startswith(b"HEAD"):
                writer.write(await reader.readexactly(_length(head)))
        elif status not in (204, 304):
            while data := await reader.read(65536):
                writer.write(data)
            return False, False
        await writer.drain()
        closes = re.search(rb"(?i)\r\nconnection: *close", head + asked)
        return False, not closes and b" HTTP/1.1\r\n" in asked

    async def _pass_line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        line = await reader.readuntil(b"\r\n")
        writer.write(line)
        return int(line, 16)


def _length(head: bytes) -> int:
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(found[1]) if found else 0


async def _has_left(reader: asyncio.StreamReader) -> None:
    """Wait until the client has gone; what it sends before that is for later."""
    while not reader.at_eof() and reader.exception() is None:
        await asyncio.sleep(0.005)


async def _tunnel(client: Streams, upstream: Streams) -> None:
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    ways = [
        asyncio.ensure_future(copy(client[0], upstream[1])),
        asyncio.ensure_future(copy(upstream[0], client[1])),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)
        upstream[1].close()
        for way in ways:
            if not way.cancelled():
                way.exception()  # whoever of them has gone
