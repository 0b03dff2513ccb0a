"""The supervisor's side of one worker: starts it, talks to it, and waits for its end."""

import asyncio
import contextlib
import json
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]
from typing import Any

import async_timeout

from sockjs_aio.cluster.workers.control import BEAT, GRACE, REPORT_LIMIT, SIGNALS
from sockjs_aio.cluster.workers.worker_config import WorkerConfig

START_LIMIT = 60.0
"""Seconds within which a worker must be ready."""

LAST_WORDS = 0.5
"""Seconds to read a dead worker's last words; its own children may keep the socket open."""

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
        self.silence: float = 0.0
        """Seconds without a report that its event loop runs.  The supervisor counts its own turns,
        so time for which the whole machine was paused does not count.
        """
        self.end_limit: float = GRACE
        """Seconds that it may take to end, as it has reported."""
        self.report: list[list[Any]] = []
        """The metrics that it has reported last."""
        self.sources: set[str] = set()
        """The directories of the modules that it has imported, as it has reported."""
        self.started: int = time.time_ns()
        """When it was started, in nanoseconds since the epoch."""
        self.error: str | None = None
        """Why it cannot start, as it has reported."""
        self.was_aborted: bool = False
        self.has_ended: bool = False
        self.was_replaced: asyncio.Event = asyncio.Event()
        """Set once a successor serves."""
        self._serves_since: float | None = None
        self._writer = writer
        self._heard: set[str] = set()
        self._told: set[str] = set()
        self._news = asyncio.Event()
        self._listening = asyncio.create_task(self._listen(reader))
        self._ending = asyncio.create_task(self._end_listening())

    @classmethod
    async def start(cls, config: WorkerConfig) -> "Child":
        """Start a worker, in a Python with the same options as this one.

        Raises:
            OSError: If this process has no resources for another one.
        """
        ours, theirs = socket.socketpair()
        try:
            program = _PROGRAM.format(path=sys.path, number=theirs.fileno(), policy=config.policy)
            with signals_held():
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, *_interpreter_options(), "-c", program),
                    pass_fds=(theirs.fileno(), *config.listeners),
                    stdin=asyncio.subprocess.DEVNULL,
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        try:
            streams = await asyncio.open_unix_connection(sock=ours, limit=REPORT_LIMIT)
            child = cls(config.number, process, *streams)
        except BaseException:  # nobody else could end it
            _send(process, signal.SIGKILL)
            raise
        child._writer.write(config.encode())
        return child

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.process.pid})"

    @property
    def is_ready(self) -> bool:
        """Whether it serves clients."""
        return self._serves_since is not None

    @property
    def seconds(self) -> float:
        """How long it has served; 0 if it has not been ready yet."""
        if self._serves_since is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._serves_since

    def count_silence(self) -> None:
        """Note that time passes; call this every `BEAT` seconds.  A report resets the count."""
        self.silence += BEAT

    def tell(self, command: str) -> None:
        """Send a command, unless it has ended."""
        self._told.add(command)
        if not self.has_ended:
            self._writer.write(f"{command}\n".encode())

    def was_told(self, command: str) -> bool:
        """Tell whether a command was given."""
        return command in self._told

    def forget(self, word: str) -> None:
        """Forget that it has said a word, so that `hear` waits for the next time."""
        self._heard.discard(word)

    async def hear(self, word: str, limit: float | None) -> None:
        """Wait until it has said a word.

        Raises:
            WorkerEndedError: If it ends first, or does not say the word within `limit` seconds.
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
        """Wait for its end; return its exit status, negative for a signal."""
        status = await self.process.wait()
        await asyncio.wait((self._ending,))
        return status

    async def end(self) -> bool:
        """End it, and kill it if that takes too long; return whether it ended by itself."""
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
        """End it by SIGABRT, so that it prints where it hangs; the second call sends SIGKILL."""
        _send(self.process, signal.SIGKILL if self.was_aborted else signal.SIGABRT)
        self.was_aborted = True

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        _send(self.process, signal.SIGKILL)

    async def _end_listening(self) -> None:
        """Wait until it has ended, but not for processes that it has forked."""
        await self.process.wait()
        await asyncio.wait((self._listening,), timeout=LAST_WORDS)
        self._listening.cancel()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            async for line in reader:
                if not line.endswith(b"\n"):  # it was killed while it wrote
                    break
                word, _, detail = line.decode().strip().partition(" ")
                self.silence = -math.inf if word == "bye" else 0.0  # its loop stops after that
                if word == "ready":
                    self._serves_since = asyncio.get_running_loop().time()
                elif word == "limit":
                    self.end_limit = json.loads(detail)
                elif word == "report":
                    self.report = json.loads(detail)
                elif word == "sources":
                    self.sources.update(json.loads(detail))
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


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Hold `SIGNALS` back, here and in a process that is started meanwhile.

    The process inherits the mask, and unblocks them once it can ignore them.  If several workers
    are starting, the first to finish unblocks them here for all; asyncio forks before it first
    waits, so all have inherited the mask by then.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _send(process: asyncio.subprocess.Process, number: int) -> None:
    """Send a signal, unless it has ended.

    `Process.send_signal` could collect the exit status of a process that has just ended, and
    asyncio would miss it.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _interpreter_options() -> list[str]:
    """Return the options of this Python.  CPython's function leaves out most of ``-X``."""
    options: list[str] = _args_from_interpreter_flags()
    known = {option.partition("=")[0] for option in options}
    for name, value in sys._xoptions.items():
        if name not in known:
            options += ["-X", name if value is True else f"{name}={value}"]
    return options
