"""The metrics that `Stats` have: one table for Prometheus and OpenTelemetry.

The names follow OpenTelemetry's for SignalR, a protocol like this one:
``signalr.server.active_connections`` is ``sockjs.server.active_connections`` here.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from sockjs_aio.stats import Stats

PREFIX = "sockjs.server."
"""The beginning of all names."""

SESSION_SECONDS = (0.01, 0.1, 1, 5, 10, 30, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600)
"""The upper limits of the buckets for the lengths of sessions."""

HOOK_SECONDS = (0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""The upper limits of the buckets for the lengths of hooks."""

Values = Iterable[tuple[tuple[str, ...], float]]
"""Values, each with those of its labels."""


class Number(NamedTuple):
    """A metric that is read from `Stats`."""

    name: str
    """Behind `PREFIX`."""
    kind: Literal["counter", "gauge"]
    unit: Literal["", "s", "By"]
    text: str
    read: Callable[[Stats], Values]
    label: str = ""
    """The label that it has besides ``prefix``, if there is one."""

    def of(self, services: Iterable[tuple[str, Stats]]) -> dict[tuple[str, ...], float]:
        """Return the values by prefix and label; `services` are prefixes with their statistics.

        Services with the same prefix are added up.
        """
        sums: dict[tuple[str, ...], float] = {}
        for prefix, stats in services:
            for values, count in self.read(stats):
                key = (prefix, *values)
                sums[key] = sums.get(key, 0) + count
        return sums


def _field(name: str) -> Callable[[Stats], Values]:
    return lambda stats: [((), getattr(stats, name))]


def _counts(name: str) -> Callable[[Stats], Values]:
    return lambda stats: [((label,), count) for label, count in getattr(stats, name).items()]


def _in_state(state: str) -> Callable[[Stats], Values]:
    """Return how many sessions of each transport are in a state; also if there are none now."""
    return lambda stats: [((name,), stats.sessions.get((name, state), 0)) for name in stats.opened]


def _is_connected(stats: Stats) -> Values:
    return [((), float(stats.broker == "connected"))]


NUMBERS: Sequence[Number] = (
    Number("active_connections", "gauge", "", "Open sessions.", _in_state("open"), "transport"),
    Number(
        "closing_connections",
        "gauge",
        "",
        "Sessions that have ended and are not forgotten yet.",
        _in_state("closing"),
        "transport",
    ),
    Number(
        "connections_opened",
        "counter",
        "",
        "Sessions that were opened.",
        _counts("opened"),
        "transport",
    ),
    Number(
        "refused_requests",
        "counter",
        "",
        "Requests that were refused.",
        _counts("refused"),
        "reason",
    ),
    Number(
        "messages_received", "counter", "", "Messages from clients.", _field("messages_received")
    ),
    Number("messages_sent", "counter", "", "Messages queued for clients.", _field("messages_sent")),
    Number(
        "received",
        "counter",
        "By",
        "WebSocket frames and the bodies of other sends.",
        _field("bytes_received"),
    ),
    Number("sent", "counter", "By", "SockJS frames, before compression.", _field("bytes_sent")),
    Number("queued", "gauge", "By", "What waits for clients.", _field("queued_bytes")),
    Number(
        "hooks_running", "gauge", "", "Sessions with a hook that waits.", _field("hooks_running")
    ),
    Number(
        "hook_failures", "counter", "", "Hooks that raised an exception.", _field("hooks_failed")
    ),
    Number(
        "relayed_requests",
        "counter",
        "",
        "Requests passed on to another process.",
        _field("relayed"),
    ),
    Number(
        "broker_connected",
        "gauge",
        "",
        "1 if the broker carries the messages of all channels, else 0.",
        _is_connected,
    ),
    Number(
        "broker_gaps",
        "counter",
        "",
        "Times that the broker may have missed messages.",
        _field("broker_gaps"),
    ),
    Number(
        "loop_lag",
        "gauge",
        "s",
        "By how much the event loop was late, last measured.",
        _field("loop_lag"),
    ),
    Number(
        "loop_blocked",
        "counter",
        "s",
        "The sum of the event loop's long delays.",
        _field("loop_blocked"),
    ),
)
