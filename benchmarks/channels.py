"""`python -m benchmarks.channels`: compares a publish to 1,000 WebSockets with a broadcast.

The servers and Redis share one CPU, the load generator uses another.  All messages are checked: the
exit status is 1 if one was lost, doubled, altered or out of order.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks import report
from benchmarks.__main__ import compiled_loadgen, say
from benchmarks.contenders import ROOT
from benchmarks.run import PATIENCE, free_port, prepare, wait_until_listening
from benchmarks.scenarios import Result

CPU = "server_cpu_ms_per_1000"
PAGE = ROOT / "docs/scaling.md"


@dataclass(frozen=True)
class Way:
    """One way to send a message to 1,000 clients.

    Args:
        title: The title in the table.
        path: The server's prefix.
        nodes: The number of processes that share the clients.
    """

    title: str
    path: str
    nodes: int = 1


WAYS = [
    Way("`broadcast`, one process", "/broadcast"),
    Way("`publish`, MemoryBroker", "/memory"),
    Way("`publish`, RedisBroker, one process", "/redis"),
    Way("`publish`, RedisBroker, two processes", "/redis", nodes=2),
]


@contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    """Run a server on the first CPU; yield its process id."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=prepare(min(os.sched_getaffinity(0))),
    )
    try:
        wait_until_listening(process, port)
        yield process.pid
    finally:
        process.kill()
        process.wait()


@contextmanager
def nodes(count: int) -> Iterator[tuple[int, list[int]]]:
    """Run Redis and `count` servers; yield the port that the servers share, and all process ids."""
    redis, port = free_port(), free_port()
    server = [sys.executable, "-m", "benchmarks.servers.channels_server", "--port", str(port)]
    server += ["--redis", f"redis://127.0.0.1:{redis}"]
    with ExitStack() as stack:
        command = ["redis-server", "--port", str(redis), "--save", ""]
        pids = [stack.enter_context(running(command, redis))]
        pids += [stack.enter_context(running(server, port)) for _ in range(count)]
        yield port, pids


def run(way: Way, seconds: float) -> Result:
    with nodes(way.nodes) as (port, pids):
        done = subprocess.run(
            [
                *(str(compiled_loadgen()), "--port", str(port), "--path", way.path),
                *("--scenario", "broadcast", "--connections", "1000"),
                *(option for pid in pids for option in ("--pid", str(pid))),
                *("--seconds", str(seconds), "--warmup", "0.5"),
            ],
            stdout=subprocess.PIPE,
            text=True,
            timeout=seconds + PATIENCE + 90,
            preexec_fn=prepare(max(os.sched_getaffinity(0))),
        )
    result: Result = json.loads(done.stdout)
    return result


def table(results: dict[Way, list[Result]]) -> str:
    """Return the medians as a Markdown table; CPU ratios compare runs of the same round."""
    lines = [
        "| 1,000 WebSockets, 32 bytes | deliveries per second | µs of CPU per delivery "
        "| beside `broadcast` | publish to last client, p50 |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for way, rounds in results.items():
        pairs = zip(rounds, results[WAYS[0]], strict=True)
        ratio = statistics.median(x[CPU] / base[CPU] for x, base in pairs)
        rate, cpu, p50 = (
            statistics.median(x[name] for x in rounds) for name in ("per_s", CPU, "p50_ms")
        )
        cells = (f"{rate:,.0f}", f"{cpu:.1f}", f"{ratio:.2f} ×", f"{p50:.1f} ms")
        lines.append(f"| {way.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.channels", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5, help="(5)")
    parser.add_argument("--seconds", type=float, default=1.5, help="measured per run (1.5)")
    parser.add_argument("--write", action="store_true", help="update docs/scaling.md")
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        sys.exit("redis-server is not installed: install it")
    results: dict[Way, list[Result]] = {way: [] for way in WAYS}
    for number in range(options.rounds):
        say(f"round {number + 1}")
        for way in WAYS:
            results[way].append(run(way, options.seconds))
    text = f"{report.circumstances(options.rounds, options.seconds, False)}\n\n{table(results)}"
    print(text)
    if options.write:
        report.put("channels", text, PAGE)
    failed = [(way.title, x) for way in WAYS for x in results[way] if x["errors"]]
    for title, result in failed:
        say(f"{title}: {result}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
