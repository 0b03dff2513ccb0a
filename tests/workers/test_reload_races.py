"""Reloads that meet something else: a worker that dies, a successor that dies, the end."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import async_timeout
import pytest

from tests.forks import AsyncFork
from tests.workers.commanding import PATIENCE, Command
from tests.workers.conftest import RunCommand


def children(process: asyncio.subprocess.Process | AsyncFork) -> set[int]:
    """Return the process ids of the workers, those included that do not serve yet."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not path.exists():
        pytest.skip("this system does not tell")
    return {int(pid) for pid in path.read_text().split()}


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def until(is_so: Callable[[], object]) -> None:
    async with async_timeout.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.005)


async def open_sessions(served: Command, name: str) -> None:
    """Open sessions at all workers, wherever the requests come in."""
    for number in range(12):
        assert await served.poll(f"/0/{name}{number}") == b"o"


async def test_a_reload_replaces_workers_that_are_dead_just_then(command: RunCommand) -> None:
    """Whether it has been noticed that they are or not."""
    served = await command(workers=2)
    workers = await served.worker_wires(2)
    served.process.send_signal(signal.SIGSTOP)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    served.process.send_signal(signal.SIGHUP)
    served.process.send_signal(signal.SIGCONT)
    await served.until_said("all workers are new")
    await open_sessions(served, "a")
    assert len(children(served.process)) == 2
    assert await served.stop() == 0
    assert "reload failed" not in served.said
    assert not served.has_failed, served.said


async def test_a_reload_right_after_the_start_waits_for_it(command: RunCommand) -> None:
    served = await command(workers=2, wait=False)
    await until(lambda: children(served.process))
    served.process.send_signal(signal.SIGHUP)
    await served.until_said("all workers are new")
    served.port = int((await served.until_said(r"serves? http://127\.0\.0\.1:(\d+)"))[1])
    await open_sessions(served, "a")
    assert await served.stop() == 0
    assert "WARNING" not in served.said
    assert not served.has_failed, served.said


async def test_a_reload_replaces_workers_that_die_before_they_have_ever_served(
    command: RunCommand,
) -> None:
    """Nobody has listened at their sockets' names yet."""
    served = await command(workers=2, wait=False)
    await until(lambda: len(children(served.process)) == 2)
    served.process.send_signal(signal.SIGHUP)
    await served.until_said("reloading, one worker at a time")
    for pid in children(served.process):
        os.kill(pid, signal.SIGKILL)
    await served.until_said("all workers are new")
    served.port = int((await served.until_said(r"serves? http://127\.0\.0\.1:(\d+)"))[1])
    await open_sessions(served, "a")
    assert await served.stop() == 0
    assert "reload failed" not in served.said
    assert not served.has_failed, served.said


async def test_signals_to_all_processes_leave_workers_alone_that_start(
    command: RunCommand,
) -> None:
    """Those of systemd and of a terminal, which arrive while Python itself starts."""
    served = await command(workers=2, wait=False)
    await until(lambda: len(children(served.process)) == 2)
    first = children(served.process)
    tell_all(first)
    served.port = int((await served.until_said(r"serves? http://127\.0\.0\.1:(\d+)"))[1])
    served.process.send_signal(signal.SIGHUP)
    await until(lambda: children(served.process) - first)
    tell_all(children(served.process) - first)
    await served.until_said("all workers are new")
    assert await served.stop() == 0
    assert "died" not in served.said
    assert "reload failed" not in served.said
    assert not served.has_failed, served.said


def tell_all(pids: set[int]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for pid in pids:
            os.kill(pid, number)


async def test_the_end_in_the_middle_of_a_reload_leaves_nobody_behind(command: RunCommand) -> None:
    served = await command(workers=2)
    before = children(served.process)
    served.process.send_signal(signal.SIGHUP)
    await until(lambda: children(served.process) - before)
    (successor,) = children(served.process) - before
    assert await served.stop() == 0
    assert not is_running(successor)
    assert not served.has_failed, served.said


async def test_a_worker_whose_successor_dies_goes_on_alone(
    command: RunCommand, tmp_path: Path
) -> None:
    """Again and again, also after it has been asked to leave new sessions to it."""
    served = await command(workers=1, temporary=tmp_path)
    (old,) = children(served.process)
    for attempt in range(2):
        os.kill(old, signal.SIGSTOP)  # it cannot answer, so what follows is in time
        served.process.send_signal(signal.SIGHUP)
        await until(lambda: children(served.process) - {old})
        (new,) = children(served.process) - {old}
        await until(lambda: list(tmp_path.glob(f"*/0.{new}")))  # noqa: B023
        await asyncio.sleep(0.2)  # for the supervisor to ask the old one
        os.kill(new, signal.SIGKILL)
        os.kill(old, signal.SIGCONT)
        await served.until_said("reload failed at worker 0", count=attempt + 1)
        await open_sessions(served, str(attempt))
    assert children(served.process) == {old}
    assert await served.stop() == 0
    assert "Unclosed" not in served.said
    assert not served.has_failed, served.said
