"""`python -m benchmarks`: compares sockjs-aio with bare aiohttp and other SockJS servers.

It prints the tables; a complete run with `--write` puts them and the chart into the documentation.
It also checks all messages: the exit status is 1 if one was lost, doubled, altered or out of order.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

from benchmarks import report, summary
from benchmarks.contenders import BARE, OURS, ROOT, Contender, contenders
from benchmarks.run import Bench
from benchmarks.scenarios import MORE, SCENARIOS, Scenario
from benchmarks.summary import Runs

CHART = ROOT / "docs/img/performance.svg"
SOURCE = ROOT / "benchmarks/loadgen.c"
BUILD = ROOT / "build"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0]
    )
    patterns = "names or patterns, separated by commas"
    parser.add_argument("--scenarios", metavar="NAMES", help=patterns)
    parser.add_argument("--only", metavar="SERVERS", help=patterns)
    parser.add_argument("--list", action="store_true", help="list scenarios and servers, then exit")
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--seconds", type=float, default=2, help="measured per run (2)")
    parser.add_argument("--warmup", type=float, default=0.3, help="seconds before that (0.3)")
    parser.add_argument("--uvloop", action="store_true", help="for sockjs-aio and bare aiohttp")
    parser.add_argument("--write", action="store_true", help="update docs/ if the run is complete")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to this file")
    return parser.parse_args()


def selected_scenarios(patterns: str | None) -> list[Scenario]:
    if patterns is None:
        return SCENARIOS
    return [x for x in SCENARIOS + MORE if _matches(x.name, patterns)]


def selected_contenders(patterns: str | None, uvloop: bool) -> list[Contender]:
    """Return the selected servers that are installed; print which ones are not."""
    found = [x for x in contenders(uvloop) if patterns is None or _matches(x.name, patterns)]
    for contender in found:
        if not contender.is_installed:
            say(f"skipping {contender.name}, which is not installed: run make bench-peers")
    return [contender for contender in found if contender.is_installed]


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns.split(","))


def compiled_loadgen() -> Path:
    """Compile the load generator if its source has changed."""
    program = BUILD / "loadgen"
    if not program.exists() or program.stat().st_mtime < SOURCE.stat().st_mtime:
        compiler = shutil.which("cc")
        if compiler is None:
            sys.exit("the load generator needs a C compiler: install cc")
        BUILD.mkdir(exist_ok=True)
        subprocess.run([compiler, "-O2", "-o", program, SOURCE], check=True)
    return program


def compare(bench: Bench, scenarios: list[Scenario], servers: list[Contender], rounds: int) -> Runs:
    """Make all runs; the servers take turns, so that a slow moment does not affect only one."""
    runs: Runs = {scenario.name: {} for scenario in scenarios}
    for scenario in scenarios:
        say(scenario.name)
        able = [server for server in servers if server.load_options(scenario) is not None]
        for _ in range(rounds):
            for server in able:
                result = bench.run(server, scenario)
                runs[scenario.name].setdefault(server.name, []).append(result)
    return runs


def tick_table() -> str:
    """Measure what idle sessions cost, in a separate process."""
    command = [sys.executable, "-m", "benchmarks.ticks"]
    return subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    options = parse_arguments()
    servers = selected_contenders(options.only, options.uvloop)
    scenarios = selected_scenarios(options.scenarios)
    if options.list:
        print("\n".join([f"{x.name:26} {x.options}" for x in SCENARIOS + MORE]))
        print("\n".join([server.name for server in servers]))
        return 0
    bench = Bench(compiled_loadgen(), options.seconds, options.warmup)
    runs = compare(bench, scenarios, servers, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1))
    names = [server.name for server in servers]
    circumstances = report.circumstances(options.rounds, options.seconds, options.uvloop)
    costs, latencies = report.costs(runs, scenarios, names), report.latencies(runs, scenarios)
    print(f"{circumstances}\n\n{costs}\n\n{latencies}")
    is_complete = scenarios == SCENARIOS and {OURS, BARE} <= set(names) and options.rounds >= 3
    if options.write and is_complete and not options.uvloop:
        ticks = tick_table()
        print(f"\n{ticks}")
        report.put("costs", f"{circumstances}\n\n{costs}")
        report.put("latencies", latencies)
        report.put("ticks", ticks)
        draw(runs, scenarios, names)
    elif options.write:
        say(
            "docs/ is unchanged: to update it, run all scenarios with sockjs-aio and bare "
            "aiohttp, at least 3 rounds, without --uvloop"
        )
    failures = summary.failures(runs)
    for failure in failures:
        say(failure)
    return 1 if failures else 0


def draw(runs: Runs, scenarios: list[Scenario], names: list[str]) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        say("no chart: install matplotlib to draw it")
        return
    from benchmarks import chart

    chart.draw(runs, scenarios, names, CHART)


if __name__ == "__main__":
    sys.exit(main())
