"""A real redis-server, for tests that stop it, kill it and start it again on the same port."""

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.ports import free_port

PATIENCE = 20.0
"""Seconds after which what a test waits for is taken to never happen."""

NO_LOGIN = b"-NOAUTH Authentication required.\r\n"


def find_server() -> str | None:
    return shutil.which("redis-server")


class RedisServer:
    """`redis-server` without persistence, on a port of its own, with its files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.unix_url = f"unix://{folder / 'redis.sock'}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            [
                *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", str(self._folder)),
                *("--enable-debug-command", "local", *options),
                *("--unixsocket", "redis.sock"),
            ],
            stdout=subprocess.DEVNULL,
        )
        self.until(lambda: self.command("PING") in (b"+PONG\r\n", NO_LOGIN))

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until `is_so` says so; meanwhile the server may not listen yet."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if is_so():
                    return
            time.sleep(0.01)
        raise AssertionError

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash does; it may be stopped."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def command(self, *arguments: str | bytes) -> bytes:
        """Send one command in the wire's own format; return the answer as it is, if it is short."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            connection.sendall(packed(*arguments))
            return connection.recv(1 << 16)

    def follow(self, primary: "RedisServer | None") -> None:
        """Be a replica of `primary`, or no replica any more."""
        where = ("127.0.0.1", str(primary.port)) if primary else ("NO", "ONE")
        assert self.command("REPLICAOF", *where).startswith(b"+OK")

    def publish(self, channel: str, *payloads: bytes) -> None:
        """Publish all `payloads` in one go."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            connection.sendall(b"".join(packed("PUBLISH", channel, x) for x in payloads))
            answers = 0
            while answers < len(payloads):
                answers += connection.recv(1 << 16).count(b"\n")

    def cli(self, *arguments: str) -> str:
        """Run redis-cli."""
        command = ["redis-cli", "-p", str(self.port), *arguments]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()


def note_known(server: RedisServer, namespace: str = "sockjs:") -> None:
    """Have nodes that start find that others have run with this server before."""
    run_id = server.command("INFO", "server").partition(b"run_id:")[2].partition(b"\r")[0]
    server.cli("SET", f"{namespace}server", run_id.decode())


def swap(primary: RedisServer, replica: RedisServer) -> None:
    """Do what Sentinel does at a planned failover."""
    replica.follow(None)
    primary.follow(replica)


def packed(*arguments: str | bytes) -> bytes:
    parts = [x.encode() if isinstance(x, str) else x for x in arguments]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(x), x) for x in parts)
