"""Metrics for Prometheus.  They need prometheus-client: ``pip install sockjs-aio[prometheus]``.

Most are read from `SockJSRouter.stats` when Prometheus asks.  Only the lengths of sessions and of
hooks are measured when they end.  The names follow OpenTelemetry's for SignalR, a protocol like
this one: ``signalr.server.active_connections`` is ``sockjs_server_active_connections`` here.
"""

from collections.abc import Iterable, Iterator, Sequence

from aiohttp import web

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Histogram
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "sockjs_aio.observers.prometheus needs prometheus-client: "
        "pip install sockjs-aio[prometheus]"
    ) from _error
from sockjs_aio.connection import Session
from sockjs_aio.core.events import Observer, Source
from sockjs_aio.session_info import CloseInfo
from sockjs_aio.stats import Stats

SESSION_SECONDS = (0.01, 0.1, 1, 5, 10, 30, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600)
"""The upper limits of the buckets for the lengths of sessions."""

HOOK_SECONDS = (0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""The upper limits of the buckets for the lengths of hooks."""


class Metrics(Observer, Collector):
    """Measures the routers that have it as an observer, and answers Prometheus.

    ::

        metrics = Metrics()
        SockJSRouter(Chat, "/chat", observers=[metrics]).attach(app)
        app.router.add_get("/metrics", metrics.handle)

    Make one for each process.  They cover that process only; for `Workers`, use the option
    ``metrics_port`` instead.

    Args:
        registry: Where your application's other metrics are registered; by default, where
            prometheus-client registers them.
        hooks: Whether to measure how long hooks take.  This costs about 3 microseconds a message.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, hooks: bool = True) -> None:
        self._registry = registry
        self._hooks = hooks
        self._services: list[Source] = []
        self.session_seconds: Histogram = Histogram(
            "sockjs_server_connection_duration_seconds",
            "How long sessions were open.",
            ("prefix", "transport", "status"),
            buckets=SESSION_SECONDS,
            registry=None,
        )
        self.hook_seconds: Histogram = Histogram(
            "sockjs_server_hook_duration_seconds",
            "How long hooks took.",
            ("prefix", "hook"),
            buckets=HOOK_SECONDS,
            registry=None,
        )
        registry.register(self)

    def attached(self, service: Source) -> None:
        """Measure a router from now on.  Routers with the same prefix are added up."""
        self._services.append(service)
        kind = _TimedService if self._hooks else _Service
        service.observe(kind(self, service.prefix))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer Prometheus: ``app.router.add_get("/metrics", metrics.handle)``."""
        return exposition(self._registry, request)

    def collect(self) -> Iterator[Metric]:
        """Return all metrics."""
        yield from families([(service.prefix, service.stats) for service in self._services])
        for histogram in (self.session_seconds, self.hook_seconds):
            for family in histogram.collect():
                family.samples = [x for x in family.samples if not x.name.endswith("_created")]
                yield family

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the names need not be checked when this is registered."""
        return ()


class _Service(Observer):
    """Measures one router."""

    def __init__(self, metrics: Metrics, prefix: str) -> None:
        self._metrics = metrics
        self._prefix = prefix

    def closed(self, session: Session, info: CloseInfo) -> None:
        """See `Observer`."""
        labels = (self._prefix, info.transport, info.status)
        self._metrics.session_seconds.labels(*labels).observe(info.seconds)


class _TimedService(_Service):
    """Measures one router and its hooks."""

    def hook_returned(self, session: Session, hook: str, seconds: float) -> None:
        """See `Observer`."""
        self._metrics.hook_seconds.labels(self._prefix, hook).observe(seconds)


def exposition(registry: Collector, request: web.Request) -> web.Response:
    """Return the metrics of `registry` in a form that the client of `request` accepts."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(registry), headers={"Content-Type": content_type})


Services = Sequence[tuple[str, Stats]]
"""The prefixes of routers, with their statistics."""

_Kind = type[GaugeMetricFamily] | type[CounterMetricFamily]

_NUMBERS: tuple[tuple[_Kind, str, str, str], ...] = (
    (CounterMetricFamily, "messages_received", "Messages from clients.", "messages_received"),
    (CounterMetricFamily, "messages_sent", "Messages queued for clients.", "messages_sent"),
    (
        CounterMetricFamily,
        "received_bytes",
        "WebSocket frames and the bodies of other sends.",
        "bytes_received",
    ),
    (CounterMetricFamily, "sent_bytes", "SockJS frames, before compression.", "bytes_sent"),
    (GaugeMetricFamily, "queued_bytes", "What waits for clients.", "queued_bytes"),
    (GaugeMetricFamily, "hooks_running", "Sessions with a hook that waits.", "hooks_running"),
    (CounterMetricFamily, "hook_failures", "Hooks that raised an exception.", "hooks_failed"),
    (CounterMetricFamily, "relayed_requests", "Requests passed on to another process.", "relayed"),
    (
        CounterMetricFamily,
        "broker_gaps",
        "Times that the broker may have missed messages.",
        "broker_gaps",
    ),
    (
        GaugeMetricFamily,
        "loop_lag_seconds",
        "By how much the event loop was late, last measured.",
        "loop_lag",
    ),
    (
        CounterMetricFamily,
        "loop_blocked_seconds",
        "The sum of the event loop's long delays.",
        "loop_blocked",
    ),
)
"""The metrics without labels of their own: kind, name, description, and the field of `Stats`."""


def families(services: Services) -> Iterator[Metric]:
    """Return the metrics that `Stats` have."""
    for name, text, state in (
        ("active_connections", "Open sessions.", "open"),
        ("closing_connections", "Sessions that have ended and are not forgotten yet.", "closing"),
    ):
        counts = [
            ((prefix, transport), stats.sessions.get((transport, state), 0))
            for prefix, stats in services
            for transport in stats.opened
        ]
        yield _family(GaugeMetricFamily, name, text, counts, "transport")
    opened = [((prefix, name), n) for prefix, stats in services for name, n in stats.opened.items()]
    text = "Sessions that were opened."
    yield _family(CounterMetricFamily, "connections_opened", text, opened, "transport")
    refused = [((prefix, why), n) for prefix, stats in services for why, n in stats.refused.items()]
    text = "Requests that were refused."
    yield _family(CounterMetricFamily, "refused_requests", text, refused, "reason")
    for kind, name, text, field in _NUMBERS:
        numbers = [((prefix,), getattr(stats, field)) for prefix, stats in services]
        yield _family(kind, name, text, numbers)
    connected = [((prefix,), stats.broker == "connected") for prefix, stats in services]
    text = "1 if the broker carries the messages of all channels, else 0."
    yield _family(GaugeMetricFamily, "broker_connected", text, connected)


def _family(
    kind: _Kind,
    name: str,
    text: str,
    values: Iterable[tuple[tuple[str, ...], float]],
    *labels: str,
) -> Metric:
    family = kind(f"sockjs_server_{name}", text, labels=("prefix", *labels))
    sums: dict[tuple[str, ...], float] = {}
    for names, value in values:
        sums[names] = sums.get(names, 0) + value
    for names, value in sums.items():
        family.add_metric(names, value)
    return family
