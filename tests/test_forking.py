"""Applications that fork on purpose: what they share with their forks must go on working."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import async_timeout
import pytest

from tests import clients
from tests.clients import WebSocket
from tests.forking_service import CASES, HELLO
from tests.ports import free_port
from tests.process import ROOT
from tests.target import Target
from tests.workers.test_reload_races import children

pytestmark = [pytest.mark.timeout(60), pytest.mark.programs]


class Served(Target):
    """The application in its own process."""

    process: asyncio.subprocess.Process


Run = Callable[[str], Awaitable[Served]]


@pytest.fixture
async def serve(loop_name: str, tmp_path: Path) -> AsyncIterator[Run]:
    started: list[Served] = []

    async def run(how: str) -> Served:
        served = Served(free_port(), "/echo")
        # a pipe would be open as long as a fork lives
        with open(tmp_path / "said", "wb") as said:  # noqa: ASYNC230
            served.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.forking_service", str(served.port), how, loop_name),
                cwd=ROOT,
                stdout=said,
                start_new_session=True,
            )
        started.append(served)
        await served.until_listening()
        return served

    yield run
    for served in started:
        await served.hang_up()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(served.process.pid, signal.SIGKILL)  # its forks, too
        await served.process.wait()


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def test_forks_keep_what_the_application_shares_with_them(serve: Run) -> None:
    served = await serve("again")
    client = await WebSocket.open(served)  # the server has connections of its own
    for case in CASES:
        reply = await served.ask(f"/fork/{case}")
        assert (reply.status, reply.body) == (200, HELLO), case
    await client.send("still")
    assert await client.messages(1) == ["still"]


@pytest.mark.parametrize("code, status", [("3", "3"), ("text", "1")])
@pytest.mark.parametrize("prefix", ["/exiting", "/tornado"])
async def test_a_fork_ends_when_its_hook_calls_sys_exit(
    serve: Run, tmp_path: Path, prefix: str, code: str, status: str
) -> None:
    """Its event loop is the parent's: it would take the parent's signals, and end sessions."""
    served = await serve("again")
    served.prefix = prefix
    open_clients = [await kind.open(served) for kind in (WebSocket, clients.Xhr)]
    for client in open_clients:
        for when in ("now", "later"):
            await client.send(f"{when} {code}")
            assert await client.messages(1) == [status]
    served.process.send_signal(signal.SIGINT)
    for client in open_clients:
        assert await client.frame() == b'c[1012,"Service restart"]'
        await client.leave()
    assert await served.process.wait() == 0
    assert (tmp_path / "said").read_text() == f"{served.process.pid} closed\n" * 2


@pytest.mark.parametrize("when", ["now", "later"])
async def test_a_fork_of_on_open_ends_when_that_calls_sys_exit(serve: Run, when: str) -> None:
    served = await serve("again")
    served.prefix = "/exiting"
    for kind in (WebSocket, clients.Xhr):
        client = await kind.open(served, query=f"forks={when}+3")
        assert await client.messages(1) == ["3"]
        await client.leave()


@pytest.mark.parametrize("how", ["again", "failing"])
async def test_a_process_that_has_served_may_share_listeners_with_its_forks(
    serve: Run, how: str
) -> None:
    served = await serve(how)
    served.process.send_signal(signal.SIGINT)
    assert await served.process.wait() == 0


@pytest.mark.parametrize("how", ["pool", "bound pool"])
async def test_what_an_application_starts_at_its_start_does_not_share_the_listener(
    serve: Run, how: str
) -> None:
    served = await serve(how)
    pids = json.loads((await served.ask("/pool")).body)
    try:
        served.process.kill()
        await served.process.wait()
        with pytest.raises(ConnectionRefusedError):
            async with async_timeout.timeout(10):
                while True:  # a fork that has just begun may be about to leave it
                    with contextlib.suppress(ConnectionResetError):
                        await served.ask("/pool")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


async def test_a_fork_after_the_listener_is_closed_keeps_no_connection(serve: Run) -> None:
    served = await serve("late")
    idle = await served.wire()
    client = await WebSocket.open(served)
    served.process.send_signal(signal.SIGINT)
    assert await client.frame() == b'c[1012,"Service restart"]'
    await client.leave()
    (fork,) = children(served.process)
    try:
        async with async_timeout.timeout(10):
            assert await idle.is_closed()
        assert fork in children(served.process)
    finally:
        os.kill(fork, signal.SIGKILL)
    assert await served.process.wait() == 0


WITHOUT_LINUX = """
import os, socket
socket.SO_ACCEPTCONN = 9999  # which no socket tells, as on macOS
del os.get_blocking  # as on Windows
from aiohttp import web
from sockjs_aio import run_app
from sockjs_aio.cluster.workers.accepting import Listener

async def leave(app):
    raise web.GracefulExit

listener = socket.create_server(("127.0.0.1", 0))
Listener.take(os.dup(listener.fileno()))
app = web.Application()
app.on_startup.append(leave)
run_app(app, sock=listener, print=None)
"""


async def test_listeners_are_served_on_systems_that_tell_less_of_them_than_linux() -> None:
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", WITHOUT_LINUX, cwd=ROOT)
    assert await program.wait() == 0


async def test_forks_that_share_a_listener_serve_together(serve: Run) -> None:
    served = await serve("forks")
    client = await WebSocket.open(served)
    await client.send("here")
    assert await client.messages(1) == ["here"]
    await client.leave()
    stopped: set[int] = set()
    ending = asyncio.create_task(served.process.wait())
    while not ending.done():
        with contextlib.suppress(OSError, EOFError, asyncio.IncompleteReadError):
            stopped.add(json.loads((await served.ask("/stop")).body))
        await asyncio.sleep(0.01)
    assert await ending == 0
    assert len(stopped) == 2
