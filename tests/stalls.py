"""How long one callback holds up the event loop, in CPU time, and blocking clients in threads.

CPU time of the loop's own thread does not count what else the machine does, nor what the clients
do, which are in other threads.  `allowance` is what 20 ms of a quiet core are on this machine now.
"""

import asyncio
import contextlib
import gc
import gzip
import http.client
import os
import socket
import struct
import threading
import time
from asyncio import events
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sockjs_aio.protocol import json_text
from tests.websocket_wire import HANDSHAKE

LIMIT = 0.02
"""Seconds that one callback may hold up the loop, on a quiet core of the machine of `QUIET`."""

QUIET = 0.0115
"""Seconds that `_calibrate` takes on a quiet core (AMD EPYC, Python 3.11)."""

TIMEOUT = 20


@dataclass
class Watch:
    """The longest callback so far."""

    longest: float = 0.0
    callback: str = ""


class Collections:
    """CPU time of the garbage collector's full rounds, which are there whatever clients send."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] == 2:
            if phase == "start":
                self._start = time.thread_time()
            else:
                self.seconds += time.thread_time() - self._start


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    """Measure the callbacks of this thread's loop, without full rounds of garbage collection."""
    watch, collections = Watch(), Collections()
    run = events.Handle._run  # type: ignore[attr-defined]
    thread = threading.get_ident()

    def measured(handle: Any) -> None:
        if threading.get_ident() != thread:
            run(handle)
            return
        start = time.thread_time() - collections.seconds
        run(handle)
        seconds = time.thread_time() - collections.seconds - start
        if seconds > watch.longest:
            watch.longest, watch.callback = seconds, repr(handle)

    gc.collect()
    gc.callbacks.append(collections)
    events.Handle._run = measured  # type: ignore[attr-defined]
    try:
        yield watch
    finally:
        events.Handle._run = run  # type: ignore[attr-defined]
        gc.callbacks.remove(collections)


def allowance() -> float:
    """Return what `LIMIT` is now: another machine, a debugger or a tracer make all of it longer."""
    return LIMIT * max(min(_calibrate() for _ in range(3)) / QUIET, 1)


def _calibrate() -> float:
    start = time.thread_time()
    for number in range(20_000):
        json_text.quote(f"Grüße {number}")
    return time.thread_time() - start


# Clients that block, for threads.


def post(port: int, path: str, body: bytes, headers: dict[str, str] | None = None) -> int:
    """Return the status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("POST", path, body, headers or {})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def packed(body: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a body, and the header that says how it is compressed."""
    return gzip.compress(body), {"Content-Encoding": "gzip"}


class Peer:
    """A WebSocket."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        lines = [f"{name}: {value}" for name, value in HANDSHAKE.items()]
        head = "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *lines, "", ""])
        self._socket.sendall(head.encode())
        self._file = self._socket.makefile("rb")
        assert b" 101 " in self._file.readline()
        while self._file.readline() != b"\r\n":
            pass

    def send(self, opcode: int, *payloads: bytes) -> None:
        """Send frames, masked with zeros."""
        self._socket.sendall(b"".join(_frame(opcode, payload) for payload in payloads))

    def frame(self) -> tuple[int, bytes]:
        """Read a frame; opcode 8 stands for the end of the connection, too."""
        try:
            head = self._file.read(2)
            if len(head) < 2:
                return 8, b""
            size = head[1]
            if size == 126:
                size = int.from_bytes(self._file.read(2), "big")
            elif size == 127:
                size = int.from_bytes(self._file.read(8), "big")
            return head[0] & 0xF, self._file.read(size)
        except ConnectionError:
            return 8, b""

    def until(self, end: bytes) -> None:
        """Read up to a frame that ends so, or that closes."""
        while True:
            opcode, payload = self.frame()
            if opcode == 8 or payload.endswith(end):
                return

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + struct.pack("!H", size)
    else:
        length = b"\xff" + struct.pack("!Q", size)
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def is_own_loop() -> bool:
    """Tell whether callbacks are run by asyncio in Python, and so can be measured."""
    return isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop) and os.name == "posix"
