"""`python -m benchmarks.relay`: measures the cost of requests for sessions of another worker.

The cost at the session's own worker is measured with servers in one process that differ in nothing
else, because the same work varies more than that from process to process.

Only the workers' CPU time is counted, as the kernel measures it, so other load on the machine, such
as the clients, does not matter.  Rates are measured with one request at a time per connection.
"""

import argparse
import asyncio
import contextlib
import itertools
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from benchmarks.servers import sockjs_aio_server
from sockjs_aio.cluster.relay.gateway import Gateway
from sockjs_aio.cluster.relay.relay import Relay
from sockjs_aio.cluster.workers.locator import WorkerLocator
from sockjs_aio.cluster.workers.placement import HostPlacement, new_key

TARGET = "benchmarks.relay:make_app"
ROUNDS = 15
SHARING = 8


def make_app() -> web.Application:
    return sockjs_aio_server.make_app(25)


class Service:
    """A server with workers, or in one process, and the CPU time that it has used."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command], stderr=subprocess.PIPE, text=True
        )

    @classmethod
    def of_workers(cls, count: int) -> "Service":
        service = cls(
            *("sockjs_aio", "serve", TARGET, "--port", "0", "--workers", str(count)),
            *("--drain-notice", "0", "--drain-over", "0"),
        )
        stderr = service.process.stderr
        assert stderr is not None
        while not (found := re.search(r"serves? http://[\d.]+:(\d+)", stderr.readline())):
            pass
        threading.Thread(target=stderr.read, daemon=True).start()
        service.port = int(found[1])
        number = service.process.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text()
        service.processes = [int(child) for child in children.split()]
        return service

    @classmethod
    def of_one_process(cls) -> "Service":
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        service = cls("benchmarks.servers.sockjs_aio_server", "--port", str(port))
        service.port = port
        service.processes = [service.process.pid]
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return service
            time.sleep(0.05)

    port: int
    processes: list[int]

    def cpu(self) -> list[float]:
        """Return the CPU microseconds that each process has used, in all its threads."""
        return [
            sum(
                int((thread / "schedstat").read_text().split()[0]) / 1000
                for thread in Path(f"/proc/{number}/task").iterdir()
            )
            for number in self.processes
        ]

    def stop(self) -> None:
        self.process.send_signal(2)
        self.process.send_signal(2)
        self.process.wait()


@contextlib.contextmanager
def stopping(service: Service) -> Iterator[Service]:
    try:
        yield service
    finally:
        service.stop()


def request(path: str, body: bytes = b"") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Wire:
    """A TCP connection that carries one request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str, body: bytes = b"") -> bytes:
        self.socket.sendall(request(path, body))
        return self.socket.recv(65536)


def send(wire: Wire, session: str, x: str = "x") -> None:
    assert b" 204 " in wire.post(f"/echo/0/{session}/{x}hr_send", b'["0123456789abcdef"]')


def poll(wire: Wire, session: str, x: str = "x") -> None:
    assert wire.post(f"/echo/0/{session}/{x}hr").endswith(b"]\n")


def cycle(wire: Wire, session: str, count: int, x: str = "x") -> None:
    """Send a message and poll its echo, `count` times."""
    for _ in range(count):
        send(wire, session, x)
        poll(wire, session, x)


MASKED = b"\x81\x94\0\0\0\0" + b'["0123456789abcdef"]'
ECHO = b"\x81\x15" + b'a["0123456789abcdef"]'


def echo_over_websocket(port: int, number: int) -> Callable[[int], None]:
    """Connect; return a function that has the server echo `count` messages."""
    wire = socket.create_connection(("127.0.0.1", port))
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire.sendall(
        f"GET /echo/0/session{number}/websocket HTTP/1.1\r\nHost: a\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n".encode()
    )
    greeting = b""
    while not greeting.endswith(b"\x81\x01o"):
        greeting += wire.recv(65536)

    def echo(count: int) -> None:
        for _ in range(count):
            wire.sendall(MASKED)
            assert wire.recv(65536) == ECHO

    return echo


def echo_over_xhr(port: int, number: int) -> Callable[[int], None]:
    """Open a session; return a function that has the server echo `count` messages."""
    wire = Wire(port)
    wire.post(f"/echo/0/session{number}/xhr")
    return lambda count: cycle(wire, f"session{number}", count)


