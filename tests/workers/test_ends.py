"""The end gives an application all the time that its settings say, and no more."""

import asyncio
import contextlib
import dataclasses
import os
import re
import signal
import socket
import tempfile
from pathlib import Path

import async_timeout
import pytest

from sockjs_aio.cluster.workers.child import Child
from sockjs_aio.cluster.workers.worker import FAILED
from sockjs_aio.cluster.workers.workers import Workers
from tests.clients import ALL, Client, WebSocket, Xhr, XhrStreaming
from tests.workers.commanding import PATIENCE, Command
from tests.workers.conftest import RunCommand
from tests.workers.test_reload_races import children, is_running, until

pytestmark = pytest.mark.timeout(3 * PATIENCE)

UNRULY = "tests.workers.unruly:"


def lines(notes: Path) -> list[str]:
    return notes.read_text().splitlines() if notes.exists() else []


async def until_noted(notes: Path, what: str, count: int = 1) -> None:
    async with async_timeout.timeout(PATIENCE):
        while sum(line.startswith(what) for line in lines(notes)) < count:
            await asyncio.sleep(0.01)


async def gone(pids: set[int], seconds: float) -> None:
    async with async_timeout.timeout(seconds):
        while any(map(is_running, pids)):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("transports, workers", [(ALL, 1), ([WebSocket], 2), ([Xhr], 2)])
async def test_hooks_that_wait_are_cancelled_and_on_close_is_called(
    command: RunCommand, tmp_path: Path, transports: list[type[Client]], workers: int
) -> None:
    """`shutdown_timeout` passes in the drain, and again at the shutdown."""
    notes = tmp_path / "notes"
    settings = {"shutdown_timeout": 1}
    served = await command(target=UNRULY + "make", workers=workers, notes=notes, settings=settings)
    for count, transport in enumerate(transports, 1):
        client = await transport.open(served)
        await client.send("wait 1000")
        await until_noted(notes, "waits", count)
    assert await served.stop() == 0
    of_each = ["waits", "waited", "close"] * len(transports)
    assert sorted(lines(notes)) == sorted(of_each + ["cleanup"] * workers)
    assert "killed" not in served.said
    assert not served.has_failed, served.said


@pytest.mark.parametrize("when", ["now", "in on_close", "in two tasks"])
async def test_hook_that_ends_its_worker_leaves_it_time_to_clean_up(
    command: RunCommand, tmp_path: Path, when: str
) -> None:
    notes = tmp_path / "notes"
    served = await command(target=UNRULY + "make", workers=1, notes=notes)
    client, other = await WebSocket.open(served), await WebSocket.open(served)
    await client.send(f"exit {when}")
    await until_noted(notes, "exit")
    if when == "in on_close":
        served.process.send_signal(signal.SIGTERM)
    assert await other.frame() == b'c[1012,"Service restart"]'
    await until_noted(notes, "cleanup")
    assert await served.stop() == 0


@pytest.mark.parametrize("factory", ["make_ended_at_its_start", "make_ended_as_its_start_ends"])
async def test_a_worker_that_is_ended_at_its_start_cleans_up(
    command: RunCommand, tmp_path: Path, factory: str
) -> None:
    notes = tmp_path / "notes"
    served = await command(target=UNRULY + factory, workers=1, notes=notes, wait=False)
    await served.until_said(r"worker 0 died \(exit status 4\)")
    assert await served.stop() == 0
    assert "cleanup" in lines(notes)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
async def test_a_worker_leaves_signals_to_its_supervisor_to_the_very_end(
    command: RunCommand, tmp_path: Path, name: str
) -> None:
    notes = tmp_path / "notes"
    served = await command(target=UNRULY + "make_slow_at_exit", workers=1, notes=notes)
    (worker,) = children(served.process)
    served.process.send_signal(signal.SIGTERM)
    await until_noted(notes, "exit begins")
    os.kill(worker, getattr(signal, name))
    assert await served.ended() == 0
    assert lines(notes)[-1] == "exit ends"
    assert not served.has_failed, served.said


