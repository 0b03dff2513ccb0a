"""Formats the results as Markdown, and puts them into the documentation."""

import datetime
import os
import platform
import re
from pathlib import Path

import aiohttp

from benchmarks.contenders import BARE, OURS, ROOT
from benchmarks.scenarios import Scenario
from benchmarks.summary import Runs, figure, median, ratio

PAGE = ROOT / "docs/performance.md"


def number(value: float | None) -> str:
    """Format `value` with three digits, or with all its digits if it is 100 or more."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def costs(runs: Runs, scenarios: list[Scenario], names: list[str]) -> str:
    """Return the table: one row for each figure, with the median and, in brackets, the best."""
    others = [name for name in names if name not in (OURS, BARE)]
    head = ["", OURS, BARE, "ratio", "goal", *others]
    lines = [_line(head), "| --- |" + " ---: |" * (len(head) - 1)]
    for scenario in scenarios:
        for row in scenario.rows:
            cells = {}
            for name in names:
                found = figure(runs, scenario.name, row, name)
                cells[name] = f"{number(found.median)} ({number(found.best)})" if found else "-"
            times = ratio(runs, scenario, row)
            lines.append(
                _line(
                    [f"{row.title}, {row.unit}", cells.get(OURS, "-"), cells.get(BARE, "-")]
                    + [f"{times:.2f} ×" if times else "-", row.goal or "-"]
                    + [cells[name] for name in others]
                )
            )
    return "\n".join(lines)


def latencies(runs: Runs, scenarios: list[Scenario]) -> str:
    """Return a table of sockjs-aio's rates, latencies, and how evenly it serves sessions."""
    head = ["", "per second", "p50, ms", "p99, ms", "p99 / p50", "worst session's p99, ms"]
    head += ["fewest to most messages of a session", "longest stall, ms"]
    lines = [_line(head), "| --- |" + " ---: |" * (len(head) - 1)]
    for scenario in scenarios:
        p50, p99 = (median(runs, scenario.name, OURS, key) for key in ("p50_ms", "p99_ms"))
        if not p50 or not p99:
            continue
        fewest, most, worst = (
            median(runs, scenario.name, OURS, "fairness", key)
            for key in ("fewest", "most", "worst_p99_ms")
        )
        stall = median(runs, scenario.name, OURS, "longest_stall_ms")
        cells = [scenario.rows[0].title, number(median(runs, scenario.name, OURS, "per_s"))]
        cells += [number(p50), number(p99), f"{p99 / p50:.1f}", number(worst)]
        cells += [f"{fewest:.0f} to {most:.0f}" if fewest is not None else "-", number(stall)]
        lines.append(_line(cells))
    return "\n".join(lines)


def circumstances(rounds: int, seconds: float, uvloop: bool) -> str:
    """Describe in one paragraph how the figures were measured."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    loop = "uvloop" if uvloop else "asyncio"
    load = os.getloadavg()[2]
    return (
        f"{datetime.date.today():%d %B %Y}, {rounds} rounds of {seconds:g} s: Python "
        f"{platform.python_version()}, aiohttp {aiohttp.__version__}, {loop}; "
        f"{os.cpu_count()} CPUs ({model[1] if model else platform.machine()}), "
        f"load average {load:.1f}."
    )


def put(name: str, text: str, path: Path | None = None) -> None:
    """Replace the text between the markers `name` in docs/performance.md, or in `path`."""
    path = path or PAGE
    page = path.read_text()
    begin, end = f"<!-- {name}: written by make bench -->\n", f"<!-- end of {name} -->"
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"{path} has no markers for {name}: add {begin!r} and {end!r}")
    path.write_text(f"{before}{begin}\n{text}\n\n{end}{after}")


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
