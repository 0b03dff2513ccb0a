"""Workers that are killed while something lives on that a hook has forked."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import async_timeout
import pytest

from tests.clients import WebSocket
from tests.workers.commanding import PATIENCE, Command
from tests.workers.conftest import RunCommand
from tests.workers.test_ends import UNRULY, lines, until_noted
from tests.workers.test_killed import LOST
from tests.workers.test_reload_races import children, open_sessions, until

pytestmark = [pytest.mark.timeout(3 * PATIENCE), pytest.mark.programs]


@pytest.fixture
async def notes(tmp_path: Path) -> AsyncIterator[Path]:
    """Where forks are noted, which are ended with the test."""
    path = tmp_path / "notes"
    yield path
    end_forks(path)


def end_forks(notes: Path) -> None:
    """End what hooks have forked: it has the server's stderr, which `Command` reads to its end."""
    for line in lines(notes):
        if line.startswith("forked"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[1]), signal.SIGKILL)


@pytest.mark.parametrize("how", ["fork", "c_fork"])
async def test_a_reload_goes_on_when_a_worker_is_killed_that_has_forked(
    command: RunCommand, notes: Path, tmp_path: Path, how: str
) -> None:
    """Python does not notice what C code forks, so that has all sockets: also those by which the
    successor asks the one before it, which therefore seems to hang."""
    served = await command(target=UNRULY + "make", notes=notes, workers=1, temporary=tmp_path)
    (old,) = children(served.process)
    client = await WebSocket.open(served)
    await client.send(f"{how} {2 * PATIENCE}")
    await until_noted(notes, "forked")
    os.kill(old, signal.SIGSTOP)  # it cannot answer, as if a hook held it up
    served.process.send_signal(signal.SIGHUP)
    await until(lambda: children(served.process) - {old})
    (new,) = children(served.process) - {old}
    await until(lambda: list(tmp_path.glob(f"*/0.{new}")))
    await asyncio.sleep(0.2)  # for the supervisor to ask the old one
    os.kill(old, signal.SIGKILL)
    await served.until_said("all workers are new")
    assert children(served.process) == {new}
    if how == "fork":
        await open_sessions(served, "a")
    end_forks(notes)
    assert await served.stop() == 0
    assert not served.has_failed, served.said


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_clients_learn_of_the_end_of_a_worker_that_has_forked(
    command: RunCommand, notes: Path, loop: str
) -> None:
    settings = {"disconnect_delay": 60, "heartbeat_delay": 600}
    served = await command(
        "--loop", loop, target=UNRULY + "make", notes=notes, settings=settings, workers=2
    )
    client, victim = await _websocket(served)
    paths = await _sessions(served, victim)
    await client.send(f"fork {2 * PATIENCE}")
    await until_noted(notes, "forked")
    wires = await served.worker_wires(2)
    (survivor,) = wires.keys() - {victim}
    served.process.send_signal(signal.SIGSTOP)  # so there is no successor yet
    os.kill(victim, signal.SIGKILL)
    assert await client.frame() == b""
    reply = await wires[survivor].request("POST", f"/echo{paths[0]}/xhr_send", '["x"]')
    assert reply.status == 404
    served.process.send_signal(signal.SIGCONT)
    await served.until_said(r"died \(SIGKILL\)")
    assert victim not in await served.worker_wires(2)
    for path in paths:
        assert await served.poll(path) == LOST
    end_forks(notes)
    assert await served.stop() == 0
    assert not served.has_failed, served.said


async def test_a_fork_of_an_application_that_starts_keeps_no_listener(
    command: RunCommand, notes: Path
) -> None:
    served = await command(target=UNRULY + "make_with_pool", notes=notes, workers=1)
    assert await served.poll("/0/before") == b"o"
    served.process.kill()  # otherwise the supervisor would wait for the fork to close stderr
    await _until_refused(served)
    end_forks(notes)
    await served.process.wait()


