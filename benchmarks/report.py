"""The results as Markdown, and where they stand in the documentation."""

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
    """Write three digits, or all there are of a larger number."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def costs(runs: Runs, scenarios: list[Scenario], names: list[str]) -> str:
    """The table: a row for each figure, the median and in parentheses the best round."""
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
    """What else sockjs-aio's rounds say: rates, latencies, and how evenly sessions are served."""
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
    """Say in one paragraph what the figures were measured with."""
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
    """Replace what stands between the markers `name` of the page, or of the one at `path`."""
    path = path or PAGE
    page = path.read_text()
    begin, end = f"<!-- {name}: written by make bench -->\n", f"<!-- end of {name} -->"
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"{path} has no markers for {name}")
    path.write_text(f"{before}{begin}\n{text}\n\n{end}{after}")


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
