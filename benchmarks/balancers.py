"""`python -m benchmarks.balancers`: measures the cost of no stickiness, behind haproxy.

There are three nodes, and two haproxies in front of them that differ only in their configuration.
As in `benchmarks.nodes`, only the servers' CPU time is counted; haproxy is one of the servers.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.nodes import Talk, free_port, running_redis, start, wait_for
from benchmarks.relay import ROUNDS, Service, stopping

ROOT = Path(__file__).parents[1]
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


@contextlib.contextmanager
def running_haproxy(name: str, folder: str, nodes: list[Service]) -> Iterator[Service]:
    """Run haproxy in front of three nodes, with the project's configuration `name`."""
    service = Service.__new__(Service)
    service.port = free_port()
    ports = [node.port for node in nodes]
    names = ("SOCKJS_ONE", "SOCKJS_TWO", "SOCKJS_THREE")
    env = {name: f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}
    env.update(
        SOCKJS_BIND=f"127.0.0.1:{service.port}",
        SOCKJS_ADMIN=f"{folder}/{name}",
        SOCKJS_READY="/echo",  # it answers 200
    )
    service.process = subprocess.Popen(
        [
            *(shutil.which("haproxy", path=PATH) or "haproxy", "-db"),
            *("-f", str(ROOT / "haproxy/common.cfg"), "-f", str(ROOT / f"haproxy/{name}.cfg")),
        ],
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        text=True,
    )
    service.processes = [service.process.pid]
    try:
        wait_for(service.port)
        yield service
    finally:
        service.process.kill()
        service.process.wait()


def measure(count: int) -> None:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        _, url = stack.enter_context(running_redis())
        nodes = [stack.enter_context(stopping(start(url))) for _ in range(3)]
        talks = {"at its node, without a balancer": Talk("direct", nodes[0], nodes[0])}
        for name in ("by-session", "by-relay"):
            haproxy = stack.enter_context(running_haproxy(name, folder, nodes))
            talks[f"through haproxy, {name}"] = Talk(name, haproxy, haproxy, *nodes)
        for _ in range(ROUNDS):  # take turns: the machine's speed changes
            for talk in talks.values():
                talk.run(count // ROUNDS)
        for place, talk in talks.items():
            print(
                f"send and poll {place}: {statistics.median(talk.costs):.0f} us of CPU, "
                f"{statistics.median(talk.delays):.0f} us until both are answered; at least "
                f"{min(talk.costs):.0f} and {min(talk.delays):.0f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="cycles of send and poll")
    measure(parser.parse_args().count)


if __name__ == "__main__":
    main()
