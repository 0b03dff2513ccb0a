"""A real Prometheus, which scrapes what a test serves."""

import asyncio
import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import async_timeout

from tests.conftest import PATIENCE
from tests.ports import free_port

INTERVAL = 0.2
"""Seconds between two scrapes."""

_CONFIG = """
global: {{scrape_interval: {interval}ms, scrape_timeout: {interval}ms}}
scrape_configs:
  - job_name: sockjs
    metrics_path: {path}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


def find_prometheus() -> str | None:
    return shutil.which("prometheus")


class Prometheus:
    """`prometheus` on a port of its own, with its files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    async def scrape(self, port: int, path: str = "/metrics") -> None:
        """Start it, and wait until it has scraped `path` of a server on this machine."""
        self._start(port, path)
        await self.until("up", 1)

    def _start(self, port: int, path: str) -> None:
        interval = round(INTERVAL * 1000)
        config = self._folder / "prometheus.yml"
        config.write_text(_CONFIG.format(interval=interval, path=path, port=port))
        self._process = subprocess.Popen(
            [
                *("prometheus", f"--config.file={config}", "--log.level=error"),
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ]
        )

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def values(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Evaluate an expression; return its values with their labels."""
        answer = await asyncio.get_running_loop().run_in_executor(None, self._ask, expression)
        assert answer["status"] == "success", answer
        return [(x["metric"], float(x["value"][1])) for x in answer["data"]["result"]]

    async def until(self, expression: str, expected: float) -> None:
        """Wait until an expression with one value has this value."""
        seen: object = None
        try:
            async with async_timeout.timeout(PATIENCE):
                while True:
                    try:
                        seen = await self.values(expression)
                    except OSError as error:  # it has not started yet
                        seen = error
                    else:
                        if [value for _, value in seen] == [expected]:
                            return
                    await asyncio.sleep(INTERVAL / 2)
        except asyncio.TimeoutError:
            raise AssertionError(f"{expression} is {seen}, not {expected}") from None

    def _ask(self, expression: str) -> Any:
        query = urllib.parse.urlencode({"query": expression})
        url = f"http://127.0.0.1:{self._port}/api/v1/query?{query}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return json.load(answer)
