"""What a benchmark has found, as a table or as JSON, and the bar that shows how far it is."""

from typing import Any, TextIO

from sockjs_aio.cli.bench.load import Load
from sockjs_aio.cli.terminal import harmless

_BAR = 24
"""Characters."""


def as_dict(load: Load) -> dict[str, Any]:
    """Return the report for JSON."""
    plan, tally = load.plan, load.tally
    seconds = max(load.seconds, 1e-9)
    return {
        "transports": dict(tally.transports),
        "sessions": plan.sessions,
        "opened": load.opened,
        "opening_seconds": round(load.opening_seconds, 3),
        "in_flight": plan.in_flight,
        "size": plan.size,
        "seconds": round(load.seconds, 3),
        "sent": tally.sent,
        "received": tally.received,
        "per_second": round(load.received / seconds, 1),
        "latency_ms": _latencies(load) if tally.received else None,
        "lost": tally.lost,
        "cut_off": tally.cut_off,
        "doubled": tally.doubled,
        "reordered": tally.reordered,
        "changed": tally.changed,
        "others": tally.others,
        "errors": [
            {"kind": kind, "count": count, "example": tally.examples[kind]}
            for kind, count in tally.errors.most_common()
        ],
        "client_processor": round(load.processor_seconds / seconds, 3),
    }


def _latencies(load: Load) -> dict[str, float]:
    found = load.tally.latencies
    seconds = {"p50": found.quantile(0.5), "p99": found.quantile(0.99), "max": found.longest}
    return {name: round(value * 1000, 3) for name, value in seconds.items()}


def as_text(load: Load) -> str:
    """Return the report for people."""
    report = as_dict(load)
    over = ", ".join(f"{count:,} over {name}" for name, count in report["transports"].items())
    rows = [
        ("sessions", f"{over or 'none'}, opened in {report['opening_seconds']:.2f} s"),
        ("messages", f"{report['received']:,} came back of {report['sent']:,}"),
        ("messages/s", f"{report['per_second']:,.0f}"),
    ]
    if report["latency_ms"]:
        shown = ", ".join(f"{name} {value:.2f} ms" for name, value in report["latency_ms"].items())
        rows.append(("latency", shown))
    rows += [
        ("lost", f"{report['lost']:,}"),
        ("cut off", f"{report['cut_off']:,} on their way when a session ended"),
        ("doubled", f"{report['doubled']:,}"),
        ("reordered", f"{report['reordered']:,}"),
    ]
    if report["changed"]:
        rows.append(("changed", f"{report['changed']:,}"))
    if report["others"]:
        rows.append(("others", f"{report['others']:,} messages that are not echoes of ours"))
    for x in report["errors"]:
        rows.append(("error", f"{x['count']:,} × {x['kind']}: {harmless(x['example'])}"))
    processor = report["client_processor"]
    hint = ": the service may be able to do more" if processor > 0.9 else ""
    rows.append(("this client", f"{processor:.0%} of a core{hint}"))
    return "\n".join(f"{name:13}{value}" for name, value in rows)


class Bar:
    """Shows how far it is, on a terminal.

    Args:
        stream: Where to show it.
        seconds: How long it will take.
    """

    def __init__(self, stream: TextIO, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds

    def show(self, passed: float, text: str) -> None:
        """Show the bar after so many seconds, and `text` behind it."""
        done = min(int(_BAR * passed / self._seconds), _BAR)
        self._write(f"[{'#' * done}{'.' * (_BAR - done)}] {text}")

    def clear(self) -> None:
        """Remove it."""
        self._write("")

    def _write(self, text: str) -> None:
        self._stream.write(f"\r{text}\x1b[K")
        self._stream.flush()
