"""`python -m benchmarks.many_idle`: holds 50,000 idle WebSockets, and measures the server's memory.

The clients connect from several loopback addresses, because one has too few ports.  Raising the
limit of open files beyond the hard one needs root.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.__main__ import compiled_loadgen
from benchmarks.contenders import OURS, ROOT, contenders, environment
from benchmarks.run import free_port, wait_until_listening

EACH = 12_500
"""Connections of one load generator."""

PATIENCE = 300.0
"""Seconds within which all must be connected."""

HOLD = 60
"""Seconds for which the generators stay connected."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--connections", type=int, default=50_000, help="(50,000)")
    options = parser.parse_args()
    generators = -(-options.connections // EACH)
    total = options.connections
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(total + 100, allowed)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    except ValueError:
        sys.exit(
            f"at most {allowed} open files are allowed here: use --connections {allowed - 100}"
        )
    port = free_port()
    server = next(x for x in contenders(uvloop=False) if x.name == OURS)
    process = subprocess.Popen(
        [*server.command, "--port", str(port), "--heartbeat", "600"],
        cwd=ROOT,
        env=environment(server),
    )
    clients: list[subprocess.Popen[bytes]] = []
    try:
        wait_until_listening(process, port)
        before = resident(process.pid)
        command = [str(compiled_loadgen()), "--port", str(port), "--path", "/echo"]
        command += ["--scenario", "idle", "--connections", str(EACH), "--seconds", str(HOLD)]
        clients += [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(generators)]
        wait_until_connected(process.pid, total)
        grown = resident(process.pid) - before
    finally:
        for each in (*clients, process):
            each.kill()
            each.wait()
    print(
        f"{total:,} idle WebSockets: {grown / total / 1024:.2f} KiB each, {grown / 2**20:.0f} MiB"
    )
    return 0


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def wait_until_connected(pid: int, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(os.listdir(f"/proc/{pid}/fd")) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not all {count} are connected after {PATIENCE:g} s")
        time.sleep(0.5)
    time.sleep(2)  # until the open frames have been written


if __name__ == "__main__":
    sys.exit(main())