async def test_a_fork_of_a_worker_that_a_reload_has_replaced_keeps_no_connection(
    command: RunCommand, notes: Path
) -> None:
    """It closes its listeners first, and then its sessions."""
    served = await command(target=UNRULY + "make", notes=notes, workers=1)
    idle = await served.wire()  # aiohttp closes it late, because no request has come
    client = await WebSocket.open(served)
    await client.send("fork_in_on_close")
    assert await client.messages(1) == ["will"]
    served.process.send_signal(signal.SIGHUP)
    assert await client.frame() == b'c[1012,"Service restart"]'
    await client.leave()
    await served.until_said("all workers are new")
    await until_noted(notes, "forked")
    assert await idle.is_closed()
    end_forks(notes)
    assert await served.stop() == 0


async def test_a_fork_of_a_worker_that_has_died_twice_keeps_no_listener(
    command: RunCommand, notes: Path
) -> None:
    """The third worker of its number gets another listener, which only it lets listen."""
    served = await command(target=UNRULY + "make_with_pool", notes=notes, workers=2)
    others = children(served.process)
    victim = others.pop()
    for count in (1, 2):
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(children(served.process) - {*others, victim}) == 1)  # noqa: B023
        (victim,) = children(served.process) - {*others, victim}
        await until_noted(notes, "forked", 2 + count)
    await served.worker_wires(2)
    served.process.kill()
    await _until_refused(served)
    end_forks(notes)
    await served.process.wait()


async def test_a_program_that_a_hook_has_started_keeps_no_listener(
    command: RunCommand, notes: Path
) -> None:
    served = await command(target=UNRULY + "make", notes=notes, workers=1)
    client = await WebSocket.open(served)
    await client.send("start 600")
    await until_noted(notes, "forked")
    assert await served.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        async with async_timeout.timeout(PATIENCE):
            await served.poll("/0/late")


async def _until_refused(served: Command) -> None:
    """Wait until nobody listens; it may end while it gets a request."""
    with pytest.raises(ConnectionRefusedError):
        async with async_timeout.timeout(PATIENCE):
            while True:
                with contextlib.suppress(ConnectionResetError, EOFError):
                    await served.poll("/0/late")


async def _websocket(served: Command) -> tuple[WebSocket, int]:
    """Return a client, and the process id of its worker."""
    client = await WebSocket.open(served)
    await client.send("pid")
    (pid,) = await client.messages(1)
    return client, int(pid)


async def _sessions(served: Command, worker: int) -> list[str]:
    """Open two polling sessions of a worker; return their paths."""
    found: list[str] = []
    for number in range(100):
        path = f"/0/forked{number}"
        assert await served.poll(path) == b"o"
        assert await served.post(path, '["pid"]') == 204
        if int((await served.poll(path))[3:-2]) == worker:
            found.append(path)
        if len(found) == 2:
            return found
    raise AssertionError("all of them are at the other worker")


PASSES_A_LISTENER = """
import asyncio, os, socket, sys
from sockjs_aio.server.forks import forks_apart

listener = socket.create_server(("127.0.0.1", 0))
listener.setblocking(False)
number = listener.fileno()
program = f"import socket; print(socket.socket(fileno={number}).getsockname()[1])"
command = (sys.executable, "-c", program)

class Program(asyncio.SubprocessProtocol):
    said = b""

    def __init__(self):
        self.has_ended = asyncio.Event()

    def pipe_data_received(self, _, data):
        self.said += data

    def connection_lost(self, _):
        self.has_ended.set()

async def run(**options):
    process = await asyncio.create_subprocess_exec(*command, stdout=-1, **options)
    return (await process.communicate())[0]

async def run_by_loop(**options):
    loop = asyncio.get_running_loop()
    _, program = await loop.subprocess_exec(Program, *command, **options)
    await program.has_ended.wait()
    return program.said

async def main():
    for how in (run, run_by_loop):
        for options in ({}, {"preexec_fn": os.setsid}):
            said = await how(pass_fds=[number], **options)
            assert int(said) == listener.getsockname()[1], (how, options)

if "uvloop" in sys.argv:
    import uvloop
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
with forks_apart():
    asyncio.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_program_gets_the_listener_that_is_passed_to_it(loop: str) -> None:
    """Python does what forks must do if there is a `preexec_fn`, and uvloop always does."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", PASSES_A_LISTENER, loop)
    assert await program.wait() == 0
