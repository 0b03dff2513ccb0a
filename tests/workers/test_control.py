"""What a worker and its supervisor tell each other, at the socket between them."""

import asyncio
import socket
from collections.abc import AsyncIterator

import async_timeout
import pytest
import pytest_asyncio

from sockjs_aio.cluster.workers.child import Child
from sockjs_aio.cluster.workers.control import Control


@pytest_asyncio.fixture
async def supervisor() -> AsyncIterator[tuple[socket.socket, Control]]:
    """The supervisor's end of the socket, and the other one."""
    ours, theirs = socket.socketpair()
    streams = await asyncio.open_unix_connection(sock=theirs)
    with theirs.dup() as watched:
        control = Control(watched, *streams)
        yield ours, control
        ours.close()
        await control.close()


@pytest.mark.logs("reporting the metrics failed")
async def test_worker_whose_metrics_fail_still_hears_its_supervisor(
    supervisor: tuple[socket.socket, Control],
) -> None:
    ours, control = supervisor

    def fail() -> list[object]:
        raise AttributeError("a broker that is not connected")

    control.make_report = fail
    ours.send(b"report\ndrain\nend\n")
    async with async_timeout.timeout(10):
        await control.ending.wait()
        async for command in control.commands():
            assert command == "drain"
            break


@pytest.mark.programs
@pytest.mark.parametrize("last", ['report [["sockjs', "limit 12"])
async def test_line_that_a_killed_worker_has_not_finished_does_not_count(last: str) -> None:
    ours, theirs = socket.socketpair()
    process = await asyncio.create_subprocess_exec("true")
    child = Child(0, process, *await asyncio.open_unix_connection(sock=ours))
    before = child.report, child.end_limit
    theirs.send(f"beat\n{last}".encode())
    theirs.close()
    async with async_timeout.timeout(10):
        await asyncio.wait([child._listening])
    assert child._listening.exception() is None
    assert (child.report, child.end_limit) == before
    await process.wait()
