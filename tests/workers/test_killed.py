"""A worker that is killed does not make the service forget which sessions it had."""

import asyncio
import os
import signal

import async_timeout
import pytest

from tests.workers.commanding import PATIENCE, Command
from tests.workers.conftest import RunCommand

pytestmark = pytest.mark.timeout(3 * PATIENCE)

LOST = b'c[1002,"Connection interrupted"]'
RESTART = b'c[1012,"Service restart"]'
EXPIRED = b'c[1002,"Session expired"]'
PATHS = [f"/0/killed{number}" for number in range(8)]


async def owners(served: Command) -> dict[str, int]:
    """Open the sessions of `PATHS`; return the process that has each."""
    found = {}
    for path in PATHS:
        assert await served.poll(path) == b"o"
        assert await served.post(path, '["pid"]') == 204
        found[path] = int((await served.poll(path))[3:-2])
    return found


async def kill(served: Command, victim: int, count: int = 1) -> None:
    """Kill a worker, and wait for its successor."""
    os.kill(victim, signal.SIGKILL)
    await served.until_said(r"died \(SIGKILL\)", count)
    async with async_timeout.timeout(PATIENCE):
        while victim in (pids := await served.worker_wires(2)):
            await asyncio.sleep(0.02)
    assert len(pids) == 2


async def test_clients_of_a_killed_worker_that_ask_later_are_told_by_its_successors(
    command: RunCommand,
) -> None:
    served = await command(workers=2, settings={"disconnect_delay": 60, "shutdown_timeout": 0.5})
    had = await owners(served)
    victim = had[PATHS[0]]
    await kill(served, victim)
    (successor,) = set(await served.worker_wires(2)) - set(had.values())
    for count in (1, 2):
        for path in (path for path in PATHS if had[path] == victim):
            assert await served.poll(path) == LOST
            assert await served.post(path, '["buy"]') == 404
            assert await served.poll(path) == LOST
        if count == 1:
            await kill(served, successor, 2)
    for path in (path for path in PATHS if had[path] != victim):
        assert await served.post(path, '["still"]') == 204
        assert await served.poll(path) == b'a["still"]'
    assert await served.stop() == 0
    assert not served.has_failed, served.said


async def test_sessions_that_had_ended_before_their_worker_was_killed_are_not_opened_again(
    command: RunCommand,
) -> None:
    served = await command(workers=2, settings={"disconnect_delay": 0.3})
    had = await owners(served)
    await served.until_said(r"closed \(timeout", len(PATHS))
    await kill(served, had[PATHS[0]])
    for path in PATHS:
        assert await served.poll(path) == EXPIRED
        assert await served.post(path, '["buy"]') == 404
    assert await served.stop() == 0


async def test_an_id_of_a_killed_worker_is_free_after_ended_session_delay(
    command: RunCommand,
) -> None:
    served = await command(workers=2, settings={"disconnect_delay": 60, "ended_session_delay": 1})
    had = await owners(served)
    await kill(served, had[PATHS[0]])
    async with async_timeout.timeout(PATIENCE):
        while await served.poll(PATHS[0]) != b"o":
            await asyncio.sleep(0.05)
    assert await served.stop() == 0


async def test_clients_of_a_worker_that_is_killed_in_a_reload_are_told_by_its_successor(
    command: RunCommand,
) -> None:
    served = await command("--drain-over", "1000", workers=1, settings={"disconnect_delay": 60})
    had = await owners(served)
    served.process.send_signal(signal.SIGHUP)
    await served.until_said("closing 8 sessions")
    os.kill(had[PATHS[0]], signal.SIGKILL)
    await served.until_said("all workers are new")
    for path in PATHS:
        assert await served.poll(path) in (LOST, RESTART)
        assert await served.post(path, '["buy"]') == 404
    assert await served.stop() == 0


async def test_a_worker_that_is_killed_in_a_reload_takes_no_sessions_of_its_predecessor_with_it(
    command: RunCommand,
) -> None:
    """But for what it was relaying: to the predecessor, those clients have hung up."""
    served = await command("--drain-over", "1000", workers=1, settings={"disconnect_delay": 60})
    had = await owners(served)
    old = had[PATHS[0]]
    served.process.send_signal(signal.SIGHUP)
    await served.until_said("closing 8 sessions")
    (successor,) = await served.worker_wires(1)
    assert successor != old
    assert await served.poll("/0/new") == b"o"
    for path in PATHS:
        assert await served.post(path, '["before"]') == 204
    frames = {path: await served.poll(path) for path in PATHS}
    going_on = [path for path in PATHS if frames[path] == b'a["before"]']
    (closed,) = set(PATHS) - set(going_on)
    assert frames[closed] == RESTART
    relayed = going_on.pop()
    (await served.wire()).send("POST", f"/echo{relayed}/xhr", b"")
    await asyncio.sleep(0.2)
    os.kill(successor, signal.SIGKILL)
    await served.until_said(r"died \(SIGKILL\)")
    (next_one,) = await served.worker_wires(1)
    assert next_one not in (old, successor)
    assert await served.poll(closed) == RESTART
    for path in going_on:
        assert await served.post(path, '["still here"]') == 204
        assert await served.poll(path) == b'a["still here"]'
    for path in (relayed, "/0/new"):
        assert await served.poll(path) == LOST
    assert "reload finished" not in served.said, "all that was in the middle of it"
    os.kill(old, signal.SIGKILL)
    await served.until_said("all workers are new")
    for path in [*PATHS, "/0/new"]:
        assert await served.poll(path) in (LOST, RESTART)
        assert await served.post(path, '["buy"]') == 404
    assert await served.stop() == 0
