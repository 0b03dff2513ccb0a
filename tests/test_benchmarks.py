"""The comparison of `make bench`: rounds come to figures, and those into the documentation."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import many_idle, report, summary
from benchmarks.contenders import BARE, OURS, ROOT
from benchmarks.scenarios import SCENARIOS
from tests.require import require

CHEAP = SCENARIOS[0]


def result(cpu: float, errors: int = 0) -> dict[str, Any]:
    return {"server_cpu_ms_per_1000": cpu, "errors": errors, "p50_ms": 1.0, "p99_ms": 3.0}


def test_ratio_is_that_of_the_same_round() -> None:
    # the second round met a slow moment of the machine
    runs = {CHEAP.name: {OURS: [result(12), result(24), result(12)], BARE: [result(10)] * 3}}
    runs[CHEAP.name][BARE][1] = result(20)
    row = CHEAP.rows[0]
    assert summary.ratio(runs, CHEAP, row) == pytest.approx(1.2)
    assert summary.figure(runs, CHEAP.name, row, OURS) == summary.Figure(median=12, best=12)
    assert "| 12.0 (12.0) | 10.0 (10.0) | 1.20 × |" in report.costs(runs, [CHEAP], [OURS, BARE])
    assert "| 3.0 |" in report.latencies(runs, [CHEAP])


def test_failed_runs_are_named_and_left_out() -> None:
    runs = {CHEAP.name: {OURS: [result(12, errors=2), {"failed": "it did not start"}]}}
    assert summary.figure(runs, CHEAP.name, CHEAP.rows[0], OURS) == summary.Figure(12, 12)
    assert summary.failures(runs) == [
        f"{CHEAP.name}, {OURS}: 2 errors",
        f"{CHEAP.name}, {OURS}: it did not start",
    ]


def test_tables_are_put_between_their_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(report.PAGE.read_text())
    monkeypatch.setattr(report, "PAGE", page)
    for name in ("costs", "latencies", "ticks"):
        report.put(name, f"the old {name}")
        report.put(name, f"the new {name}")
    text = page.read_text()
    assert text.count("the new ") == 3 and "the old " not in text
    assert text.startswith("# Performance") and "## What keeps it so" in text
    with pytest.raises(ValueError, match="no markers"):
        report.put("nothing", "")


@pytest.mark.programs
def test_idle_websockets_of_all_workers_are_counted() -> None:
    require(sys.platform == "linux", "Linux")
    require(shutil.which("cc"), "cc")
    command = [sys.executable, "-m", "benchmarks.many_idle", "--seconds", "1"]
    done = subprocess.run(
        [*command, "--connections", "300", "--workers", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("300 idle WebSockets, at most ")


def test_more_idle_websockets_than_a_process_may_have_files_need_more_workers() -> None:
    with pytest.raises(SystemExit, match="files here: use --workers"):
        many_idle.check_limits(10**9, 1)