@pytest.mark.programs
@pytest.mark.parametrize("command", ["publish", "retire"])
async def test_a_worker_that_is_ended_as_it_begins_or_stops_to_listen_shuts_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    """Other processes have its listeners too, so closing these does not make it deaf to them."""
    notes = tmp_path / "notes"
    monkeypatch.setenv("NOTES", str(notes))
    with contextlib.ExitStack() as stack:
        shared = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(6)]
        directory = stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp"))
        config = Workers(1)._config(UNRULY + "make_slow_to_stop", directory, "")
        numbers = [listener.fileno() for listener in shared]
        child = await Child.start(dataclasses.replace(config, listeners=numbers, replaces=True))
        await child.hear("loaded", PATIENCE)
        if command != "publish":
            child.tell("publish")
            await child.hear("ready", PATIENCE)
        os.kill(child.process.pid, signal.SIGSTOP)  # so that it reads both at once
        for word in (command, "end"):
            child.tell(word)
        os.kill(child.process.pid, signal.SIGCONT)
        await until_noted(notes, "stops")
        for listener in shared:
            stack.enter_context(socket.create_connection(listener.getsockname()))
        assert await child.ended() == 0
    assert "file descriptor" not in capfd.readouterr().err


async def test_hook_may_end_its_worker_with_any_status(command: RunCommand, tmp_path: Path) -> None:
    """Its status is also that of a worker that cannot start, which waits for a change."""
    notes = tmp_path / "notes"
    served = await command("--reload", target=UNRULY + "make", workers=1, notes=notes)
    client = await WebSocket.open(served)
    await client.send("exit now")
    await served.until_said(rf"worker 0 died \(exit status {FAILED}\)")
    await (await WebSocket.open(served)).leave()
    assert await served.stop() == 0
    assert "cannot start" not in served.said


