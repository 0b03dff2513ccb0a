"""The network between one client and the server: a TCP proxy on this machine that can fail.

All connections of the client go through it, so the failures are the same on every transport, and
real: the server sees resets, silence and full buffers.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Any

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets the connection


class Network:
    """Passes bytes on, as long as it works.

    Args:
        port: The port that the server listens on.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._to_client = asyncio.Event()
        self._to_server = asyncio.Event()
        self._is_down = False
        self.resume()

    async def start(self) -> int:
        """Start; return the port for the client."""
        self._listener = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Close everything, and wait until nothing is left."""
        if self._listener is not None:
            self._listener.close()
        self.reset()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    @property
    def is_working(self) -> bool:
        """Whether bytes pass in both directions."""
        return self._to_client.is_set() and self._to_server.is_set() and not self._is_down

    def resume(self) -> None:
        """Let bytes pass again, those that were held too."""
        self._to_client.set()
        self._to_server.set()

    def hold(self, *, to_server: bool = True) -> None:
        """Hold what goes to the client, and what goes `to_server`, without a word to either."""
        self._to_client.clear()
        if to_server:
            self._to_server.clear()

    def take_down(self) -> None:
        """Reset all connections, and accept no more."""
        self._is_down = True
        self.reset()

    def reset(self) -> None:
        """Reset all connections."""
        for writer in self._writers:
            if not writer.is_closing():
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        self.resume()  # those that wait see that their connection has ended

    async def _connect(
        self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio calls this in a task"
        self._tasks.add(task)
        self._writers.add(client_writer)
        try:
            if self._is_down:
                self.reset()
                return
            reader, writer = await asyncio.open_connection("127.0.0.1", self._server_port)
            self._writers.add(writer)
            await asyncio.gather(
                _pass(client_reader, writer, self._to_server),
                _pass(reader, client_writer, self._to_client),
            )
            self._writers.discard(writer)
        finally:
            client_writer.close()
            self._writers.discard(client_writer)
            self._tasks.discard(task)


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
) -> None:
    """Pass on what comes, while the gate is open; at the end, close the other side."""
    with contextlib.suppress(OSError):
        while True:
            await gate.wait()
            data = await reader.read(65536)
            await gate.wait()
            if not data or writer.is_closing():
                break
            writer.write(data)
            await writer.drain()
    writer.close()
