"""`python -m benchmarks.memory`: measures the memory of one idle session, object by object.

tracemalloc counts every byte that Python allocates for the session.  The objects are those that the
garbage collector tracks.  The kernel's memory for the TCP connection is not included.
"""

import argparse
import asyncio
import collections
import gc
import sys
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from benchmarks.contenders import ROOT
from sockjs_aio import SockJSConnection, SockJSRouter

KINDS = {
    "websocket": "WebSocket",
    "xhr": "poll that waits",
    "direct": "poll that waits in the direct lane",
    "between": "polling session between two polls",
}
SETTINGS = {
    "disconnect_delay": 600,
    # the clock has a set of sessions for each tick, and sets grow in steps: with a tick a second,
    # their size depends on how long a busy machine takes to open the sessions
    "session_check_interval": 60,
}
WARM_UP = 50
"""Sessions opened before measuring, so that caches, tables and code are allocated already."""


@dataclass
class Holdings:
    """The memory of one session, on average.

    Args:
        total: All bytes.
        objects: By type, the number of objects and their bytes without what they refer to.
        owners: Bytes by the package whose code allocated them.
    """

    total: float
    objects: dict[str, tuple[float, float]]
    owners: dict[str, float]


async def measure(kind: str, count: int) -> Holdings:
    """Open `count` sessions in addition to a few others, and measure what they add."""
    app = web.Application()
    router = SockJSRouter(SockJSConnection, "/echo", SETTINGS)
    router.attach(app)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, keepalive_timeout=600)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    clients = [await _open(port, kind, 0, WARM_UP)]
    gc.collect()
    gc.freeze()  # gc.get_objects() returns only new objects from now on
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    clients.append(await _open(port, kind, WARM_UP, count))
    if kind == "websocket":
        await _beat(router)
    gc.collect()
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    owners = collections.Counter[str]()
    for change in after.compare_to(before, "filename"):
        owners[_owner(change.traceback[0].filename)] += change.size_diff
    del owners["tracemalloc"], before, after, change
    objects = _census()
    for client in clients:
        client.kill()
        await client.wait()
    return Holdings(
        sum(owners.values()) / count,
        {name: (number / count, size / count) for name, (number, size) in objects.items()},
        {name: size / count for name, size in owners.items()},
    )


async def _open(port: int, kind: str, first: int, count: int) -> asyncio.subprocess.Process:
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.idle_clients"),
        *(str(port), kind, str(first), str(count)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert client.stdout is not None
    line = await client.stdout.readline()
    assert line == b"%d\n" % count, line
    await asyncio.sleep(0.2)  # the server notices the connections that were closed
    return client


async def _beat(router: SockJSRouter) -> None:
    """Make all sessions beat: from then on, a WebSocket keeps only what an idle one needs."""
    registry = router._registry
    for _ in registry._clock.steps(registry.now() + 2.5 * registry.settings.heartbeat_delay):
        pass
    await asyncio.sleep(0.2)


def _census() -> dict[str, tuple[int, int]]:
    """Count the objects that the collector tracks, and their bytes, by type."""
    found: dict[str, tuple[int, int]] = {}
    for thing in gc.get_objects():
        kind = type(thing)
        name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
        number, size = found.get(name, (0, 0))
        found[name] = (number + 1, size + sys.getsizeof(thing))
    return found


def _owner(filename: str) -> str:
    """Return the name of the package that a file belongs to."""
    path = Path(filename)
    for folder in path.parents:
        if folder == ROOT or folder.name == "site-packages":
            return path.relative_to(folder).with_suffix("").parts[0]
    return "asyncio" if path.parent.name == "asyncio" else path.stem


def table(holdings: Holdings) -> str:
    """Return the memory of a session as Markdown tables, largest share first."""
    lines = ["| allocated by | bytes |", "| --- | ---: |"]
    for name, size in sorted(holdings.owners.items(), key=lambda item: -item[1]):
        if size >= 16:
            lines.append(f"| {name} | {size:,.0f} |")
    lines += [f"| **all** | **{holdings.total:,.0f}** |", ""]
    lines += ["| object | number | bytes |", "| --- | ---: | ---: |"]
    for name, (number, size) in sorted(holdings.objects.items(), key=lambda item: -item[1][1]):
        if number >= 0.5:
            lines.append(f"| `{name}` | {number:.0f} | {size:,.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help=f"some of {', '.join(KINDS)} (all)")
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument(
        "--total", action="store_true", help="print only two numbers: all bytes, and the package's"
    )
    options = parser.parse_args()
    for kind in options.kinds or KINDS:
        holdings = asyncio.run(measure(kind, options.sessions))
        if options.total:
            print(round(holdings.total), round(holdings.owners["sockjs_aio"]))
        else:
            print(f"#### {KINDS[kind]}\n\n{table(holdings)}\n")


if __name__ == "__main__":
    main()
