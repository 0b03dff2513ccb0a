"""`python -m benchmarks.flood`: measures what a flooding client costs the others.

For each transport, 20 quiet sessions exchange messages with an echo, ten a second each: alone, then
beside a session that sends as fast as the server lets it, with `message_rate` and without.  Each
run has a new server on the first CPU; the quiet clients and the flood, each a process, share the
other one.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import quote

import aiohttp

from benchmarks import report
from benchmarks.__main__ import say
from benchmarks.contenders import ROOT
from benchmarks.run import free_port, prepare, wait_until_listening
from sockjs_aio.client import TRANSPORTS, connect

SESSIONS, PAUSE = 20, 0.1
RATE = 20.0
"""The `message_rate`, twice of what the quiet sessions need."""

ANSWERS = {
    "xhr": ("POST", "/xhr"),
    "xhr_streaming": ("POST", "/xhr_streaming"),
    "eventsource": ("GET", "/eventsource"),
    "htmlfile": ("GET", "/htmlfile?c=f"),
    "jsonp": ("GET", "/jsonp?c=f"),
}
"""How a flooding session receives."""

SENDERS = 16
"""The requests that a flooding session has under way."""

MESSAGES = json.dumps(["x" * 32] * 100)


@dataclass(frozen=True)
class Way:
    """One way to measure.

    Args:
        title: The title of its column.
        rate: The `message_rate`; None for no limit.
        is_flooded: Whether there is a flood.
    """

    title: str
    rate: float | None
    is_flooded: bool


ALONE = Way("alone", RATE, is_flooded=False)
LIMITED = Way(f"flood, `message_rate={RATE:g}`", RATE, is_flooded=True)
UNLIMITED = Way("flood, no limit", None, is_flooded=True)
WAYS = [ALONE, LIMITED, UNLIMITED]

Latencies = list[float]


@dataclass(frozen=True)
class Result:
    """What one run has measured.

    Args:
        latencies: Of the messages of the quiet sessions, in milliseconds.
        cpu: The CPU time of the server, in seconds.
    """

    latencies: Latencies
    cpu: float

    def percentile(self, share: int) -> float:
        return statistics.quantiles(self.latencies, n=100)[share - 1]


# The clients.


async def quiet(url: str, transport: str, until: float, latencies: Latencies) -> None:
    """Exchange messages with the echo until that time, and note how long each takes, in ms."""
    async with connect(url, transports=[transport]) as socket:
        while (begun := time.monotonic()) < until:
            await socket.send("x" * 32)
            await socket.receive()
            latencies.append((time.monotonic() - begun) * 1000)
            await asyncio.sleep(PAUSE * random.uniform(0.5, 1.5))


async def measure(port: int, transport: str, seconds: float) -> Latencies:
    latencies: Latencies = []
    url, until = f"http://127.0.0.1:{port}/echo", time.monotonic() + seconds
    await asyncio.gather(*(quiet(url, transport, until, latencies) for _ in range(SESSIONS)))
    return latencies


async def flood(port: int, transport: str) -> None:
    """Send as fast as the server lets us, until this process is killed."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as client:
        if transport not in ANSWERS:
            await flood_websocket(client)
        session = "/echo/0/flood"
        async with client.post(session + "/xhr"):
            print("flooding", flush=True)
        senders = (send(client, session, transport) for _ in range(SENDERS))
        await asyncio.gather(receive(client, session, transport), *senders)


async def flood_websocket(client: aiohttp.ClientSession) -> None:
    async with client.ws_connect("/echo/0/flood/websocket") as websocket:
        print("flooding", flush=True)

        async def read() -> None:
            async for _ in websocket:
                pass

        reading = asyncio.create_task(read())
        while not reading.done():
            await websocket.send_str(MESSAGES)


async def receive(client: aiohttp.ClientSession, session: str, transport: str) -> None:
    method, path = ANSWERS[transport]
    while True:
        async with client.request(method, session + path) as response:
            async for _ in response.content.iter_any():
                pass


async def send(client: aiohttp.ClientSession, session: str, transport: str) -> None:
    path, body, kind = "/xhr_send", MESSAGES, "text/plain"
    if transport == "jsonp":
        path, body = "/jsonp_send", "d=" + quote(MESSAGES)
        kind = "application/x-www-form-urlencoded"
    while True:
        headers = {"Content-Type": kind}
        async with client.post(session + path, data=body, headers=headers) as response:
            await response.read()


# The runs.


@contextlib.contextmanager
def running(cpu: int, *arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=prepare(cpu),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(way: Way, transport: str, seconds: float) -> Result:
    cpus, port = sorted(os.sched_getaffinity(0)), free_port()
    command = ["benchmarks.servers.sockjs_aio_server", "--port", str(port)]
    if way.rate is not None:
        command += ["--message-rate", str(way.rate)]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(cpus[0], *command))
        wait_until_listening(server, port)
        if way.is_flooded:
            command = ["benchmarks.flood", "--flood", str(port), "--transports", transport]
            flooding = stack.enter_context(running(cpus[-1], *command))
            assert flooding.stdout is not None
            flooding.stdout.readline()
            time.sleep(1.5)  # its burst is over
        before = cpu_time(server.pid)
        latencies = asyncio.run(measure(port, transport, seconds))
        return Result(latencies, cpu_time(server.pid) - before)


def cpu_time(pid: int) -> float:
    """Return the CPU time that a process has taken, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


Runs = dict[str, dict[Way, list[Result]]]


def table(runs: Runs) -> str:
    """Return the medians of the rounds as a Markdown table; ratios are those within one round."""
    heads = ["p50 alone", "p99 alone"]
    heads += [x for way in WAYS[1:] for x in (f"p99, {way.title}", "CPU of the server")]
    lines = [
        f"| {SESSIONS} quiet sessions over | {' | '.join(heads)} |",
        "| --- |" + " ---: |" * len(heads),
    ]
    for transport, ways in runs.items():
        alone = ways[ALONE]
        cells = [f"{median(x.percentile(share) for x in alone):.1f} ms" for share in (50, 99)]
        for way in WAYS[1:]:
            pairs = list(zip(ways[way], alone, strict=True))
            p99 = median(x.percentile(99) for x in ways[way])
            ratio = median(x.percentile(99) / y.percentile(99) for x, y in pairs)
            cpu = median(x.cpu / y.cpu for x, y in pairs)
            cells += [f"{p99:.1f} ms ({ratio:.1f} ×)", f"{cpu:.1f} ×"]
        lines.append(f"| {transport} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flood", description=(__doc__ or "").split("\n")[0]
    )
    names = [*TRANSPORTS, "rawwebsocket"]
    parser.add_argument("--transports", nargs="+", choices=names, default=list(TRANSPORTS))
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--seconds", type=float, default=5, help="measured per run (5)")
    parser.add_argument("--write", action="store_true", help="update docs/performance.md")
    parser.add_argument("--flood", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.flood is not None:
        asyncio.run(flood(options.flood, options.transports[0]))
        return
    runs: Runs = {transport: {way: [] for way in WAYS} for transport in options.transports}
    for number, transport in itertools.product(range(options.rounds), options.transports):
        say(f"round {number + 1}, {transport}")
        for way in WAYS:
            runs[transport][way].append(run(way, transport, options.seconds))
    text = f"{report.circumstances(options.rounds, options.seconds, False)}\n\n{table(runs)}"
    print(text)
    if options.write:
        report.put("flood", text)


if __name__ == "__main__":
    main()
