"""The metrics for Prometheus: their names, and that their numbers are those of the service.

`tests/integration/test_prometheus_server.py` lets a real Prometheus read them.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from sockjs_aio import SockJSRouter
from sockjs_aio.observers.prometheus import Metrics
from tests import clients
from tests.conftest import Echo, Recorder, Serve, Served
from tests.observers import until

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
Kind = type[clients.Client]
ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/observing.md"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def page(metrics: Metrics) -> web.Application:
    app = web.Application()
    app.router.add_get("/metrics", metrics.handle)
    return app


async def read(served: Served) -> dict[Any, float]:
    """Return the page's numbers: by name, or by name and labels if there are some."""
    text = (await served.ask("/metrics")).body.decode()
    numbers: dict[Any, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels["prefix"] == "/echo"
            labels = [sample.labels[name] for name in sorted(sample.labels) if name != "prefix"]
            numbers[(sample.name, *labels) if labels else sample.name] = sample.value
    return numbers


@pytest.mark.virtual_time
@every
async def test_sessions_and_messages_are_measured(
    serve: Serve, metrics: Metrics, kind: Kind
) -> None:
    class Noted(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send(message)

    delays = {"disconnect_delay": 0.5, "session_check_interval": 0.02}
    served = await serve(Noted, settings=delays, app=page(metrics), observers=[metrics])
    pair = [await kind.open(served) for _ in range(2)]
    for client in pair:
        await client.send("x")
        assert await client.messages(1) == ["x"]
    numbers = await read(served)
    assert numbers["sockjs_server_active_connections", kind.name] == 2
    assert numbers["sockjs_server_connections_opened_total", kind.name] == 2
    assert numbers["sockjs_server_messages_received_total"] == 2
    assert numbers["sockjs_server_messages_sent_total"] == 2
    Noted.connections[0].close(4000, "Bye")
    await pair[0].leave()
    await Noted.until("close")
    await until(lambda: served.router.session_count == 1)
    numbers = await read(served)
    assert numbers["sockjs_server_active_connections", kind.name] == 1
    count = "sockjs_server_connection_duration_seconds_count"
    assert numbers[count, "server", kind.name] == 1
    count = "sockjs_server_hook_duration_seconds_count"
    for hook, times in (("on_open", 2), ("on_message", 2), ("on_close", 1)):
        assert numbers[count, f"Noted.{hook}"] == times


async def test_hooks_are_not_measured_where_that_is_too_expensive(serve: Serve) -> None:
    metrics = Metrics(CollectorRegistry(), hooks=False)
    served = await serve(Echo, app=page(metrics), observers=[metrics])
    client = await clients.WebSocket.open(served)
    await client.send("x")
    assert await client.messages(1) == ["x"]
    assert not served.router._registry.events.watches_hooks
    assert not any("hook_duration" in str(key) for key in await read(served))


async def test_prometheus_gets_the_format_that_it_asks_for(serve: Serve, metrics: Metrics) -> None:
    served = await serve(Echo, app=page(metrics), observers=[metrics])
    for accept, kind in (("*/*", "text/plain"), ("application/openmetrics-text",) * 2):
        url = f"{served.origin}/metrics"
        async with served.session.get(url, headers={"Accept": accept}) as answer:
            assert (answer.status, answer.content_type) == (200, kind)
            assert "sockjs_server_broker_connected" in await answer.text()


async def test_several_routers_have_their_prefix_as_label(metrics: Metrics) -> None:
    for prefix in ("/a", "/b"):
        SockJSRouter(Echo, prefix, observers=[metrics])
    found = [
        sample.labels["prefix"]
        for family in metrics.collect()
        for sample in family.samples
        if sample.name == "sockjs_server_messages_sent_total"
    ]
    assert found == ["/a", "/b"]


async def test_routers_with_the_same_prefix_are_added_up(serve: Serve, metrics: Metrics) -> None:
    served = await serve(Echo, app=page(metrics), observers=[metrics])
    other = await serve(Echo, observers=[metrics])
    for each in (served, other, other):
        await clients.WebSocket.open(each)
    numbers = await read(served)
    assert numbers["sockjs_server_connections_opened_total", "websocket"] == 3


async def test_every_metric_is_documented(metrics: Metrics) -> None:
    SockJSRouter(Echo, "/a", observers=[metrics])
    names = {
        family.name + ("_total" if family.type == "counter" else "") for family in metrics.collect()
    }
    assert set(re.findall(r"`(sockjs_server_\w+)`", PAGE.read_text())) == names


@pytest.mark.programs
def test_package_works_without_prometheus_client() -> None:
    script = (
        "import sys\n"
        "sys.modules['prometheus_client'] = None\n"
        "import sockjs_aio, sockjs_aio.cluster.workers.worker\n"
        "sockjs_aio.SockJSRouter(sockjs_aio.SockJSConnection, '/x').stats\n"
        "try:\n"
        "    import sockjs_aio.observers.prometheus\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    text = "sockjs_aio.observers.prometheus needs prometheus-client: "
    assert done.stdout == text + "pip install 'sockjs-aio[prometheus]'\n"
