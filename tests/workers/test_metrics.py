"""The metrics of all workers on one page, whatever happens to one of them."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import async_timeout
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sockjs_aio.cluster.workers.metrics import merged
from tests import clients
from tests.conftest import require
from tests.prometheus_server import Prometheus, find_prometheus
from tests.target import Target
from tests.workers.commanding import PATIENCE, Command
from tests.workers.conftest import RunCommand

pytestmark = pytest.mark.timeout(3 * PATIENCE)

OPENED = "sockjs_server_connections_opened_total"
ACTIVE = "sockjs_server_active_connections"
RECEIVED = "sockjs_server_messages_received_total"

SETTINGS = {"disconnect_delay": 60, "shutdown_timeout": 0.5}

WEBSOCKET = (clients.WebSocket,)
ATTACHED = tuple(kind for kind in clients.ALL if kind not in clients.POLLS)
"""Who learns of the end at once.  Pollers would have the workers wait for their next poll."""


class Page:
    """The supervisor's page."""

    def __init__(self, port: int) -> None:
        self.port = port

    @classmethod
    async def of(cls, served: Command) -> "Page":
        line = await served.until_said(r"metrics of all workers: http://127\.0\.0\.1:(\d+)/metrics")
        return cls(int(line[1]))

    async def sums(self, path: str = "/metrics", *labels: str) -> dict[Any, float]:
        """Return the sum of each metric's samples of the service, by name and these labels."""
        target = Target(self.port, "")
        text = (await target.ask(path)).body.decode()
        await target.hang_up()
        sums: dict[Any, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.labels["prefix"] == "/echo":
                    key = (sample.name, *(sample.labels.get(name) for name in labels))
                    sums[key if labels else sample.name] = (
                        sums.get(key if labels else sample.name, 0) + sample.value
                    )
        return sums

    async def until(self, name: str, expected: float) -> dict[Any, float]:
        async with async_timeout.timeout(PATIENCE):
            while (sums := await self.sums()).get(name) != expected:
                await asyncio.sleep(0.05)
        return sums


async def crowd(
    served: Command, count: int, kinds: Sequence[type[clients.Client]] = WEBSOCKET
) -> dict[int, int]:
    """Open sessions on both workers, each of which sends a message; return how many each has."""
    found: dict[int, int] = {}
    for number in range(count):
        client = await kinds[number % len(kinds)].open(served)
        await client.send("pid")
        (pid,) = await client.messages(1)
        found[int(pid)] = found.get(int(pid), 0) + 1
    return found


async def both(
    served: Command, kinds: Sequence[type[clients.Client]] = WEBSOCKET
) -> dict[int, int]:
    """Do this until both workers have some."""
    found: dict[int, int] = {}
    while len(found) < 2:
        for pid, count in (await crowd(served, 5, kinds)).items():
            found[pid] = found.get(pid, 0) + count
    return found


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[Prometheus]:
    require(find_prometheus(), "prometheus")
    server = Prometheus(tmp_path)
    yield server
    server.stop()


async def test_page_has_the_sums_of_all_workers_and_another_each(command: RunCommand) -> None:
    served = await command("--metrics-port", "0", settings=SETTINGS)
    page = await Page.of(served)
    had = await both(served, ATTACHED)
    total = sum(had.values())
    sums = await page.sums()
    assert sums[OPENED] == sums[ACTIVE] == sums[RECEIVED] == total
    by_transport = await page.sums("/metrics", "transport")
    for kind in ATTACHED:
        assert by_transport[OPENED, kind.name] == total / len(ATTACHED)
    each = await page.sums("/metrics/workers", "worker")
    assert sorted(each[OPENED, number] for number in "01") == sorted(had.values())
    assert await served.stop() == 0
    assert not served.has_failed, served.said


async def test_relayed_requests_are_counted(command: RunCommand) -> None:
    served = await command("--metrics-port", "0", settings=SETTINGS)
    page = await Page.of(served)
    for number in range(20):  # an unusual URL: these connections are not handed over
        assert await served.poll(f"/0/%73ession{number}") == b"o"
    sums = await page.sums()
    assert sums[OPENED] == 20
    assert 0 < sums["sockjs_server_relayed_requests_total"] < 20
    assert await served.stop() == 0


async def test_counters_do_not_fall_when_a_worker_dies(command: RunCommand) -> None:
    served = await command("--metrics-port", "0", settings=SETTINGS)
    page = await Page.of(served)
    had = await both(served)
    total = sum(had.values())
    assert (await page.sums())[OPENED] == total
    victim = max(had)
    os.kill(victim, signal.SIGKILL)
    await served.until_said(r"died \(SIGKILL\)")
    sums = await page.sums()
    assert sums[OPENED] == sums[RECEIVED] == total
    assert sums[ACTIVE] == total - had[victim]
    await served.worker_wires(2)
    more = sum((await crowd(served, 6)).values())
    sums = await page.sums()
    assert sums[OPENED] == sums[RECEIVED] == total + more
    assert sums[ACTIVE] == total + more - had[victim]
    assert await served.stop() == 0


async def test_counters_do_not_fall_in_a_reload(command: RunCommand) -> None:
    served = await command("--metrics-port", "0", settings=SETTINGS)
    page = await Page.of(served)
    total = sum((await both(served)).values())
    served.process.send_signal(signal.SIGHUP)
    await served.until_said("all workers are new")
    sums = await page.until("sockjs_server_connection_duration_seconds_count", total)
    assert sums[OPENED] == sums[RECEIVED] == total
    assert sums.get(ACTIVE, 0) == 0
    assert await served.stop() == 0


async def test_worker_that_hangs_is_counted_as_it_was(command: RunCommand) -> None:
    served = await command("--metrics-port", "0", settings=SETTINGS)
    page = await Page.of(served)
    had = await both(served)
    before = await page.sums()
    os.kill(max(had), signal.SIGSTOP)
    try:
        assert (await page.sums())[OPENED] == before[OPENED] == sum(had.values())
    finally:
        os.kill(max(had), signal.SIGCONT)
    assert await served.stop() == 0


async def test_a_drain_shows_while_it_goes_on(command: RunCommand) -> None:
    settings = {**SETTINGS, "shutdown_timeout": 60}
    served = await command("--metrics-port", "0", "--drain-limit", "60", settings=settings)
    page = await Page.of(served)
    for number in range(10):
        assert await served.poll(f"/0/session{number}") == b"o"
    served.process.send_signal(signal.SIGTERM)
    sums = await page.until("sockjs_server_closing_connections", 10)  # nobody fetches the end
    assert sums.get(ACTIVE, 0) == 0
    await served.until_said(r"worker \d: (\d+) of \1 sessions? closed")
    for number in range(10):
        assert await served.poll(f"/0/session{number}") == b'c[1012,"Service restart"]'
    assert await served.stop() == 0


async def test_prometheus_has_the_sums_of_all_workers(
    command: RunCommand, prometheus: Prometheus
) -> None:
    served = await command("--metrics-port", "0", settings=SETTINGS)
    page = await Page.of(served)
    total = sum((await both(served, ATTACHED)).values())
    await prometheus.scrape(page.port)
    await prometheus.until(f'sum({OPENED}{{prefix="/echo"}})', total)
    await prometheus.until(f'sum({RECEIVED}{{prefix="/echo"}})', total)
    assert await served.stop() == 0


async def test_health_tells_for_which_process_it_speaks(command: RunCommand) -> None:
    served = await command()
    found = {}
    for pid, wire in (await served.worker_wires(2)).items():
        reply = await wire.request("GET", "/health")
        told = json.loads(reply.body)
        assert told["process"] == pid
        found[told["worker"]] = pid
    assert set(found) == {0, 1}
    assert await served.stop() == 0


def test_reports_are_added_up_by_name_and_labels() -> None:
    def report(opened: dict[str, float], lag: float, connected: float) -> list[list[Any]]:
        samples = [["opened_total", {"transport": name}, n] for name, n in opened.items()]
        return [
            ["opened", "counter", "Sessions.", samples],
            *(
                [name, "gauge", "…", [[name, {}, value]]]
                for name, value in (
                    ("sockjs_server_loop_lag_seconds", lag),
                    ("sockjs_server_broker_connected", connected),
                )
            ),
        ]

    one = report({"xhr": 1, "websocket": 2}, 0.5, 1)
    other = report({"xhr": 10, "jsonp": 20}, 0.1, 0)
    expected = report({"xhr": 11, "websocket": 2, "jsonp": 20}, 0.5, 0)
    assert merged([one, other]) == expected
    assert merged([[], one]) == one
