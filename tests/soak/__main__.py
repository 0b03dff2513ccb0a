"""`python -m tests.soak --seconds 600 --output soak`: load a server with everything at once.

The report goes to standard output and ``report.txt``, the picture to ``soak.png``, what was
measured to ``result.json``.  The exit status is 1 if a promise was not kept.
"""

import argparse
import asyncio
import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

from tests.soak import verdict
from tests.soak.soaking import Soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=600, help="how long the load runs")
    parser.add_argument("--members", type=int, default=250, help="clients, on average")
    parser.add_argument("--output", type=Path, default=Path("soak"), help="folder for the results")
    options = parser.parse_args()
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    result = asyncio.run(Soak(options.seconds, options.members, output, say).run())
    (output / "result.json").write_text(json.dumps(dataclasses.asdict(result)))
    report = verdict.report(result)
    (output / "report.txt").write_text(report + "\n")
    print(report)
    if importlib.util.find_spec("matplotlib") is None:
        say("no picture: matplotlib is not installed")
    else:
        from tests.soak.picture import draw

        draw(result, output / "soak.png")
    return 0 if all(check.holds for check in verdict.checks(result)) else 1


if __name__ == "__main__":
    sys.exit(main())
