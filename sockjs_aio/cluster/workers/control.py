"""A worker's end of the line to its supervisor: commands come, answers and beats go back.

Commands are heard from the first moment on, while the application is loaded, too.
"""

import asyncio
import contextlib
import faulthandler
import json
import os
import select
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable

from sockjs_aio.cluster.workers.worker_config import WorkerConfig

BEAT = 0.5
"""Seconds between two beats, by which the supervisor sees that the event loop runs."""

GRACE = 3.0
"""Seconds that a worker may be late with anything that it does at once."""

MAX_DETAIL = 20000
"""Characters of what goes with a word: the supervisor reads lines of 64 KiB."""


class Control:
    """What the supervisor says, and what this worker says to it.

    Args:
        connection: To the supervisor.
        reader: Reads from it.
        writer: Writes to it.
    """

    def __init__(
        self,
        connection: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.ending = asyncio.Event()
        """Set once this worker is to end."""
        self.is_lost = False
        """Whether that is because the supervisor has ended."""
        self.patience = GRACE
        """Seconds for which the event loop may be held up once the supervisor has ended."""
        self.end_limit = GRACE
        """Seconds after which this process ends then, whatever it does."""
        self.clear_up: Callable[[], None] = _leave
        """What to do last then."""
        self._connection = connection
        self._writer = writer
        self._commands: asyncio.Queue[str] = asyncio.Queue()
        self._beats = 0
        self._tasks = (
            asyncio.create_task(self._listen(reader)),
            asyncio.create_task(self._beat()),
        )

    @classmethod
    async def open(cls, number: int) -> "tuple[Control, WorkerConfig]":
        """Begin to listen at the file descriptor `number`."""
        connection = socket.socket(fileno=number)
        watched = connection.dup()
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        config = WorkerConfig.decode(await reader.readline())
        control = cls(watched, reader, writer)
        threading.Thread(target=control._end_with_supervisor, daemon=True).start()
        return control, config

    def say(self, word: str, detail: object = None) -> None:
        """Tell the supervisor something."""
        line = word if detail is None else f"{word} {json.dumps(detail)}"
        with contextlib.suppress(ConnectionError):
            self._writer.write(f"{line}\n".encode())

    async def commands(self) -> AsyncIterator[str]:
        """Give all commands but the last, ``end``, for which there is `ending`."""
        while True:
            yield await self._commands.get()

    async def close(self) -> None:
        """Let what was said leave, and say no more."""
        for task in self._tasks:
            task.cancel()
        self.say("bye")
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            async for line in reader:
                command = line.decode().strip()
                if command == "end":
                    self.ending.set()
                    return
                self._commands.put_nowait(command)
        self.is_lost = True
        self.ending.set()

    async def _beat(self) -> None:
        while True:
            self._beats += 1
            self.say("beat")
            await asyncio.sleep(BEAT)

    def _end_with_supervisor(self) -> None:
        """Be the supervisor when there is none any more; runs in a thread.

        What holds up the event loop, be it an import, does not hear of the supervisor's end.
        """
        poller = select.poll()
        poller.register(self._connection, 0)  # for its end alone, which comes unasked
        poller.poll()
        lost_at = last_at = time.monotonic()
        last = self._beats
        while (now := time.monotonic()) < min(lost_at + self.end_limit, last_at + self.patience):
            time.sleep(BEAT / 4)
            if self._beats != last:
                last, last_at = self._beats, now
        faulthandler.dump_traceback()
        self.clear_up()
        os._exit(1)


def _leave() -> None:
    pass
