"""`python -m benchmarks.many_idle`: holds 50,000 idle WebSockets, and measures what they cost.

One process may open only so many files, often 20,000: so the server has several workers, and the
clients are several load generators, which connect from several loopback addresses, because one has
too few ports.  Heartbeats come as by default, every 25 seconds, and are answered.

Memory is measured as PSS, which shares pages out among the processes that have them in common, and
as USS, the pages that a process has for itself.  Both are sums over all processes of the server.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.__main__ import compiled_loadgen, say
from benchmarks.contenders import ROOT
from benchmarks.run import free_port, wait_until_listening

EACH = 5_000
"""Connections of one load generator, which has a minute to open them."""

PATIENCE = 120.0
"""Seconds within which those of one generator must be connected."""

NEEDED = 20 * 1024
"""Bytes of memory to have for each session: its own, and the kernel's for both ends."""

SPARE = 100
"""Open files of a process that are not connections."""


class Server:
    """The server's processes.

    Args:
        process: The supervisor.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._supervisor = process.pid

    def _pids(self) -> list[int]:
        children = Path(f"/proc/{self._supervisor}/task/{self._supervisor}/children").read_text()
        return [self._supervisor, *map(int, children.split())]

    def files(self) -> int:
        """Return how many files are open."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self._pids())

    def most_files(self) -> int:
        """Return how many the process has that has the most."""
        return max(len(os.listdir(f"/proc/{pid}/fd")) for pid in self._pids())

    def memory(self) -> tuple[int, int]:
        """Return PSS and USS in bytes."""
        pss = uss = 0
        for pid in self._pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, *value = line.split()
                pss += 1024 * int(value[0]) if name == "Pss:" else 0
                uss += 1024 * int(value[0]) if name.startswith("Private_") else 0
        return pss, uss

    def cpu(self) -> float:
        """Return the CPU time used so far, in seconds."""
        ticks = 0
        for pid in self._pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--connections", type=int, default=50_000, help="(50,000)")
    parser.add_argument("--workers", type=int, default=3, help="processes of the server (3)")
    parser.add_argument("--seconds", type=float, default=50, help="of heartbeats (50)")
    options = parser.parse_args()
    total = options.connections
    check_limits(total, options.workers)
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "sockjs_aio", "serve", "--port", str(port)),
            *("--workers", str(options.workers), "--drain-notice", "0", "--drain-over", "0"),
            *("--log-level", "error"),
            "benchmarks.servers.sockjs_aio_server:make_app",
        ],
        cwd=ROOT,
    )
    clients: list[subprocess.Popen[bytes]] = []
    try:
        wait_until_listening(process, port)
        time.sleep(2)  # until the last worker has started
        print(measure(Server(process), port, total, options.seconds, clients))
    finally:
        for client in clients:
            client.kill()
            client.wait()
        process.terminate()
        process.wait()
    return 0


def check_limits(total: int, workers: int) -> None:
    """Exit if this machine cannot hold as many connections; allow as many files as may be."""
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    # the kernel spreads connections by chance, so they are not equally many for each
    if total / workers * 1.05 + SPARE > allowed:
        enough = int(total * 1.05 / (allowed - SPARE)) + 1
        sys.exit(f"a process may open {allowed:,} files here: use --workers {enough}")
    if total * NEEDED > meminfo("MemAvailable"):
        sys.exit(f"this needs {total * NEEDED / 2**30:.1f} GiB of memory: use less --connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))


def measure(
    server: Server, port: int, total: int, seconds: float, clients: "list[subprocess.Popen[bytes]]"
) -> str:
    """Connect `total` clients; return what was seen."""
    files, before, kernels = server.files(), server.memory(), meminfo("Slab")
    command = [str(compiled_loadgen()), "--port", str(port), "--path", "/echo"]
    command += ["--scenario", "idle", "--seconds", "3600", "--connections"]
    for first in range(0, total, EACH):
        count = min(EACH, total - first)
        clients.append(subprocess.Popen([*command, str(count)], stdout=subprocess.DEVNULL))
        wait_until_connected(server, files + first + count)
        say(f"{first + count:,} are connected")
    time.sleep(2)  # until the open frames have been written
    used = server.cpu()
    time.sleep(seconds)
    used = server.cpu() - used
    if server.files() < files + total:
        raise RuntimeError("some connections are lost")
    pss, uss = (after - ago for after, ago in zip(server.memory(), before, strict=True))
    return (
        f"{total:,} idle WebSockets, at most {server.most_files():,} files open in a process: "
        f"PSS {pss / total / 1024:.2f} KiB each, USS {uss / total / 1024:.2f} KiB each, "
        f"{pss / 2**20:,.0f} MiB in all; the kernel's objects, for both ends, "
        f"{(meminfo('Slab') - kernels) / total / 1024:.1f} KiB each; "
        f"heartbeats take {used / seconds:.1%} of a CPU, "
        f"{used / total / seconds * 25e6:.0f} µs each"
    )


def meminfo(name: str) -> int:
    """Return a number of bytes of which the kernel tells."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the kernel does not tell {name}")


def wait_until_connected(server: Server, files: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while server.files() < files:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not all are connected after {PATIENCE:g} s")
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
