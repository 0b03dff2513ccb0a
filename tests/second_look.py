"""Run pytest, and run what failed three times more, alone: ``python -m tests.second_look ARGS...``.

Several processes of tests on a shared machine can starve one another for longer than a test has
patience.  What passes three times out of three alone is told, and does not stop a change.  This
cannot tell a starved test from a race that needs load, so what it names is to be looked into.  More
than three failures at once are not a matter of time: they count.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

MOST = 3
"""Failures that get a second look."""

ROUNDS = 3

TESTS_FAILED = 1
"""pytest's exit code; any other is not about single tests."""


def main(arguments: list[str]) -> int:
    """Return the exit code: 0 if all passed, or all that failed passed each time alone."""
    with tempfile.TemporaryDirectory() as cache:
        code = run_pytest(arguments, cache)
        failures = Path(cache, "v", "cache", "lastfailed")
        if code != TESTS_FAILED or not failures.exists():
            return code
        failed = failures.read_text()
        names = list(json.loads(failed))
        if len(names) > MOST:
            return code
        for round in range(ROUNDS):
            print(f"== failed, once more, alone ({round + 1} of {ROUNDS}):", *names, flush=True)
            failures.write_text(failed)  # a round that passes empties it
            only_failed = ("--last-failed", "--last-failed-no-failures=none", "--numprocesses=0")
            if code := run_pytest([*arguments, *only_failed], cache):
                return code
        print(f"== failed beside others, passed {ROUNDS} times alone:", *names, flush=True)
    return 0


def run_pytest(arguments: list[str], cache: str) -> int:
    """Run pytest with its memory of failures in `cache`; return its exit code."""
    command = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}", *arguments]
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
