"""What OpenTelemetry's own SDK gets: metrics, and a span for each hook."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sockjs_aio.observers.opentelemetry import Telemetry
from tests import clients
from tests.conftest import Recorder, Serve
from tests.observers import until

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
Kind = type[clients.Client]
ROOT = Path(__file__).parent.parent


class Sink:
    """Telemetry, and what comes of it."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.telemetry = Telemetry(MeterProvider([self._reader]), self.tracers)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended."""
        return self._exporter.get_finished_spans()

    def metrics(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """Return the points of each metric, with their attributes."""
        data = self._reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: [(dict(x.attributes or {}), x) for x in metric.data.data_points]
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def sink() -> Sink:
    return Sink()


class Talking(Recorder):
    """Answers; waits or fails if it is asked to."""

    async def on_message(self, message: str | bytes) -> None:
        self.seen.append(trace.get_current_span())
        if message == "raise":
            raise ValueError("asked for")
        await asyncio.sleep(0)
        self.seen.append(trace.get_current_span())
        self.send(message)


@every
@pytest.mark.logs("asked for")
async def test_sessions_and_hooks_are_measured(serve: Serve, sink: Sink, kind: Kind) -> None:
    class Noted(Talking):
        pass

    served = await serve(Noted, observers=[sink.telemetry])
    client = await kind.open(served)
    await client.send("x")
    assert await client.messages(1) == ["x"]
    where = {"sockjs.prefix": "/echo"}
    ((attributes, point),) = sink.metrics()["sockjs.server.active_connections"]
    assert (attributes, point.value) == ({**where, "sockjs.transport": kind.name}, 1)
    await client.send("raise")
    await Noted.until("close")
    await client.leave()
    metrics = sink.metrics()
    for name, count in (("messages_received", 2), ("messages_sent", 1), ("hook_failures", 1)):
        ((attributes, point),) = metrics[f"sockjs.server.{name}"]
        assert (attributes, point.value) == (where, count), name
    ((attributes, point),) = metrics["sockjs.server.connection.duration"]
    assert attributes.pop("sockjs.status") == "hook_failed"
    assert (attributes, point.count) == ({**where, "sockjs.transport": kind.name}, 1)
    hooks = {x["sockjs.hook"]: y.count for x, y in metrics["sockjs.server.hook.duration"]}
    assert hooks == {"Noted.on_open": 1, "Noted.on_message": 2, "Noted.on_close": 1}


@every
@pytest.mark.logs("asked for")
async def test_each_hook_is_a_span_with_a_link_to_the_first(
    serve: Serve, sink: Sink, kind: Kind
) -> None:
    class Noted(Talking):
        pass

    client = await kind.open(await serve(Noted, observers=[sink.telemetry]))
    await client.send("x")
    await client.send("raise")
    await Noted.until("close")
    await until(lambda: len(sink.spans) == 4)
    await client.leave()
    opened, *others = sink.spans
    assert [span.name.rpartition(".")[2] for span in sink.spans] == [
        "on_open",
        *["on_message"] * 2,
        "on_close",
    ]
    first = opened.get_span_context()
    assert first is not None and opened.links == ()
    for span in others:
        assert [link.context.span_id for link in span.links] == [first.span_id]
        assert span.parent is None
        assert span.attributes == {"sockjs.transport": kind.name}
    assert [span.status.status_code.name for span in others] == ["UNSET", "ERROR", "UNSET"]
    assert [event.name for event in others[1].events] == ["exception"]
    current = [x.get_span_context() for x in Noted.seen if isinstance(x, trace.Span)]
    assert current == [others[0].get_span_context()] * 2 + [others[1].get_span_context()], (
        "what a hook does belongs to its span, also after it has waited"
    )


async def test_on_open_belongs_to_the_request_that_opened_the_session(
    serve: Serve, sink: Sink
) -> None:
    tracer = sink.tracers.get_tracer("of a middleware")

    @web.middleware
    async def traced(request: web.Request, handler: Any) -> web.StreamResponse:
        with tracer.start_as_current_span("request"):
            response: web.StreamResponse = await handler(request)
            return response

    app = web.Application(middlewares=[traced])
    served = await serve(Talking, app=app, observers=[sink.telemetry])
    assert await served.poll("/0/1") == b"o"
    await until(lambda: len(sink.spans) == 2)
    spans = {span.name.rpartition(".")[2]: span for span in sink.spans}
    parent = spans["on_open"].parent
    assert parent == spans["request"].get_span_context()


@pytest.mark.programs
def test_package_works_without_opentelemetry() -> None:
    script = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "import sockjs_aio\n"
        "try:\n"
        "    import sockjs_aio.observers.opentelemetry\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    text = "sockjs_aio.observers.opentelemetry needs OpenTelemetry: "
    assert done.stdout == text + "pip install 'sockjs-aio[otel]'\n"
