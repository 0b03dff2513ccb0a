"""The supervisor's side of one worker: starts it, talks to it, sees it end."""

import asyncio
import contextlib
import json
import math
import os
import signal
import socket
import sys
from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

import async_timeout

from sockjs_aio.cluster.workers.control import BEAT, GRACE
from sockjs_aio.cluster.workers.worker_config import WorkerConfig

START_LIMIT = 60.0
"""Seconds within which a worker has to be ready."""

LAST_WORDS = 0.5
"""Seconds to read what an ended worker has said; its own children may keep the line open."""

_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from sockjs_aio.cluster.workers.worker import main; "
    "main({number}, {policy!r})"
)


class WorkerEndedError(Exception):
    """The worker has ended, or does not answer."""


class Child:
    """A worker process."""

    def __init__(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.number = number
        self.process = process
        self.silence = 0.0
        """Seconds for which its event loop has not run, by the supervisor's own turns: when the
        whole machine stands still, no worker is to blame.
        """
        self.end_limit = GRACE
        """Seconds that it may take to end, as it has said."""
        self.error: str | None = None
        """Why it cannot begin, as it has said."""
        self.was_aborted = False
        self.has_ended = False
        self._serves_since: float | None = None
        self._writer = writer
        self._heard: set[str] = set()
        self._told: set[str] = set()
        self._news = asyncio.Event()
        self._listening = asyncio.create_task(self._listen(reader))

    @classmethod
    async def start(cls, config: WorkerConfig) -> "Child":
        """Start it with an config: a Python like this one."""
        ours, theirs = socket.socketpair()
        with theirs:
            program = _PROGRAM.format(path=sys.path, number=theirs.fileno(), policy=config.policy)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *_args_from_interpreter_flags(), "-c", program),
                pass_fds=(theirs.fileno(), *config.listeners),
                stdin=asyncio.subprocess.DEVNULL,
            )
        try:
            child = cls(config.number, process, *await asyncio.open_unix_connection(sock=ours))
        except asyncio.CancelledError:  # nobody else knows it
            _send(process, signal.SIGKILL)
            raise
        child._writer.write(config.encode())
        return child

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.process.pid})"

    @property
    def is_ready(self) -> bool:
        """Whether it serves."""
        return self._serves_since is not None

    @property
    def seconds(self) -> float:
        """How long it has served: 0 if it was never ready, however long that took."""
        if self._serves_since is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._serves_since

    def count_silence(self) -> None:
        """Note that it has said nothing; to be called each `BEAT` seconds."""
        self.silence += BEAT

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

    async def hear(self, word: str, limit: float | None) -> None:
        """Wait until it has said something.

        Raises:
            WorkerEndedError: If it ends before, or does not say it within `limit` seconds.
        """
        try:
            async with async_timeout.timeout(limit):
                while word not in self._heard:
                    if self.has_ended:
                        raise WorkerEndedError
                    self._news.clear()
                    await self._news.wait()
        except asyncio.TimeoutError:
            raise WorkerEndedError from None

    async def ended(self) -> int:
        """Wait for its end; return its exit status, below 0 for a signal."""
        status = await self.process.wait()
        await asyncio.wait((self._listening,), timeout=LAST_WORDS)
        return status

    async def end(self) -> bool:
        """Have it end, and kill it if it takes longer than it may; return whether it did end."""
        self.tell("end")
        try:
            async with async_timeout.timeout(self.end_limit + GRACE):
                await self.process.wait()
        except asyncio.TimeoutError:
            self.kill()
            await self.process.wait()
            return False
        return not self.was_aborted

    def abort(self) -> None:
        """Have it say where it hangs, and kill it if it does not even do that."""
        _send(self.process, signal.SIGKILL if self.was_aborted else signal.SIGABRT)
        self.was_aborted = True

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        _send(self.process, signal.SIGKILL)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            async for line in reader:
                word, _, detail = line.decode().strip().partition(" ")
                self.silence = -math.inf if word == "bye" else 0.0  # no loop runs after that
                if word == "ready":
                    self._serves_since = asyncio.get_running_loop().time()
                elif word == "limit":
                    self.end_limit = json.loads(detail)
                elif word == "failed":
                    self.error = json.loads(detail)
                self._heard.add(word)
                self._news.set()
        except ConnectionError:
            pass
        finally:
            self.has_ended = True
            self._news.set()
            self._writer.close()


def _send(process: asyncio.subprocess.Process, number: int) -> None:
    """Send a signal, unless it has ended: `Process.send_signal` takes the exit status of one that
    has just done so away from asyncio.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
