"""Run the fuzz targets and print what they found: ``python -m tests.fuzz [TARGET...]``.

FUZZ_SECONDS is how long each of them runs, FUZZ_JOBS how many at a time.  What an input makes fail
is written to the target's corpus, which ``tests/fuzz/test_corpus.py`` replays; what is only new
goes to ``.fuzz/TARGET``, where the next run goes on.
"""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.targets import CORPUS, TARGETS

SECONDS = int(os.environ.get("FUZZ_SECONDS", "600"))
JOBS = int(os.environ.get("FUZZ_JOBS", str(os.cpu_count() or 1)))
WORK = Path(".fuzz")
WORDS = Path(__file__).with_name("words.dict")
LONGEST_INPUT = 4096  # bytes
SLOWEST_INPUT = 10  # seconds; slower counts as a finding
MEMORY = 1024  # MB; more counts as a finding


@dataclass
class Outcome:
    """What came of one target."""

    name: str
    seconds: float
    executions: int
    coverage: int
    findings: list[Path]
    status: int


def fuzz(name: str) -> Outcome:
    """Run a target in a process of its own until its time is over, or it fails."""
    work = WORK / name
    work.mkdir(parents=True, exist_ok=True)
    seeds = CORPUS / name
    before = set(seeds.iterdir())
    options = [
        f"-max_total_time={SECONDS}",
        f"-max_len={LONGEST_INPUT}",
        f"-timeout={SLOWEST_INPUT}",
        f"-rss_limit_mb={MEMORY}",
        f"-dict={WORDS}",
        f"-artifact_prefix={seeds}/",
        "-print_final_stats=1",
    ]
    start = time.monotonic()
    log = work.with_suffix(".log")
    with log.open("w") as output:
        status = subprocess.call(
            [sys.executable, "-m", "tests.fuzz.one", name, *options, str(work), str(seeds)],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    text = log.read_text(errors="replace")
    return Outcome(
        name,
        time.monotonic() - start,
        _last(r"^#(\d+)", text),
        _last(r"cov: (\d+)", text),
        sorted(set(seeds.iterdir()) - before),
        status,
    )


def _last(pattern: str, text: str) -> int:
    found = re.findall(pattern, text, re.MULTILINE)
    return int(found[-1]) if found else 0


def main() -> int:
    names = sys.argv[1:] or list(TARGETS)
    for unknown in set(names) - set(TARGETS):
        sys.exit(f"there is no target {unknown}: the targets are {', '.join(TARGETS)}")
    print(f"{len(names)} targets, {SECONDS} seconds each, {JOBS} at a time", flush=True)
    print(f"{'target':<20}{'seconds':>8}{'executions':>12}{'coverage':>10}{'findings':>10}")
    status = 0
    with ThreadPoolExecutor(JOBS) as pool:
        for outcome in pool.map(fuzz, names):
            print(
                f"{outcome.name:<20}{outcome.seconds:>8.0f}{outcome.executions:>12,}"
                f"{outcome.coverage:>10}{len(outcome.findings):>10}",
                flush=True,
            )
            for finding in outcome.findings:
                print(f"    {finding}")
            if outcome.status:
                print(f"    status {outcome.status}: see {WORK / outcome.name}.log")
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
