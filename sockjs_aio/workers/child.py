"""The supervisor's side of one worker: starts it, talks to it, sees it end."""

import asyncio
import socket
import sys

import async_timeout

from sockjs_aio.workers.order import Order

START_LIMIT = 60.0
"""Seconds within which a worker has to be ready."""


class WorkerEnded(Exception):
    """The worker has ended, or does not answer."""


class Child:
    """A worker process."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.process = process
        self._serves_since: float | None = None
        self._writer = writer
        self._heard: set[str] = set()
        self._told: set[str] = set()
        self._news = asyncio.Event()
        self.has_ended = False
        self._listening = asyncio.create_task(self._listen(reader))

    @classmethod
    async def start(cls, order: Order) -> "Child":
        """Start it with an order."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sockjs_aio.workers", str(theirs.fileno())),
                pass_fds=(theirs.fileno(), order.listener),
                stdin=asyncio.subprocess.DEVNULL,
            )
        try:
            child = cls(process, *await asyncio.open_unix_connection(sock=ours))
        except asyncio.CancelledError:  # nobody else knows it
            process.kill()
            raise
        child._writer.write(order.encode())
        return child

    @property
    def seconds(self) -> float:
        """How long it has served: 0 if it was never ready, however long that took."""
        if self._serves_since is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._serves_since

    def tell(self, command: str) -> None:
        """Write a command; one that has ended does not hear it."""
        self._told.add(command)
        if not self.has_ended:
            self._writer.write(f"{command}\n".encode())

    def was_told(self, command: str) -> bool:
        """Tell whether a command was written."""
        return command in self._told

    def forget(self, word: str) -> None:
        """Have `hear` wait for a word that it may have said before."""
        self._heard.discard(word)

    async def hear(self, word: str, limit: float) -> None:
        """Wait until it has said something.

        Raises:
            WorkerEnded: If it ends before, or does not say it within `limit` seconds.
        """
        try:
            async with async_timeout.timeout(limit):
                while word not in self._heard:
                    if self.has_ended:
                        raise WorkerEnded
                    self._news.clear()
                    await self._news.wait()
        except asyncio.TimeoutError:
            raise WorkerEnded from None

    async def ended(self) -> int:
        """Wait for its end; return its exit status, below 0 for a signal."""
        return await self.process.wait()

    async def end(self, limit: float) -> None:
        """Have it end, and kill it if it has not within `limit` seconds."""
        self.tell("end")
        try:
            async with async_timeout.timeout(limit):
                await self.process.wait()
        except asyncio.TimeoutError:
            self.kill()
            await self.process.wait()

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        if self.process.returncode is None:
            self.process.kill()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            async for line in reader:
                word = line.decode().strip()
                if word == "ready":
                    self._serves_since = asyncio.get_running_loop().time()
                self._heard.add(word)
                self._news.set()
        except ConnectionError:
            pass
        finally:
            self.has_ended = True
            self._news.set()
            self._writer.close()
