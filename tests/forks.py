"""Servers for tests as forks of a process that has imported what they need.

A Python that imports aiohttp takes 0.4 s of CPU time to start, and a fork of one a few hundredths.
So what tests start by the hundred are forks, with the arguments, the environment and the files of
a process that is started.  What users start themselves is never one, nor is what memory is
measured of.

`python -m tests.forks FD` is the process that forks, as `Template` starts it.
"""

import asyncio
import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]

IMPORTS = (
    *("aiohttp.web", "aiohttp_remotes", "redis.asyncio", "tests.adapters", "tests.wire"),
    *("sockjs_aio.brokers.redis", "sockjs_aio.cluster.nodes.nodes"),
    "sockjs_aio.cluster.workers.command",
)


class Fork:
    """A process; as much of `subprocess.Popen` as tests need.

    Args:
        stdout: What it prints.
        status: Where its process id comes, and then its exit status.
    """

    def __init__(self, stdout: IO[str], status: int) -> None:
        self.stdout = stdout
        self.returncode: int | None = None
        self._status = open(status, "rb", buffering=0)  # noqa: SIM115 - closed at its end
        self.pid = int(self._line())

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            byte = self._status.read(1)
            assert byte, "the process that forks has ended"
            line += byte
        return line

    def poll(self) -> int | None:
        """Return its exit status, or None while it runs."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended."""
        status = self._wait(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout or 0)
        return status

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._status, select.POLLIN)
            if poll.poll(None if timeout is None else timeout * 1000):
                self.returncode = int(self._line())
                self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a crash does."""
        self.send_signal(signal.SIGKILL)


class AsyncFork:
    """The same for a test that waits for it in its event loop, as `asyncio.subprocess.Process`."""

    def __init__(self, fork: Fork, stdout: "Pipe", stderr: "Pipe") -> None:
        self._fork = fork
        self.pid = fork.pid
        self.stdout, self._out = stdout
        self.stderr, self._err = stderr

    @classmethod
    async def start(
        cls,
        *arguments: str,
        options: Sequence[str] = (),
        environment: Mapping[str, str] = os.environ,
    ) -> "AsyncFork":
        """Start a process; `options` are those of the interpreter."""
        ours, theirs = os.pipe()
        with os.fdopen(theirs, "wb") as stderr:
            fork = template(*options).start(arguments, environment, stderr)
        return cls(fork, await _reader(fork.stdout), await _reader(os.fdopen(ours)))

    @property
    def returncode(self) -> int | None:
        return self._fork.poll()

    async def wait(self) -> int:
        """Wait until it has ended."""
        while (status := self._fork.poll()) is None:
            await asyncio.sleep(0.005)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        self._fork.send_signal(number)

    def kill(self) -> None:
        """End it as a crash does."""
        self._fork.kill()

    def close(self) -> None:
        """Read no more of what it prints, nor of what its own children do."""
        self._out.close()
        self._err.close()


Pipe = tuple[asyncio.StreamReader, asyncio.ReadTransport]


async def _reader(pipe: IO[str]) -> Pipe:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
    return reader, transport


class Template:
    """A process that has imported what servers need, with options of the interpreter."""

    def __init__(self, *options: str) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *options, "-m", "tests.forks", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
            )
        atexit.register(self.end)

    def end(self) -> None:
        """End it; what it has forked goes on."""
        self._socket.close()
        self._process.wait()

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], stderr: IO[Any]
    ) -> Fork:
        """Start a process: ``["-m", MODULE, ...]`` or ``[PATH, ...]``."""
        out, their_out = os.pipe()
        status, their_status = os.pipe()
        theirs = (their_out, stderr.fileno(), their_status)
        order = json.dumps([list(arguments), dict(environment)]).encode()
        try:
            self._socket.sendall(len(order).to_bytes(4, "big"))
            socket.send_fds(self._socket, [order[:1]], theirs)
            self._socket.sendall(order[1:])
        finally:
            os.close(their_out)
            os.close(their_status)
        return Fork(open(out, encoding="utf-8"), status)


@functools.cache
def template(*options: str) -> Template:
    """Return the process that forks processes with these options of the interpreter."""
    return Template(*options)


# The process that forks.


def await_order(source: socket.socket) -> tuple[list[str], dict[str, str], list[int]]:
    """Wait for what is to be forked; end with the process that asks for it."""
    size = source.recv(4, socket.MSG_WAITALL)
    if not size:
        sys.exit()
    start, descriptors, _, _ = socket.recv_fds(source, 1, 3)
    order = start + source.recv(int.from_bytes(size, "big") - 1, socket.MSG_WAITALL)
    arguments, environment = json.loads(order)
    return arguments, environment, descriptors


def tell_of_ends(running: dict[int, int]) -> None:
    """Say how processes have ended, each to its own pipe."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            break
        pipe = running.pop(pid)
        with contextlib.suppress(BrokenPipeError):  # nobody wants to know
            os.write(pipe, b"%d\n" % os.waitstatus_to_exitcode(status))
        os.close(pipe)


def fork_until_told(source: socket.socket) -> list[str]:
    """Fork what is asked for; return, in the new process, its arguments."""
    running: dict[int, int] = {}
    ended, wakeup = socket.socketpair()
    for end in (ended, wakeup):
        end.setblocking(False)
    signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([source, ended], [], [])
        if ended in ready:
            ended.recv(4096)
            tell_of_ends(running)
        if source not in ready:
            continue
        arguments, environment, (out, err, status) = await_order(source)
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for own in (source, ended, wakeup):
                own.close()
            for descriptor in (*running.values(), status):
                os.close(descriptor)
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.close(out)
            os.close(err)
            sys.stdout = open(1, "w", 1, closefd=False)  # noqa: SIM115 - it is another kind of file
            os.environ.clear()
            os.environ.update(environment)
            return arguments
        os.close(out)
        os.close(err)
        running[pid] = status
        os.write(status, b"%d\n" % pid)


def main() -> None:
    for name in IMPORTS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what all have in common is copied where it is touched
    first, *others = fork_until_told(socket.socket(fileno=int(sys.argv[1])))
    if first == "-m":
        sys.argv[1:] = others[1:]
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *others]
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    main()
