"""A real Prometheus reads the metrics, and the dashboard's expressions mean something to it."""

import json
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from sockjs_aio.observers.prometheus import Metrics
from tests import clients
from tests.conftest import Recorder, Serve, Served, require
from tests.observers import until
from tests.prometheus_server import Prometheus, find_prometheus

DASHBOARD = Path(__file__).parents[2] / "docs/grafana/sockjs.json"


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[Prometheus]:
    require(find_prometheus(), "prometheus")
    server = Prometheus(tmp_path)
    yield server
    server.stop()


class Talking(Recorder):
    """Answers, and fails if it is asked to."""

    async def on_message(self, message: str | bytes) -> None:
        await super().on_message(message)
        if message == "raise":
            raise ValueError("asked for")
        self.send(message)


async def talk(served: Served, noted: type[Talking]) -> dict[str, float]:
    """Open and close some sessions; return what the sums must be."""
    chance = random.Random(7)
    messages = opened = closed = failed = 0
    for kind in clients.ALL:
        for _ in range(chance.randrange(2, 5)):
            client = await kind.open(served)
            opened += 1
            for number in range(chance.randrange(1, 6)):
                await client.send(str(number))
                assert await client.messages(1) == [str(number)]
                messages += 1
            if chance.random() < 0.5:
                await client.send("raise")
                messages, closed, failed = messages + 1, closed + 1, failed + 1
                await noted.until("close", closed)
                await client.leave()
    await until(lambda: served.router.session_count == opened - closed)
    refused = 3
    for number in range(refused):
        assert await served.post(f"/000/nobody{number}", '["x"]') == 404
    return {
        "sum(sockjs_server_active_connections)": opened - closed,
        "sum(sockjs_server_connections_opened_total)": opened,
        "sum(sockjs_server_connection_duration_seconds_count)": closed,
        'sum(sockjs_server_connection_duration_seconds_count{status="hook_failed"})': failed,
        "sum(sockjs_server_messages_received_total)": messages,
        "sum(sockjs_server_messages_sent_total)": messages - failed,
        'sum(sockjs_server_refused_requests_total{reason="bad_request"})': refused,
        "sum(sockjs_server_hook_failures_total)": failed,
        'sum(sockjs_server_hook_duration_seconds_count{hook=~".*on_message"})': messages,
        'sum(sockjs_server_hook_duration_seconds_count{hook=~".*on_open"})': opened,
    }


def expressions() -> list[str]:
    """Return those of the dashboard, with Grafana's variables replaced."""
    panels: list[Any] = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    return [x.replace("$__rate_interval", "20s").replace("$prefix", ".*") for x in found]


@pytest.mark.logs("asked for")
async def test_prometheus_has_the_sums_that_the_test_has_counted(
    serve: Serve, prometheus: Prometheus
) -> None:
    class Noted(Talking):
        pass

    metrics, app = Metrics(CollectorRegistry()), web.Application()
    app.router.add_get("/metrics", metrics.handle)
    served = await serve(Noted, app=app, observers=[metrics])
    await prometheus.scrape(served.port)
    for expression, expected in (await talk(served, Noted)).items():
        await prometheus.until(expression, expected)


@pytest.mark.logs("asked for")
async def test_every_expression_of_the_dashboard_has_a_value(
    serve: Serve, prometheus: Prometheus
) -> None:
    class Noted(Talking):
        pass

    metrics, app = Metrics(CollectorRegistry()), web.Application()
    app.router.add_get("/metrics", metrics.handle)
    served = await serve(Noted, app=app, observers=[metrics])
    await talk(served, Noted)
    await prometheus.scrape(served.port)
    await prometheus.until("min(count_over_time(sockjs_server_hooks_running[1m])) > bool 2", 1)
    assert len(expressions()) > 15
    for expression in expressions():
        assert await prometheus.values(expression), expression


def test_dashboard_names_only_metrics_that_there_are() -> None:
    text = (Path(__file__).parents[2] / "docs/observing.md").read_text()
    known = set(re.findall(r"`(sockjs_server_\w+)`", text))
    for expression in expressions():
        for name in re.findall(r"sockjs_server_\w+", expression):
            assert re.sub("_(bucket|count|sum)$", "", name) in known, name
