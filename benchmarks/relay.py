"""`python -m benchmarks.relay`: what it costs to find a session at another worker.

The CPU time of the workers is what counts, as the kernel keeps it: other load on the machine, and
that of the clients here, do not.  The rates are of one client at a time for each connection.
"""

import argparse
import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

TARGET = "benchmarks.relay:make_app"
TICKS = os.sysconf("SC_CLK_TCK")


def make_app() -> object:
    from benchmarks.servers import sockjs_aio_server

    return sockjs_aio_server.make_app(25)


class Service:
    """Workers, and the CPU time that they have taken."""

    def __init__(self, count: int) -> None:
        command = [sys.executable, "-m", "sockjs_aio", "serve", TARGET, "--port", "0"]
        command += ["--workers", str(count), "--drain-notice", "0", "--drain-over", "0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        while not (
            found := re.search(r"serve http://[\d.]+:(\d+)", self.process.stderr.readline())
        ):
            pass
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.port = int(found[1])
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        self.workers = [int(number) for number in children.split()]

    def cpu(self) -> list[float]:
        """Return the seconds that each worker has taken."""
        taken = []
        for number in self.workers:
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            taken.append((int(fields[11]) + int(fields[12])) / TICKS)
        return taken

    def stop(self) -> None:
        self.process.send_signal(2)
        self.process.send_signal(2)
        self.process.wait()


@contextlib.contextmanager
def serving(count: int) -> Iterator[Service]:
    service = Service(count)
    try:
        yield service
    finally:
        service.stop()


class Wire:
    """One connection, for one request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str, body: bytes = b"") -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)
        return self.socket.recv(65536)


def cycle(wire: Wire, session: str, count: int) -> None:
    """Send and poll, so often."""
    for _ in range(count):
        assert b" 204 " in wire.post(f"/echo/0/{session}/xhr_send", b'["0123456789abcdef"]')
        assert wire.post(f"/echo/0/{session}/xhr").endswith(b"]\n")


def costs_of_one(count: int) -> tuple[float, float]:
    """Return the CPU microseconds of a send and a poll at their owner, and elsewhere."""
    with serving(2) as service:
        costs: dict[bool, float] = {}
        number = 0
        while len(costs) < 2:
            number += 1
            wire, session = Wire(service.port), f"session{number}"
            wire.post(f"/echo/0/{session}/xhr")
            cycle(wire, session, 200)
            before = service.cpu()
            cycle(wire, session, count)
            taken = [now - then for now, then in zip(service.cpu(), before, strict=True)]
            costs[min(taken) > 0.1 * max(taken)] = sum(taken) / count * 1e6
        return costs[False], costs[True]


def rate(workers: int, clients: int, count: int) -> tuple[float, float]:
    """Return echoes a second over xhr, and the workers' CPU microseconds of each."""
    with serving(workers) as service:
        wires = [Wire(service.port) for _ in range(clients)]
        for number, wire in enumerate(wires):
            wire.post(f"/echo/0/session{number}/xhr")
        before, start = sum(service.cpu()), time.perf_counter()
        threads = [
            threading.Thread(target=cycle, args=(wire, f"session{number}", count))
            for number, wire in enumerate(wires)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
        messages = clients * count
        return messages / seconds, (sum(service.cpu()) - before) / messages * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="cycles of send and poll")
    options = parser.parse_args()
    direct, relayed = costs_of_one(options.count)
    print(f"send and poll at the owner: {direct:.0f} us of CPU; elsewhere: {relayed:.0f} us")
    for workers in (1, 2):
        per_second, cost = rate(workers, 16, options.count // 8)
        print(
            f"{workers} worker(s): {per_second:.0f} echoes/s measured, {cost:.0f} us of CPU each: "
            f"{workers / cost * 1e6:.0f} echoes/s on {workers} core(s) of their own"
        )


if __name__ == "__main__":
    main()
