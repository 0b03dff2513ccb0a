"""Workers whose event loop stands still: they are found out, and replaced."""

import asyncio
import os
import signal
from pathlib import Path

import async_timeout
import pytest

from tests.clients import WebSocket
from tests.workers.commanding import PATIENCE, Command
from tests.workers.conftest import RunCommand
from tests.workers.test_ends import UNRULY, lines, until_noted
from tests.workers.test_reload_races import children, open_sessions

pytestmark = pytest.mark.timeout(3 * PATIENCE)


async def blocked(
    command: RunCommand, notes: Path, *arguments: str, seconds: float = 100, workers: int = 2
) -> tuple[Command, int]:
    """Serve with one worker that a hook holds up; return its process id, too."""
    served = await command(*arguments, target=UNRULY + "make", notes=notes, workers=workers)
    client = await WebSocket.open(served)
    await client.send("pid")
    (pid,) = await client.messages(1)
    await client.send(f"block {seconds}")
    await until_noted(notes, "blocks")
    return served, int(pid)


async def test_a_worker_that_hangs_is_replaced(command: RunCommand, tmp_path: Path) -> None:
    served, pid = await blocked(command, tmp_path / "notes", "--hang-limit", "6")
    await served.until_said(rf"WARNING worker . \(process {pid}\) has not reported for 5 s")
    await served.until_said(rf"ERROR worker . \(process {pid}\) has not reported for 6 s")
    await served.until_said(r"died \(SIGABRT\): starting it again")
    assert "unruly.py" in served.said and "in on_message" in served.said  # where it has hung
    async with async_timeout.timeout(PATIENCE):
        while len(children(served.process)) < 2:
            await asyncio.sleep(0.01)
    await open_sessions(served, "a")
    assert await served.stop() == 0
    assert not served.has_failed, served.said


async def test_a_worker_that_stands_still_as_a_whole_is_replaced(command: RunCommand) -> None:
    """It cannot even say where it hangs."""
    served = await command("--hang-limit", "2", workers=2)
    victim = next(iter(await served.worker_wires(2)))
    os.kill(victim, signal.SIGSTOP)
    await served.until_said(r"died \(SIGKILL\): starting it again")
    await served.worker_wires(2)
    assert await served.stop() == 0


async def test_a_worker_that_is_held_up_for_less_goes_on(
    command: RunCommand, tmp_path: Path
) -> None:
    served, pid = await blocked(command, tmp_path / "notes", seconds=4)
    await until_noted(tmp_path / "notes", "blocked")
    assert pid in children(served.process)
    assert await served.stop() == 0
    assert "killed" not in served.said


async def test_a_supervisor_that_was_stopped_itself_blames_nobody(command: RunCommand) -> None:
    """As when the machine was paused."""
    served = await command("--hang-limit", "2", workers=2)
    before = children(served.process)
    everybody = [served.process.pid, *before]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(4)
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)
    await open_sessions(served, "a")
    await asyncio.sleep(2)
    assert children(served.process) == before
    assert await served.stop() == 0
    assert "not reported" not in served.said


async def test_the_end_takes_no_longer_for_a_worker_that_hangs(
    command: RunCommand, tmp_path: Path
) -> None:
    """`notice` and `limit`, and not the hang limit nor what clients may take."""
    notes = tmp_path / "notes"
    served, _ = await blocked(command, notes, "--drain-limit", "4", "--hang-limit", "60")
    async with async_timeout.timeout(20):
        assert await served.stop() == 1  # somebody was cut off
    assert "killing it" in served.said
    assert lines(notes).count("cleanup") == 1  # of the other one


async def test_a_second_signal_does_not_wait_for_a_worker_that_hangs(
    command: RunCommand, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    served, _ = await blocked(command, notes, "--drain-limit", "60", "--hang-limit", "60")
    served.process.send_signal(signal.SIGTERM)
    await served.until_said("readiness is off")
    async with async_timeout.timeout(20):
        assert await served.stop() == 1
    assert "SIGTERM again" in served.said


async def test_a_second_signal_reaches_workers_that_drain(
    command: RunCommand, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    served = await command(
        "--drain-limit",
        "60",
        target=UNRULY + "make",
        notes=notes,
        settings={"shutdown_timeout": 1},
    )
    client = await WebSocket.open(served)
    await client.send("wait 1000")
    await until_noted(notes, "waits")
    served.process.send_signal(signal.SIGTERM)
    await served.until_said(r"worker \d: closing")
    async with async_timeout.timeout(20):
        assert await served.stop() == 0
    assert "close" in lines(notes) and lines(notes).count("cleanup") == 2


async def test_a_reload_replaces_a_worker_that_hangs(command: RunCommand, tmp_path: Path) -> None:
    """No mixture of old and new code is left."""
    served, _ = await blocked(command, tmp_path / "notes", "--hang-limit", "4")
    before = children(served.process)
    served.process.send_signal(signal.SIGHUP)
    await served.until_said("all workers are new")
    assert not children(served.process) & before
    await open_sessions(served, "a")
    assert await served.stop() == 0


async def test_a_worker_that_dies_by_broken_code_leaves_the_others(
    command: RunCommand, tmp_path: Path
) -> None:
    """Until the code is right again."""
    generation = tmp_path / "generation"
    generation.write_text("one")
    served = await command(workers=2, generation=generation)
    client = await WebSocket.open(served)
    await asyncio.sleep(5.5)  # from when on a worker is steady
    await client.send("pid")
    (own,) = await client.messages(1)
    (victim,) = children(served.process) - {int(own)}
    generation.write_text("broken")
    os.kill(victim, signal.SIGKILL)
    await served.until_said("a test has asked for it", count=3)
    for _ in range(20):  # none of them waits for the one that is not there
        async with async_timeout.timeout(5):
            assert (await served.loaded())["pid"] == int(own)
    await served.until_said("a test has asked for it", count=6)
    await client.send("still")
    assert await client.messages(1) == ["still"]
    generation.write_text("one")
    await served.worker_wires(2)
    assert await served.stop() == 0
