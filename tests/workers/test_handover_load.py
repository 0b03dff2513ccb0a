"""Connections that are handed over all the time, while workers are replaced or killed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import async_timeout
import pytest

from tests.workers.commanding import PATIENCE, Command
from tests.workers.conftest import RunCommand
from tests.workers.talkers import Talker

pytestmark = pytest.mark.timeout(3 * PATIENCE)


@asynccontextmanager
async def talking(served: Command) -> AsyncIterator[list[Talker]]:
    """Have clients talk, half of them in several sessions over the same connections."""
    talkers = [Talker(served, f"talker{n}of", 1 + 2 * (n % 2)) for n in range(8)]
    running = [asyncio.create_task(talker.run()) for talker in talkers]
    await steps(talkers, 10)
    yield talkers
    await steps(talkers, 10)
    for talker in talkers:
        talker.is_done = True
    async with async_timeout.timeout(PATIENCE):
        await asyncio.gather(*running)


async def steps(talkers: list[Talker], count: int) -> None:
    """Wait until each has sent so many more messages."""
    goals = [talker.steps + count for talker in talkers]
    async with async_timeout.timeout(PATIENCE):
        while any(talker.steps < goal for talker, goal in zip(talkers, goals, strict=True)):
            await asyncio.sleep(0.01)


def complaints(talkers: list[Talker]) -> list[str]:
    found = [talk.complaint() for talker in talkers for talk in talker.conversations]
    return [complaint for complaint in found if complaint]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_reloads_lose_and_double_nothing(command: RunCommand, loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    settings = {"disconnect_delay": 60}  # a talker may wait for a worker, and poll nothing else
    served = await command("--loop", loop, workers=3, settings=settings)
    async with talking(served) as talkers:
        served.process.send_signal(signal.SIGHUP)
        await served.until_said("all workers are new")
    assert not complaints(talkers)
    ends = {talk.end for talker in talkers for talk in talker.conversations}
    assert b'c[1012,"Service restart"]\n' in ends
    assert ends <= {b"", b"in doubt", b'c[1012,"Service restart"]\n'}
    assert await served.stop() == 0
    assert not served.has_failed, served.said


async def test_a_worker_that_is_killed_loses_and_doubles_nothing_of_others(
    command: RunCommand,
) -> None:
    settings = {"shutdown_timeout": 0.5, "disconnect_delay": 60}
    served = await command(workers=3, settings=settings)
    async with talking(served) as talkers:
        os.kill(min(await served.worker_wires(3)), signal.SIGKILL)
        await served.until_said(r"died \(SIGKILL\)")
    assert not complaints(talkers)
    ends = {talk.end for talker in talkers for talk in talker.conversations}
    assert ends <= {b"", b"in doubt", b'c[1002,"Connection interrupted"]\n'}
    assert await served.stop() == 0
    assert not served.has_failed, served.said
