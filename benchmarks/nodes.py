"""`python -m benchmarks.nodes`: measures the cost of relaying requests to another node.

As in `benchmarks.relay`, only the CPU time of the servers (nodes and Redis) is counted, not that of
the clients.
"""

import argparse
import asyncio
import contextlib
import http.client
import secrets
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from benchmarks.relay import ROUNDS, Service, Wire, cycle, stopping
from benchmarks.servers import sockjs_aio_server
from sockjs_aio import Nodes
from sockjs_aio.cluster.nodes.claim_keeper import ClaimKeeper
from sockjs_aio.cluster.nodes.directory import Directory
from sockjs_aio.cluster.nodes.locator import NodeLocator

SECRET = "a benchmark's nodes know it"
MANY = 10_000


def serve(port: int, redis: str) -> None:
    """Run a node, or a single process if `redis` is empty."""
    app = sockjs_aio_server.make_app(25)
    if redis:
        Nodes(redis, url=f"http://127.0.0.1:{port}", secret=SECRET).attach(app)
    web.run_app(
        app, host="127.0.0.1", port=port, handler_cancellation=True, access_log=None, print=None
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def wait_for(port: int) -> None:
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)


def opens(port: int) -> bool:
    """Tell whether a poll can open a session."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with contextlib.closing(connection):
        connection.request("POST", f"/echo/0/{secrets.token_hex(4)}/xhr")
        return connection.getresponse().status == 200


def start(redis: str) -> Service:
    port = free_port()
    service = Service("benchmarks.nodes", "--serve", str(port), "--redis", redis)
    wait_for(port)
    while redis and not opens(port):  # a Redis that it does not know may have lost sessions
        time.sleep(0.05)
    service.port, service.processes = port, [service.process.pid]
    return service


@contextlib.contextmanager
def running_redis() -> Iterator[tuple[int, str]]:
    """Run Redis; yield its process id and its URL."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield process.pid, f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


class Talk:
    """One session, and the cost of its sends and polls when they arrive at `entry`."""

    def __init__(self, session: str, owner: Service, entry: Service, *others: Service) -> None:
        self.session = session
        self.services = {owner, entry, *others}  # those whose CPU time counts
        self.costs: list[float] = []
        self.delays: list[float] = []
        Wire(owner.port).post(f"/echo/0/{session}/xhr")
        self.wire = Wire(entry.port)
        cycle(self.wire, session, 200)

    def cpu(self) -> float:
        return sum(sum(service.cpu()) for service in self.services)

    def run(self, count: int) -> None:
        before, begun = self.cpu(), time.perf_counter()
        cycle(self.wire, self.session, count)
        self.delays.append((time.perf_counter() - begun) / count * 1e6)
        self.costs.append((self.cpu() - before) / count)


def opening_cost(services: list[Service], count: int) -> float:
    """Return the CPU microseconds of opening one session with a poll."""
    wire = Wire(services[-1].port)
    before = sum(sum(service.cpu()) for service in services)
    for _ in range(count):
        wire.post(f"/echo/0/{secrets.token_hex(4)}/xhr")
    return (sum(sum(service.cpu()) for service in services) - before) / count


def measure(count: int) -> None:
    with contextlib.ExitStack() as stack:
        pid, url = stack.enter_context(running_redis())
        alone, owner, entry = (stack.enter_context(stopping(start(x))) for x in ("", url, url))
        redis = Service.__new__(Service)
        redis.processes = [pid]
        talks = {
            "in one process without nodes": Talk("alone", alone, alone),
            "at the owner": Talk("here", owner, owner),
            "at another node": Talk("there", owner, entry),
        }
        for _ in range(ROUNDS):
            for talk in talks.values():
                talk.run(count // ROUNDS)
        for place, talk in talks.items():
            print(
                f"send and poll {place}: {statistics.median(talk.costs):.0f} us of CPU, "
                f"{statistics.median(talk.delays):.0f} us until both are answered"
            )
        for name, services in (("without nodes", [alone]), ("with them", [redis, owner])):
            print(f"opening by a poll {name}: {opening_cost(services, count // 3):.0f} us of CPU")
        print(asyncio.run(sweep(url)))


class Registry:
    """A registry that has every session."""

    def now(self) -> float:
        return 0.0

    def get(self, session_id: str) -> str:
        return session_id


async def sweep(url: str) -> str:
    """Refresh many claims at once; report how long it takes and how long it blocks the loop."""
    directory = Directory(
        url, own="x", record=lambda: "x", namespace="sweep:", lease=60, expiry=5, timeout=5
    )
    locator = NodeLocator(directory, SECRET.encode(), timeout=1, silence=5, expiry=5)
    registry: Any = Registry()
    for number in range(MANY):
        key = f"sweep:session:/echo/{number:08}"
        with locator.claims.use(key, registry, str(number)) as claim:
            claim.is_held = True
    keeper = ClaimKeeper(directory, locator, print, interval=1, expiry=5, refresh_after=0)
    await keeper.look()  # the first call loads the script
    longest, is_done = 0.0, False

    async def watch() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not is_done:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    watching = asyncio.create_task(watch())
    directory.settling.lost_at = asyncio.get_running_loop().time()
    begun = time.perf_counter()
    await keeper.look()
    taken = time.perf_counter() - begun
    is_done = True
    await watching
    await locator.close()
    await directory.close()
    return (
        f"{MANY:,} claims refreshed at once: {taken * 1000:.0f} ms, blocking the loop for at most "
        f"{longest * 1000:.1f} ms at a time"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="cycles of send and poll")
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--redis", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.redis)
    else:
        measure(options.count)


if __name__ == "__main__":
    main()
