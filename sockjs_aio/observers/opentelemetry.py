"""Metrics and spans for OpenTelemetry.  They need its API: ``pip install 'sockjs-aio[otel]'``.

The metrics are those of `observers.metrics`.  A session may last for days, so it is no span of its
own, which would be reported only at its end.  Each hook is one, and has a link to the session's
first: that of `on_open`, which belongs to the request that opened the session.
"""

import functools
import weakref
from collections.abc import Iterable

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.metrics import CallbackOptions, Histogram, MeterProvider, Observation
    from opentelemetry.trace import Span, SpanContext, TracerProvider
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "sockjs_aio.observers.opentelemetry needs OpenTelemetry: pip install 'sockjs-aio[otel]'"
    ) from _error
from sockjs_aio.connection import Session
from sockjs_aio.core.events import Observer, Source
from sockjs_aio.observers.metrics import HOOK_SECONDS, NUMBERS, PREFIX, SESSION_SECONDS, Number
from sockjs_aio.session_info import CloseInfo
from sockjs_aio.version import __version__

ATTRIBUTES = "sockjs."
"""The beginning of the names of attributes."""

_Running = tuple[Span, object]
"""The span of a running hook, and what ends its being the current one."""


class Telemetry(Observer):
    """Measures the routers that have it as an observer, and makes a span for each hook.

    ::

        SockJSRouter(Chat, "/chat", observers=[Telemetry()]).attach(app)

    Args:
        meter_provider: Where metrics go; by default, the global one.
        tracer_provider: Where spans go; by default, the global one.
    """

    def __init__(
        self,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        self._meter = metrics.get_meter("sockjs_aio", __version__, meter_provider)
        self._tracer = trace.get_tracer("sockjs_aio", __version__, tracer_provider)
        self._session_seconds = self._histogram(
            "connection.duration", "How long sessions were open.", SESSION_SECONDS
        )
        self._hook_seconds = self._histogram("hook.duration", "How long hooks took.", HOOK_SECONDS)
        self._services: list[Source] = []
        self._first: weakref.WeakKeyDictionary[Session, SpanContext] = weakref.WeakKeyDictionary()
        self._running: weakref.WeakKeyDictionary[Session, _Running] = weakref.WeakKeyDictionary()
        for number in NUMBERS:
            read = functools.partial(self._read, number)
            about = (PREFIX + number.name, [read], number.unit or "1", number.text)
            if number.kind == "counter":
                self._meter.create_observable_counter(*about)
            else:
                self._meter.create_observable_gauge(*about)

    def attached(self, service: Source) -> None:
        """Measure a router from now on."""
        self._services.append(service)
        service.observe(_Service(service.prefix, self._session_seconds, self._hook_seconds))

    def hook_started(self, session: Session, hook: str) -> None:
        """Begin a span, and make it the current one."""
        first = self._first.get(session)
        parent = None if first is None else context.Context()  # the request has ended
        span = self._tracer.start_span(
            hook,
            parent,
            attributes={ATTRIBUTES + "transport": session.transport},
            links=[] if first is None else [trace.Link(first)],
        )
        if first is None:
            self._first[session] = span.get_span_context()
        self._running[session] = span, context.attach(trace.set_span_in_context(span))

    def hook_returned(
        self, session: Session, hook: str, seconds: float, error: BaseException | None
    ) -> None:
        """End the span."""
        span, token = self._running.pop(session)
        if error is not None:
            span.record_exception(error)
            span.set_status(trace.StatusCode.ERROR, type(error).__qualname__)
        context.detach(token)  # type: ignore[arg-type]
        span.end()

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return self._meter.create_histogram(
            PREFIX + name, "s", text, explicit_bucket_boundaries_advisory=list(buckets)
        )

    def _read(self, number: Number, _options: CallbackOptions) -> Iterable[Observation]:
        names = (ATTRIBUTES + "prefix", ATTRIBUTES + number.label)
        services = [(service.prefix, service.stats) for service in self._services]
        for values, count in number.of(services).items():
            yield Observation(count, dict(zip(names, values)))  # noqa: B905 - it may have no label


class _Service(Observer):
    """Measures one router's sessions and hooks."""

    def __init__(self, prefix: str, sessions: Histogram, hooks: Histogram) -> None:
        self._prefix = prefix
        self._sessions = sessions
        self._hooks = hooks

    def closed(self, session: Session, info: CloseInfo) -> None:
        """See `Observer`."""
        attributes = {
            ATTRIBUTES + "prefix": self._prefix,
            ATTRIBUTES + "transport": info.transport,
            ATTRIBUTES + "status": info.status,
        }
        self._sessions.record(info.seconds, attributes)

    def hook_returned(
        self, session: Session, hook: str, seconds: float, error: BaseException | None
    ) -> None:
        """See `Observer`."""
        attributes = {ATTRIBUTES + "prefix": self._prefix, ATTRIBUTES + "hook": hook}
        self._hooks.record(seconds, attributes)
