"""Metrics for Prometheus.  They need prometheus-client: ``pip install 'sockjs-aio[prometheus]'``.

Most are read from `SockJSRouter.stats` when Prometheus asks.  Only the lengths of sessions and of
hooks are measured when they end.
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
        "pip install 'sockjs-aio[prometheus]'"
    ) from _error
from sockjs_aio.connection import Session
from sockjs_aio.core.events import Observer, Source
from sockjs_aio.observers.metrics import HOOK_SECONDS, NUMBERS, PREFIX, SESSION_SECONDS, Number
from sockjs_aio.session_info import CloseInfo
from sockjs_aio.stats import Stats

_SUFFIXES = {"": "", "s": "_seconds", "By": "_bytes"}
"""What is behind the name of a metric, by its unit."""


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

    def __init__(self, metrics: Metrics, prefix: str) -> None:
        super().__init__(metrics, prefix)
        self._hooks: dict[str, Histogram] = {}  # to look it up by its labels takes longer

    def hook_returned(
        self, session: Session, hook: str, seconds: float, error: BaseException | None
    ) -> None:
        """See `Observer`."""
        histogram = self._hooks.get(hook)
        if histogram is None:
            histogram = self._hooks[hook] = self._metrics.hook_seconds.labels(self._prefix, hook)
        histogram.observe(seconds)


def exposition(registry: Collector, request: web.Request) -> web.Response:
    """Return the metrics of `registry` in a form that the client of `request` accepts."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(registry), headers={"Content-Type": content_type})


def families(services: Sequence[tuple[str, Stats]]) -> Iterator[Metric]:
    """Return the metrics that `Stats` have; `services` are prefixes with their statistics."""
    for number in NUMBERS:
        labels = ("prefix", number.label) if number.label else ("prefix",)
        kind = CounterMetricFamily if number.kind == "counter" else GaugeMetricFamily
        family = kind(_name(number), number.text, labels=labels)
        for values, count in number.of(services).items():
            family.add_metric(values, count)
        yield family


def _name(number: Number) -> str:
    """Return a metric's name, without the ``_total`` of counters."""
    return (PREFIX + number.name).replace(".", "_") + _SUFFIXES[number.unit]
