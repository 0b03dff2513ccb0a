"""A worker's side of the socket to its supervisor: commands come in, answers and beats go out.

It reads commands from the start, also while the application is being loaded.
"""

import asyncio
import contextlib
import faulthandler
import json
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable

from sockjs_aio.cluster.workers.worker_config import WorkerConfig
from sockjs_aio.server.forks import keep_from_forks

logger: logging.Logger = logging.getLogger("sockjs_aio.workers")

BEAT = 0.5
"""Seconds between two beats, which report to the supervisor that the event loop runs."""

# Windows has no SIGHUP; it has no workers either, but this can be imported
SIGNALS: tuple[signal.Signals, ...] = tuple(
    number for number in signal.Signals if number.name in ("SIGTERM", "SIGINT", "SIGHUP")
)
"""Signals for the supervisor, which workers get too: from systemd, or from a terminal."""

REPORT_LIMIT = 1 << 24
"""Bytes of the longest line that a worker may write: a report of its metrics."""

GRACE = 3.0
"""Seconds that a worker may take for anything that it should do at once."""


class Control:
    """Reads the supervisor's commands, and writes this worker's answers.

    Args:
        connection: The socket to the supervisor.
        reader: Reads from it.
        writer: Writes to it.
    """

    def __init__(
        self,
        connection: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.ending: asyncio.Event = asyncio.Event()
        """Set when this worker must end."""
        self.is_lost: bool = False
        """Whether it must end because the supervisor has died."""
        self.patience = GRACE
        """Seconds for which the event loop may be blocked once the supervisor has died."""
        self.end_limit = GRACE
        """Seconds after the supervisor's death after which this process exits in any case."""
        self.clear_up: Callable[[], None] = _leave
        """Called just before that."""
        self.make_report: Callable[[], object] | None = None
        """Returns the metrics that the supervisor asks for, if it may."""
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
        """Start to read commands from the file descriptor `number`."""
        connection = socket.socket(fileno=number)
        connection.set_inheritable(False)
        watched = connection.dup()
        for each in (connection, watched):  # the supervisor takes its end for the worker's end
            keep_from_forks(each)
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        line = await reader.readline()
        if not line.endswith(b"\n"):  # the supervisor has died, or has no resources for this worker
            raise SystemExit(1)
        config = WorkerConfig.decode(line)
        control = cls(watched, reader, writer)
        threading.Thread(target=control._end_with_supervisor, daemon=True).start()
        return control, config

    def say(self, word: str, detail: object = None) -> None:
        """Send a word to the supervisor, with a detail as JSON."""
        line = word if detail is None else f"{word} {json.dumps(detail)}"
        if len(line) >= REPORT_LIMIT:
            logger.warning("%s of %d bytes is too long for the supervisor", word, len(line))
            return
        with contextlib.suppress(ConnectionError):
            self._writer.write(f"{line}\n".encode())

    def report(self) -> None:
        """Report the metrics, if there are any; if that fails, the last ones count."""
        if self.make_report is not None:
            try:
                self.say("report", self.make_report())
            except Exception:  # such as one of the application's broker
                logger.exception("reporting the metrics failed")

    async def commands(self) -> AsyncIterator[str]:
        """Yield all commands but ``report``, and the last one, ``end``, which sets `ending`."""
        while True:
            yield await self._commands.get()

    async def close(self) -> None:
        """Send what is still buffered, and close the socket."""
        self.report()  # once more, so that it covers everything
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
                if command == "report":  # at once, also during a drain
                    self.report()
                    continue
                self._commands.put_nowait(command)
        self.is_lost = True
        self.ending.set()

    async def _beat(self) -> None:
        while True:
            self._beats += 1
            self.say("beat")
            await asyncio.sleep(BEAT)

    def _end_with_supervisor(self) -> None:
        """Wait for the supervisor's death, and end this process if it then does not end itself.

        This runs in a thread, because a blocked event loop would not notice the death.
        """
        poller = select.poll()
        poller.register(self._connection, 0)  # its end is reported unasked
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
