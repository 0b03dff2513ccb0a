"""How many workers ``--workers auto`` starts, by what the system says."""

import os
from pathlib import Path

import pytest

from sockjs_aio.cluster.workers.cpus import usable_cpus

AFFINITY = len(os.sched_getaffinity(0))


def system(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """Make a file system as Linux shows it, in which these control groups limit the process."""
    for path, text in {"proc/self/cgroup": cgroup, **files}.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    "cgroup, files, expected",
    [
        ("0::/", {}, None),
        ("0::/", {"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ("0::/", {"sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ("0::/", {"sys/fs/cgroup/cpu.max": "9900000 100000"}, None),
        ("0::/a/b", {"sys/fs/cgroup/a/b/cpu.max": "100000 100000"}, 1),
        (
            "0::/a/b",
            {"sys/fs/cgroup/a/b/cpu.max": "max 1000", "sys/fs/cgroup/a/cpu.max": "1000 1000"},
            1,
        ),
        ("0::/not/shown/in/the/container", {"sys/fs/cgroup/cpu.max": "100000 100000"}, 1),
        (
            "5:memory:/m\n4:cpu,cpuacct:/a",
            {
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000",
            },
            1,
        ),
        (
            "4:cpu,cpuacct:/a",
            {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            None,
        ),
        ("0::/", {"sys/fs/cgroup/cpu.max": "what is this"}, None),
    ],
)
def test_a_limit_of_a_control_group_counts(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: int | None
) -> None:
    assert usable_cpus(system(tmp_path, cgroup, files)) == (expected or AFFINITY)


def test_part_of_a_cpu_counts_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)
    root = system(tmp_path, "0::/", {"sys/fs/cgroup/cpu.max": "250000 100000"})
    assert usable_cpus(root) == 3


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == AFFINITY