def echo_over_shared(port: int, number: int) -> Callable[[int], None]:
    """Open sessions that share a connection, which so changes the worker all the time."""
    wire = Wire(port)
    sessions = [f"shared{number}x{place}" for place in range(SHARING)]
    for session in sessions:
        wire.post(f"/echo/0/{session}/xhr")

    def echo(count: int) -> None:
        for _ in range(count // SHARING):
            for session in sessions:
                send(wire, session)
            for session in sessions:
                poll(wire, session)

    return echo


class Talk:
    """One session, and the cost of a send and a poll.

    With `x` encoded, as no client sends it, the requests are relayed where they can be.
    """

    def __init__(self, service: Service, session: str, x: str = "x") -> None:
        self.costs: list[float] = []
        self.service = service
        self.session = session
        self.x = x
        self.wire = Wire(service.port)
        self.wire.post(f"/echo/0/{session}/{x}hr")
        cycle(self.wire, session, 200, x)

    def run(self, count: int) -> None:
        before = sum(self.service.cpu())
        cycle(self.wire, self.session, count, self.x)
        self.costs.append((sum(self.service.cpu()) - before) / count)

    def is_relayed(self) -> bool:
        before = self.service.cpu()
        cycle(self.wire, self.session, 100, self.x)
        taken = [now - then for now, then in zip(self.service.cpu(), before, strict=True)]
        return min(taken) > 0.1 * max(taken)


@web.middleware
async def nothing(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await handler(request)


@contextlib.asynccontextmanager
async def running(app: web.Application) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Run `app`; yield a coroutine function that sends and polls `count` times in one session."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)

    async def cycles(count: int) -> None:
        for _ in range(count):
            writer.write(request("/echo/0/session/xhr_send", b'["0123456789abcdef"]'))
            assert b" 204 " in await reader.read(65536)
            writer.write(request("/echo/0/session/xhr"))
            assert (await reader.read(65536)).endswith(b"]\n")

    writer.write(request("/echo/0/session/xhr"))
    await reader.read(65536)
    await cycles(200)
    yield cycles
    writer.close()
    await runner.cleanup()


async def costs_at_the_owner(count: int) -> None:
    """Print the CPU time of a send and a poll with and without a relay, including the client."""
    apps = {name: sockjs_aio_server.make_app(25) for name in ("no", "an empty", "the relay as")}
    apps["an empty"].middlewares.append(nothing)
    with tempfile.TemporaryDirectory() as directory:
        key = new_key()
        relay = Relay(key, spans_hosts=False)
        locator = WorkerLocator(HostPlacement(directory, 1, 0, key), relay)
        Gateway(locator, relay).install(apps["the relay as"])
    async with contextlib.AsyncExitStack() as stack:
        servers = {k: await stack.enter_async_context(running(app)) for k, app in apps.items()}
        costs: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(ROUNDS):
            for name, cycles in servers.items():
                before = time.thread_time()
                await cycles(count // ROUNDS)
                costs[name].append((time.thread_time() - before) / (count // ROUNDS) * 1e6)
    for name, taken in costs.items():
        print(
            f"send and poll, {name} middleware: {statistics.median(taken):.0f} us with the client"
        )


def costs_of_one(count: int) -> None:
    """Print the CPU time of a send and a poll in one process, at the owner, and relayed."""
    with (
        stopping(Service.of_workers(2)) as workers,
        stopping(Service.of_one_process()) as process,
    ):
        talks = {
            "in one process without workers": Talk(process, "session"),
            "at the owner": Talk(workers, "session"),
        }
        for number in itertools.count():
            talk = Talk(workers, f"session{number}", "%78")
            if talk.is_relayed():
                talks["relayed"] = talk
                break
        for _ in range(ROUNDS):  # take turns: the machine's speed changes
            for talk in talks.values():
                talk.run(count // ROUNDS)
    for place, talk in talks.items():
        half = statistics.median(talk.costs)
        print(f"send and poll {place}: {half:.0f} us of CPU, at least {min(talk.costs):.0f}")


def rate(
    workers: int, clients: int, count: int, connect: Callable[[int, int], Callable[[int], None]]
) -> tuple[float, float]:
    """Return the echoes per second, and the workers' CPU microseconds per echo."""
    with stopping(Service.of_workers(workers)) as service:
        talks = [connect(service.port, number) for number in range(clients)]
        before, start = sum(service.cpu()), time.perf_counter()
        threads = [threading.Thread(target=talk, args=(count,)) for talk in talks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
        messages = clients * count
        return messages / seconds, (sum(service.cpu()) - before) / messages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="cycles of send and poll")
    options = parser.parse_args()
    asyncio.run(costs_at_the_owner(options.count))
    costs_of_one(options.count)
    for name, connect in (
        ("xhr", echo_over_xhr),
        ("xhr over shared connections", echo_over_shared),
        ("websocket", echo_over_websocket),
    ):
        for workers in (1, 2):
            per_second, cost = rate(workers, 16, options.count // 8 // SHARING * SHARING, connect)
            own = workers / cost * 1e6
            print(
                f"{name}, {workers} worker(s): {per_second:.0f} echoes/s measured, {cost:.0f} us "
                f"of CPU each: {own:.0f} echoes/s on {workers} core(s) of their own"
            )


if __name__ == "__main__":
    main()