async def test_a_reload_gives_hooks_the_same_time(command: RunCommand, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    settings = {"shutdown_timeout": 1}
    served = await command(target=UNRULY + "make", workers=1, notes=notes, settings=settings)
    client = await WebSocket.open(served)
    await client.send("wait 1000")
    await until_noted(notes, "waits")
    served.process.send_signal(signal.SIGHUP)
    await served.until_said("all workers are new")
    assert lines(notes) == ["waits", "waited", "close", "cleanup"]
    assert await served.stop() == 0
    assert "killed" not in served.said


async def test_the_application_has_its_time_to_clean_up(
    command: RunCommand, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    served = await command(target=UNRULY + "make_slow_to_clean_up", workers=1, notes=notes)
    assert await served.stop() == 0
    assert lines(notes) == ["cleanup", "slowly"]
    assert "killed" not in served.said


async def test_the_end_says_how_it_goes(command: RunCommand) -> None:
    served = await command(workers=2)
    client = await Xhr.open(served)
    served.process.send_signal(signal.SIGTERM)
    assert await client.frame() == b'c[1012,"Service restart"]'
    assert await served.ended() == 0
    for pattern in (
        "SIGTERM: shutting down",
        r"readiness is off; closing sessions in 0\.2 s, spread over 0\.3 s \(limit: 30 s\)",
        "worker 0: closing . sessions?",
        r"worker 1: drain finished after \d",
        r"all workers have ended after \d",
    ):
        assert re.search(pattern, served.said), (pattern, served.said)


async def test_the_limit_of_the_drain_counts_from_the_signal(command: RunCommand) -> None:
    served = await command(
        *("--drain-notice", "600", "--drain-limit", "1"),
        workers=2,
        settings={"disconnect_delay": 600, "shutdown_timeout": 0.1},
    )
    assert await served.poll("/0/1") == b"o"
    assert await served.stop() == 0
    assert "drain exceeded 1 s" in served.said


@pytest.mark.parametrize("factory", ["make_hanging", "make_blocked"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_workers_that_start_end_when_they_are_told(
    command: RunCommand, tmp_path: Path, factory: str, number: int
) -> None:
    notes = tmp_path / "notes"
    served = await command("--drain-notice", "60", target=UNRULY + factory, notes=notes, wait=False)
    await until_noted(notes, "starting", 2)
    pids = children(served.process)
    async with async_timeout.timeout(20):  # a start takes for ever, and a drain a minute
        assert await served.stop(number) == 0
    assert not any(map(is_running, pids))
    assert ("cleanup" in lines(notes)) == (factory == "make_hanging")
    assert not served.has_failed, served.said


@pytest.mark.parametrize("factory", ["make_hanging", "make_blocked"])
async def test_workers_that_start_end_with_their_supervisor(
    command: RunCommand, tmp_path: Path, factory: str
) -> None:
    notes, temporary = tmp_path / "notes", tmp_path / "temporary"
    temporary.mkdir()
    served = await command(target=UNRULY + factory, notes=notes, temporary=temporary, wait=False)
    await until_noted(notes, "starting", 2)
    pids = children(served.process)
    served.process.kill()
    await gone(pids, 30)
    assert os.listdir(temporary) == []


async def test_a_successor_that_starts_ends_when_all_are_told(
    command: RunCommand, tmp_path: Path
) -> None:
    """A reload to code that hangs, and then the end."""
    generation = tmp_path / "generation"
    served = await command(workers=2, generation=_written(generation, "one"))
    before = children(served.process)
    generation.write_text("hanging")
    served.process.send_signal(signal.SIGHUP)
    await until(lambda: children(served.process) - before)
    await asyncio.sleep(1)
    async with async_timeout.timeout(20):
        assert await served.stop() == 0
    assert not served.has_failed, served.said


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


async def test_nothing_is_left_behind_when_the_supervisor_is_killed(
    command: RunCommand, tmp_path: Path
) -> None:
    served = await command(workers=3, temporary=tmp_path)
    pids = children(served.process)
    assert len(os.listdir(tmp_path)) == 1
    served.process.kill()
    await gone(pids, 30)
    assert os.listdir(tmp_path) == []


async def test_nothing_is_left_behind_by_workers_that_were_killed_too(
    command: RunCommand, tmp_path: Path
) -> None:
    served = await command(workers=3, temporary=tmp_path)
    pids = children(served.process)
    served.process.kill()
    victim = pids.pop()
    os.kill(victim, signal.SIGKILL)
    await gone(pids, 30)
    assert os.listdir(tmp_path) == []


async def test_what_is_left_when_all_are_killed_is_removed_at_the_next_start(
    command: RunCommand, tmp_path: Path
) -> None:
    other = await command(workers=1, temporary=tmp_path)
    (of_other,) = os.listdir(tmp_path)
    killed = await command(workers=3, temporary=tmp_path)
    pids = children(killed.process)
    killed.process.send_signal(signal.SIGSTOP)  # so that it does not replace the workers
    for victim in (*pids, killed.process.pid):
        os.kill(victim, signal.SIGKILL)
    await gone(pids, 30)
    await killed.process.wait()
    (left,) = set(os.listdir(tmp_path)) - {of_other}
    mine = {"sockjs-aio-file", "sockjs-aio-link", "sockjs-aio-new", "elsewhere"}
    (tmp_path / "sockjs-aio-file").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (tmp_path / "sockjs-aio-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "sockjs-aio-new").mkdir()
    served = await command(workers=1, temporary=tmp_path)
    names = set(os.listdir(tmp_path))
    assert left not in names and names >= mine | {of_other} and len(names) == 6
    assert os.listdir(tmp_path / "elsewhere") == ["file"]
    await XhrStreaming.open(other)
    for each in (served, other):
        assert await each.stop() == 0
    assert set(os.listdir(tmp_path)) == mine


async def test_workers_that_outlive_their_supervisor_keep_their_sockets(
    command: RunCommand, tmp_path: Path
) -> None:
    first = await command(
        "--drain-notice", "999", "--drain-limit", "999", workers=2, temporary=tmp_path
    )
    pids = children(first.process)
    (directory,) = os.listdir(tmp_path)
    first.process.kill()
    await until(lambda: first.said.count("supervisor has died") == 2)
    second = await command(workers=1, temporary=tmp_path)
    assert directory in os.listdir(tmp_path)
    assert {number for number in pids if is_running(number)}
    for number in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    await gone(pids, 30)
    assert await second.stop() == 0


async def test_a_worker_that_hangs_ends_with_its_supervisor(
    command: RunCommand, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    served: Command = await command(
        "--hang-limit", "2", target=UNRULY + "make", workers=1, notes=notes
    )
    client = await WebSocket.open(served)
    await client.send("block 100")
    await until_noted(notes, "blocks")
    pids = children(served.process)
    served.process.kill()
    await gone(pids, 30)
