"""What a soak has measured, as a table, and whether it holds what was promised."""

import platform
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version

from tests.process import COMPLAINTS
from tests.soak.soaking import SETTINGS, Result, Sample

RSS_MARGIN = 12.0
"""MB by which the server may be larger at the end than after its warm-up."""

EXIT_MARGIN = 3.0
"""Seconds that the process may take besides `shutdown_timeout`, which readers that have stopped
use up."""

WRONG = ("lost", "doubled", "reordered", "garbled")


@dataclass
class Check:
    """One promise."""

    name: str
    value: float
    bound: float
    at_least: bool = False  # the value has to be that much, or else that little

    @property
    def holds(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        mark = "ok    " if self.holds else "FAILED"
        return f"{mark} {self.name}: {self.value:g} ({sign} {self.bound:g})"


def complaints(log: str) -> list[str]:
    """Return the lines of the server's log that should not be there."""
    words = (*COMPLAINTS, "Exception ignored")
    lines = []
    for line in log.splitlines():
        is_record = line.startswith(("WARNING ", "ERROR ", "CRITICAL "))
        is_overflow = (
            line.startswith("WARNING sockjs_aio.session: session ") and "(overflow," in line
        )
        if (is_record and not is_overflow) or any(word in line for word in words):
            lines.append(line)
    return lines


def under_load(result: Result) -> list[Sample]:
    """Return the samples of the time in which the load ran."""
    return result.samples[: round(result.seconds)]


def resident(samples: Iterable[Sample]) -> float:
    """Return the median of the server's memory, in MB."""
    return statistics.median(sample.resident for sample in samples) / 1e6


def warmed_up(result: Result) -> list[Sample]:
    """Return the samples of the second tenth: the first is the warm-up."""
    tenth = max(1, len(under_load(result)) // 10)
    return under_load(result)[tenth : 2 * tenth]


def late(result: Result) -> list[Sample]:
    """Return the samples of the last tenth."""
    return under_load(result)[-max(1, len(under_load(result)) // 10) :]


def checks(result: Result) -> list[Check]:
    """Return all that has to hold."""
    assert result.end is not None
    tallies = {**result.load["tallies"], "received": result.server["received"]}
    zero = {
        **{name: sum(tally[name] for tally in tallies.values()) for name in WRONG},
        "faults seen by clients": sum(result.load["faults"].values()),
        "faults of probes": len(result.probe_faults),
        "faults in calling hooks": sum(result.server["faults"].values()),
        "complaints in the server's log": len(complaints(result.log)),
        "sessions after the load": result.end.sessions,
        "on_open without on_close": abs(result.server["opened"] - result.server["closed"]),
        "exit status": abs(result.exit_status or 0),
        "disagreement about the last broadcast": len(result.load["last_broadcasts"]) - 1,
    }
    warm = resident(warmed_up(result))
    return [
        *(Check(name, value, 0) for name, value in zero.items()),
        Check("tasks after the load", result.end.tasks, result.start.tasks),
        Check("descriptors after the load", result.end.descriptors, result.start.descriptors),
        Check("MB late under load", resident(late(result)), warm + RSS_MARGIN),
        Check("MB after the load", result.end.resident / 1e6, warm + RSS_MARGIN),
        Check(
            "seconds from SIGTERM to exit",
            result.exit_seconds,
            SETTINGS["shutdown_timeout"] + EXIT_MARGIN,
        ),
        Check("clients told of the restart", sum(result.load["last_broadcasts"].values()), 1, True),
        # a load that did not happen proves nothing
        *(Check(f"{name} messages", tally["seen"], 1, True) for name, tally in tallies.items()),
        *(
            Check(f"sessions ended by {name}", result.server["ends"].get(name, 0), 1, True)
            for name in ("client", "server", "network", "timeout", "overflow", "shutdown")
        ),
    ]


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the value that `percent` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def report(result: Result) -> str:
    """Return the summary as text."""
    lines = [
        f"Soak: {result.seconds:g} s of load, Python {platform.python_version()}, "
        f"aiohttp {version('aiohttp')}",
        "",
        *_sessions(result),
        "",
        *_messages(result),
        "",
        *_resources(result),
        "",
        *_latencies(result),
        "",
        *map(str, checks(result)),
        *(f"  client: {fault} ({count} times)" for fault, count in result.load["faults"].items()),
        *(f"  server: {fault} ({count} times)" for fault, count in result.server["faults"].items()),
        *(f"  {fault}" for fault in result.probe_faults),
        *(f"  log: {line}" for line in complaints(result.log)[:20]),
    ]
    return "\n".join(lines)


def _row(cells: Iterable[object]) -> str:
    first, *others = cells
    return f"{first!s:<28}" + "".join(f"{cell!s:>14}" for cell in others)


def _sessions(result: Result) -> list[str]:
    server = result.server
    ends = sorted(server["ends"].items())
    return [
        f"sessions: {server['opened']} opened, {server['closed']} closed",
        *(_row([f"  by {initiator}", count]) for initiator, count in ends),
    ]


def _messages(result: Result) -> list[str]:
    tallies = {
        "echo, to the server": result.server["received"],
        "echo, back": result.load["tallies"]["echo"],
        "broadcast": result.load["tallies"]["broadcast"],
        "large": result.load["tallies"]["large"],
        "just before a close": result.load["tallies"]["last"],
    }
    return [
        _row(["messages", "seen", *WRONG]),
        *(
            _row([f"  {name}", tally["seen"], *(tally[x] for x in WRONG)])
            for name, tally in tallies.items()
        ),
        _row(["  broadcasts sent", result.server["broadcasts"]]),
    ]


def _resources(result: Result) -> list[str]:
    assert result.end is not None
    columns = [[result.start], warmed_up(result), result.samples, late(result), [result.end]]

    def row(name: str, value: Callable[[Sample], float], form: str = "{:.0f}") -> str:
        cells = [statistics.median(map(value, column)) for column in columns]
        cells[2] = max(map(value, result.samples))
        return _row([f"  {name}", *map(form.format, cells)])

    return [
        _row(["server", "start", "warmed up", "most", "late", "end"]),
        row("resident memory, MB", lambda x: x.resident / 1e6, "{:.1f}"),
        row("sessions", lambda x: x.sessions),
        row("tasks", lambda x: x.tasks),
        row("open descriptors", lambda x: x.descriptors),
        f"  processor: server {result.server_cpu:.0%}, load {result.load_cpu:.0%} of one core",
    ]


def _latencies(result: Result) -> list[str]:
    lines = [_row(["echo of a probe, ms", "echoes", "p50", "p99", "longest"])]
    for name, samples in result.latencies.items():
        taken = [seconds * 1000 for _, seconds in samples]
        if taken:
            figures = [percentile(taken, 50), percentile(taken, 99), max(taken)]
            lines.append(_row([f"  {name}", len(taken), *(f"{x:.1f}" for x in figures)]))
    return lines
