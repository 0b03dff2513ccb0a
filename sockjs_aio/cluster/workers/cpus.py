"""How many CPUs this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the number of CPUs by affinity and by the limits of its control groups.

    Part of a CPU counts as one: with 1.5 CPUs, two workers can use all of it.

    Args:
        root: Where the file systems ``/proc`` and ``/sys`` are.
    """
    return max(1, min([_cpus_by_affinity(), *map(math.ceil, _limits(root))]))


def _cpus_by_affinity() -> int:
    if hasattr(os, "process_cpu_count"):  # of Python 3.13, which has -X cpu_count
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limits(root: Path) -> Iterator[float]:
    """Yield the limits of the control groups that this process is in, in CPUs."""
    for group in _groups(root):
        maximum = _numbers(group / "cpu.max")  # version 2
        quota = _numbers(group / "cpu.cfs_quota_us") + _numbers(group / "cpu.cfs_period_us")
        for limit in (maximum, quota):
            if len(limit) == 2 and min(limit) > 0:
                yield limit[0] / limit[1]


def _groups(root: Path) -> Iterator[Path]:
    """Yield the directories of the groups, each with those above it, which limit it too."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        inner = PurePosixPath(path.lstrip("/"))
        for part in (inner, *inner.parents):
            yield root / "sys/fs/cgroup" / controllers / part


def _numbers(file: Path) -> list[int]:
    """Return the numbers in a file; ``max``, which is none, is left out."""
    try:
        return [int(word) for word in file.read_text().split() if word != "max"]
    except (OSError, ValueError):
        return []
