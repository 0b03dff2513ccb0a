"""A reverse proxy that shares its connections to the server between clients, as haproxy's
``http-reuse always`` does: a request goes out on any connection whose last response has ended.

It speaks as much HTTP/1.1 as clients of SockJS do.  A WebSocket has its connection to itself.
"""

import asyncio
import re
from collections import deque
from typing import Any

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
        await asyncio.sleep(0.01)  # for the loop to close what has been told to

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
        request = head + await reader.readexactly(_length(head))
        upstream, answer = await self._ask(client, request)
        answering = asyncio.ensure_future(self._answer(request, answer, upstream, writer))
        leaving = asyncio.ensure_future(_has_left(reader))
        is_kept = False
        try:
            await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ConnectionResetError("the client has left")
            is_upgraded, is_kept = answering.result()
            if is_upgraded:
                leaving.cancel()
                await _tunnel(client, upstream)
            return is_kept
        finally:
            if is_kept:
                self._idle.append((client, upstream))
            else:
                upstream[1].close()
            await _end(answering, leaving)

    async def _ask(self, client: Streams, request: bytes) -> tuple[Streams, bytes]:
        """Send a request, and return the head of the answer.

        It is sent again if the server has just ended a connection that was kept.
        """
        while True:
            upstream, is_new = await self._connect(client)
            upstream[1].write(request)
            begin = asyncio.ensure_future(upstream[0].readuntil(END))
            try:
                while not begin.done() and not client[0].at_eof():
                    await asyncio.wait([begin], timeout=0.005)
                if begin.done() and begin.exception() is None:
                    return upstream, begin.result()
                upstream[1].close()
                if is_new or not begin.done():
                    raise ConnectionResetError("either side has gone")
            except asyncio.CancelledError:
                upstream[1].close()
                raise
            finally:
                await _end(begin)

    async def _connect(self, client: object) -> tuple[Streams, bool]:
        while self._idle:
            user, streams = self._idle.popleft()
            if not streams[0].at_eof() and not streams[1].is_closing():
                self.shared += user is not client
                return streams, False
            streams[1].close()
        return await asyncio.open_connection("127.0.0.1", self._to, limit=LIMIT), True

    async def _answer(
        self,
        asked: bytes,
        head: bytes,
        upstream: Streams,
        writer: asyncio.StreamWriter,
    ) -> tuple[bool, bool]:
        """Pass a response on; return whether it is a WebSocket's, and whether connections stay."""
        reader = upstream[0]
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


async def _end(*futures: "asyncio.Future[Any]") -> None:
    """Cancel what goes on, and do not complain of what has failed."""
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)


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
        await _end(*ways)
