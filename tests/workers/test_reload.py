"""Workers that are replaced, or end, under traffic: nobody loses a message."""

import asyncio
import signal
from pathlib import Path

import async_timeout
import pytest

from tests.clients import EventSource, HtmlFile, WebSocket, XhrStreaming
from tests.workers.commanding import PATIENCE, Command
from tests.workers.conftest import RunCommand
from tests.workers.traffic import PoliteJsonp, PoliteXhr, User

pytestmark = pytest.mark.timeout(3 * PATIENCE)

CROWD = [WebSocket, PoliteXhr, XhrStreaming, EventSource, HtmlFile, PoliteJsonp] * 2


async def until_counting(users: list[User], sessions: int) -> None:
    """Wait until each user has been counted for, in so many sessions."""
    waiting = users
    try:
        async with async_timeout.timeout(PATIENCE):
            while waiting:
                waiting = [user for user in users if not user.is_counted_for(sessions)]
                await asyncio.sleep(0.02)
    except asyncio.TimeoutError:
        raise AssertionError([user.state for user in waiting]) from None


async def end(served: Command, users: list[User], running: list["asyncio.Task[None]"]) -> None:
    """End the service; the users see their last close frame, and go."""
    for user in users:
        user.is_done = True
    served.process.send_signal(signal.SIGTERM)
    await asyncio.wait(running, timeout=PATIENCE)
    waiting = [u.transport.name for u, task in zip(users, running, strict=True) if not task.done()]
    assert not waiting, (waiting, served.said, [u.surprises for u in users])
    assert await served.ended() == 0
    assert not served.has_failed, served.said


async def test_the_end_loses_no_message(command: RunCommand, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    served = await command(workers=2, notes=notes)
    users = [User(served, transport) for transport in CROWD]
    running = [asyncio.create_task(user.run()) for user in users]
    await until_counting(users, 1)
    await end(served, users, running)
    for user in users:
        user.assert_nothing_lost(notes)
        assert len(user.received) == 1


async def test_a_reload_loses_no_message(command: RunCommand, tmp_path: Path) -> None:
    generation, notes = tmp_path / "generation", tmp_path / "notes"
    generation.write_text("one")
    served = await command(workers=3, generation=generation, notes=notes)
    before = await served.worker_wires(3)
    users = [User(served, transport) for transport in CROWD]
    running = [asyncio.create_task(user.run()) for user in users]
    await until_counting(users, 1)
    generation.write_text("two")
    served.process.send_signal(signal.SIGHUP)
    await served.until_said("all workers are new")
    after = await served.worker_wires(3)
    assert not set(before) & set(after)
    assert (await served.loaded())["generation"] == "two"
    await until_counting(users, 2)
    await end(served, users, running)
    for user in users:
        user.assert_nothing_lost(notes)


async def test_a_reload_that_fails_leaves_the_old_workers(
    command: RunCommand, tmp_path: Path
) -> None:
    generation = tmp_path / "generation"
    generation.write_text("one")
    served = await command(workers=2, generation=generation)
    client = await EventSource.open(served)
    generation.write_text("broken")
    served.process.send_signal(signal.SIGHUP)
    await served.until_said("the old workers keep running")
    await client.send("still")
    assert await client.messages(1) == ["still"]
    assert (await served.loaded())["generation"] == "one"
    generation.write_text("two")
    served.process.send_signal(signal.SIGHUP)
    await served.until_said("all workers are new")
    assert (await served.loaded())["generation"] == "two"
    assert await served.stop() == 0
