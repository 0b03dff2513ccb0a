"""Draw docs/img/dashboard.png: what docs/grafana/sockjs.json shows of some traffic.

``python -m benchmarks.dashboard [SECONDS]`` serves a chat, lets clients of all transports come,
talk and go, has a real Prometheus scrape it, and evaluates the own expressions of the dashboard.
Grafana is not used: matplotlib draws the panels at the places that the dashboard gives them.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import random
import re
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from sockjs_aio import ConnectionInfo, SockJSConnection, SockJSRouter
from sockjs_aio.client import ClientSocket, ConnectError, ConnectionClosedError, connect
from sockjs_aio.observers.prometheus import Metrics

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "docs/grafana/sockjs.json"
PICTURE = ROOT / "docs/img/dashboard.png"

TRANSPORTS = ("websocket", "xhr_streaming", "eventsource", "xhr", "jsonp")
PEOPLE = 30
STEP = 1.0
"""Seconds between two scrapes."""

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - {{job_name: sockjs, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}
"""


class Chat(SockJSConnection):
    """Publishes what it gets; a hook may wait, or fail."""

    async def on_open(self, info: ConnectionInfo) -> None:
        await self.subscribe("room")

    async def on_message(self, message: str) -> None:
        if message == "fail":
            raise ValueError("this one was asked for")
        await asyncio.sleep(random.expovariate(200))
        await self.publish("room", message)


async def read_all(client: ClientSocket) -> None:
    with contextlib.suppress(ConnectionClosedError):
        async for _ in client:
            pass


async def person(url: str, transport: str) -> None:
    """Come, talk, go, and come again."""
    while True:
        stay = time.monotonic() + random.uniform(3, 25)
        with contextlib.suppress(ConnectionClosedError, ConnectError):
            async with connect(url, transports=[transport]) as client:
                reading = asyncio.create_task(read_all(client))
                while time.monotonic() < stay:
                    await client.send(random.choice(["hello"] * 60 + ["fail"]))
                    await asyncio.sleep(random.uniform(0.5, 2))
                reading.cancel()
        await asyncio.sleep(random.uniform(0, 4))


async def stranger(session: aiohttp.ClientSession, url: str) -> None:
    """Send to sessions that do not exist, and block the event loop now and then."""
    for number in itertools.count():
        await asyncio.sleep(random.uniform(0.2, 2))
        await (await session.post(f"{url}/0/nobody{number}/xhr_send", data='["x"]')).release()
        if number % 8 == 7:
            time.sleep(0.3)  # noqa: ASYNC251


@contextlib.asynccontextmanager
async def service() -> AsyncIterator[int]:
    app, metrics = web.Application(), Metrics()
    SockJSRouter(Chat, "/chat", observers=[metrics], disconnect_delay=2).attach(app)
    app.router.add_get("/metrics", metrics.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@contextlib.asynccontextmanager
async def prometheus(port: int) -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "prometheus.yml"
        config.write_text(CONFIG.format(port=port))
        process = await asyncio.create_subprocess_exec(
            *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data"),
            *(f"--web.listen-address={address}", "--log.level=error"),
        )
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            await process.wait()


async def series(
    session: aiohttp.ClientSession, url: str, target: dict[str, Any], start: float, end: float
) -> list[tuple[str, list[float], list[float]]]:
    """Evaluate an expression of the dashboard; return its lines with their names."""
    query = target["expr"].replace("$__rate_interval", "10s").replace("$prefix", ".*")
    options = {"query": query, "start": str(start), "end": str(end), "step": str(STEP)}
    async with session.get(f"{url}/api/v1/query_range", params=options) as answer:
        found = (await answer.json())["data"]["result"]
    lines = []
    for line in found:
        name = target["legendFormat"]
        for label in re.findall(r"{{(\w+)}}", name):
            name = name.replace(f"{{{{{label}}}}}", line["metric"].get(label, ""))
        times = [float(at) - start for at, _ in line["values"]]
        lines.append((name, times, [float(value) for _, value in line["values"]]))
    return lines


async def measure(seconds: float) -> list[tuple[dict[str, Any], list[Any]]]:
    """Return each panel of the dashboard with its lines."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    async with service() as port, prometheus(port) as url, aiohttp.ClientSession() as session:
        chat = f"http://127.0.0.1:{port}/chat"
        start = time.time()
        tasks = [asyncio.create_task(stranger(session, chat))]
        for number in range(PEOPLE):
            transport = TRANSPORTS[number % len(TRANSPORTS)]
            tasks.append(asyncio.create_task(person(chat, transport)))
            await asyncio.sleep(seconds / 3 / PEOPLE)
        await asyncio.sleep(start + seconds - time.time())
        end = time.time()
        drawn = []
        for panel in panels:
            lines = [await series(session, url, x, start, end) for x in panel["targets"]]
            drawn.append((panel, [line for each in lines for line in each]))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return drawn


def draw(panels: list[tuple[dict[str, Any], list[Any]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel, _ in panels)
    figure = pyplot.figure(figsize=(15, height * 0.32))
    figure.patch.set_facecolor("#111217")
    grid = figure.add_gridspec(height // 8, 3, hspace=0.5, wspace=0.18)
    for panel, lines in panels:
        place = panel["gridPos"]
        axes = figure.add_subplot(grid[place["y"] // 8, place["x"] // 8])
        axes.set_facecolor("#181b1f")
        axes.set_title(panel["title"], color="#ccccdc", loc="left", fontsize=10)
        axes.tick_params(colors="#8e8e99", labelsize=7)
        axes.grid(color="#2a2d33", linewidth=0.6)
        unit = panel["fieldConfig"]["defaults"].get("unit", "")
        axes.set_ylabel({"short": "", "ops": "per second"}.get(unit, unit), color="#8e8e99", size=7)
        for name, times, values in lines:
            axes.plot(times, values, linewidth=1.2, label=name)
        axes.set_ylim(bottom=0)
        if lines:
            axes.legend(fontsize=6, frameon=False, labelcolor="#ccccdc", loc="upper left", ncols=2)
    figure.savefig(path, dpi=80, bbox_inches="tight")


if __name__ == "__main__":
    logging.basicConfig(level="CRITICAL")  # hooks fail on purpose
    draw(asyncio.run(measure(float(sys.argv[1]) if sys.argv[1:] else 120)), PICTURE)
