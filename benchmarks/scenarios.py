"""What is measured: the load generator's options, and the figures computed from its results."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]
"""What the load generator prints."""


def cpu_each(result: Result) -> float | None:
    """Server CPU microseconds per message or session, which equals milliseconds per 1,000."""
    figure: float = result["server_cpu_ms_per_1000"]
    return figure or None


def memory_each(result: Result) -> float | None:
    """KiB of resident memory per session."""
    resident = result["server_rss_kb"]
    return float(resident["open"] - resident["before"]) / int(result["connections"])


def cpu_per_heartbeat(result: Result) -> float | None:
    """Server CPU microseconds per heartbeat, including all else that it does meanwhile."""
    if not result["heartbeats"]:
        return None
    return float(result["server_cpu_s"]) * 1e6 / int(result["heartbeats"])


@dataclass(frozen=True)
class Row:
    """One figure of a scenario: a row of the table, a panel of the chart.

    Args:
        title: What is measured.
        unit: What the figure counts; less is better.
        figure: Computes the figure from a result; returns None if the result has none.
        goal: The goal for sockjs-aio, as text.
        reference: The scenario that gives bare aiohttp's figure, if it is another one.
    """

    title: str
    unit: str = "µs of CPU per message"
    figure: Callable[[Result], float | None] = cpu_each
    goal: str = ""
    reference: str | None = None


@dataclass(frozen=True)
class Scenario:
    """One way to load a server.

    Args:
        name: The name for `--scenarios`.
        options: Options of the load generator.
        rows: The figures to report.
        heartbeat: The servers' heartbeat delay in seconds, if it is not the default.  The run then
            takes a second longer than that, so that each session has one heartbeat at least.
        probe: Whether an echo session measures how long the server is blocked meanwhile.
    """

    name: str
    options: str
    rows: tuple[Row, ...]
    heartbeat: float | None = None
    probe: bool = False


IDLE = "--scenario idle --connections 5000"

SCENARIOS = [
    Scenario(
        "ws-pingpong-64",
        "--connections 64",
        (Row("WebSocket, ping-pong, 64 clients", goal="≤ 0.85 ×"),),
    ),
    Scenario(
        "ws-stream-64",
        "--connections 64 --window 16",
        (Row("WebSocket, 16 in flight, 64 clients, 32 B", goal="≤ 0.35 ×"),),
    ),
    Scenario(
        "ws-batch-64",
        "--connections 64 --window 16 --batch 8",
        (
            Row(
                "the same, 8 messages a client frame",
                goal="≤ 0.25 ×",
                reference="ws-stream-64",
            ),
        ),
    ),
    Scenario(
        "ws-stream-64-4k",
        "--connections 64 --window 16 --size 4096",
        (Row("the same, 4 KiB", goal="≤ 0.8 ×"),),
    ),
    Scenario(
        "ws-stream-64-unicode",
        "--connections 64 --window 16 --size 128 --text unicode",
        (Row("the same, 128 B of non-ASCII text", goal="≤ 0.75 ×"),),
    ),
    Scenario(
        "ws-stream-64-json",
        "--connections 64 --window 16 --size 128 --text json",
        (Row("the same, 128 B of JSON text", goal="≤ 0.75 ×"),),
    ),
    Scenario(
        "broadcast-1000",
        "--scenario broadcast --connections 1000",
        (Row("broadcast to 1,000 WebSockets", "µs of CPU per delivery", goal="≤ 0.9 × go"),),
        probe=True,
    ),
    Scenario(
        "xhr_streaming-32",
        "--transport xhr_streaming --connections 32",
        (Row("xhr_streaming, 32 clients", goal="≤ 1.1 × go"),),
    ),
    Scenario(
        "xhr-32",
        "--transport xhr --connections 32",
        (Row("xhr polling, 32 clients", goal="≤ go"),),
    ),
    Scenario(
        "churn-ws",
        "--scenario connect --connections 32",
        (Row("connect and close, WebSocket", "µs of CPU per session", goal="≤ 1.25 ×"),),
    ),
    Scenario(
        "idle-ws-5000",
        IDLE,
        (
            Row("idle WebSocket", "KiB per session", memory_each, "≤ 5"),
            Row("heartbeats of 5,000 WebSockets", "µs of CPU each", cpu_per_heartbeat, "≤ 13"),
        ),
        heartbeat=2,
    ),
]

MORE = [
    Scenario("ws-pingpong-1", "--connections 1", (Row("WebSocket, one message, one client"),)),
    Scenario(
        "eventsource-32",
        "--transport eventsource --connections 32",
        (Row("eventsource, 32 clients"),),
    ),
    Scenario(
        "broadcast-100",
        "--scenario broadcast --connections 100",
        (Row("broadcast to 100 WebSockets", "µs of CPU per delivery"),),
        probe=True,
    ),
    Scenario(
        "churn-xhr_streaming",
        "--scenario connect --transport xhr_streaming --connections 32",
        (Row("connect and leave, xhr_streaming", "µs of CPU per session"),),
    ),
    Scenario(
        "idle-xhr_streaming-5000",
        IDLE + " --transport xhr_streaming",
        (
            Row("idle xhr_streaming", "KiB per session", memory_each),
            Row("heartbeats of 5,000 streams", "µs of CPU each", cpu_per_heartbeat),
        ),
        heartbeat=2,
    ),
    Scenario(
        "idle-xhr-5000",
        IDLE + " --transport xhr",
        (
            Row("idle waiting poll", "KiB per session", memory_each),
            Row(
                "heartbeats of 5,000 polls, which then ask again",
                "µs of CPU each",
                cpu_per_heartbeat,
            ),
        ),
        heartbeat=2,
    ),
]
"""Scenarios that run only when `--scenarios` names them."""
