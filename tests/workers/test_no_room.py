"""A worker that can open no more files: its own trouble is no news of another worker's sessions."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockjs_aio.cluster.workers.accepting import Listener
from sockjs_aio.cluster.workers.listeners import BACKLOG
from sockjs_aio.cluster.workers.placement import worker_at
from tests.ports import free_port
from tests.process import PATIENCE, ROOT
from tests.target import Target
from tests.workers.conftest import RunCommand, RunTeam
from tests.workers.test_retiring import KEY

pytestmark = pytest.mark.not_over("handing-over")  # it is about relayed requests

NO_ROOM = "socket.accept() out of system resource"


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    with contextlib.suppress(OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))), hard))
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in taken:
            os.close(number)


@pytest.mark.parametrize("what", ["xhr_send", "jsonp_send", "xhr", "xhr_streaming"])
async def test_sessions_of_others_are_not_called_lost(
    team: RunTeam, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    workers = await team(2)
    path = "/0/a"
    assert await workers.owner(path).poll(path) == b"o"
    record = workers.elsewhere(path)
    wires = [await record.wire() for _ in range(3)]
    for wire in wires:
        await wire.request("GET", "/echo")  # it is accepted
    with no_more_files():
        for wire in wires:
            reply = await wire.request("POST", f"/echo{path}/{what}", '["x"]')
            assert (reply.status, reply.header("Retry-After")) == (503, "5"), reply
    assert caplog.text.count("Check the limit on open files") == 1
    assert await record.post(path, '["x"]') == 204  # it is there all the same


async def test_a_predecessor_that_cannot_be_asked_is_not_forgotten(team: RunTeam) -> None:
    first, second = await team(1, key=KEY), await team(1, key=KEY)
    old, new = first[0], second[0]
    new.locator.predecessor = worker_at(old.placement.own_path)
    assert await old.poll("/0/a") == b"o"
    wire = await new.wire()
    await wire.request("GET", "/echo")
    with no_more_files():
        assert (await wire.request("POST", "/echo/0/a/xhr_send", '["x"]')).status == 503
    assert await new.post("/0/a", '["x"]') == 204


@pytest.mark.virtual_time
@pytest.mark.not_over("uvloop")  # which accepts without the socket's help, and logs nothing
async def test_a_listener_fails_once_a_second() -> None:
    served = asyncio.Event()
    complaints: list[float] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(loop.time()))
    listener = Listener(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        served.set()

    server = await asyncio.start_server(serve, sock=listener, backlog=BACKLOG)
    with socket.socket() as client:
        client.setblocking(False)
        with no_more_files():
            await loop.sock_connect(client, listener.getsockname())
            await asyncio.sleep(1.5)
        assert len(complaints) == 2
        assert complaints[1] - complaints[0] > 0.9
        await asyncio.wait_for(served.wait(), 10)
    assert len(complaints) == 2
    server.close()
    await server.wait_closed()


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="another process's limit is Linux's")
async def test_workers_that_cannot_accept_do_not_shout(command: RunCommand) -> None:
    served = await command(workers=1)
    wires = await served.worker_wires(1)
    (pid,) = wires
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    waiting = await served.wire()
    answer = asyncio.ensure_future(waiting.request("GET", "/echo"))
    await served.until_said("out of system resource")
    await asyncio.sleep(1.5)  # asyncio tries twice
    assert (await wires[pid].request("GET", "/echo")).status == 200, "who is connected is served"
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert (await answer).status == 200
    assert served.said.count(NO_ROOM) == 1 and "raise the limit on open files" in served.said
    assert "Traceback" not in served.said
    assert await served.stop() == 0


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="another process's limit is Linux's")
@pytest.mark.programs
async def test_run_app_says_once_that_it_cannot_accept_and_recovers() -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.workers.inspected", str(port)),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    target = Target(port, "/echo")
    await target.until_listening()
    connected = await target.wire()
    assert (await connected.request("GET", "/echo")).status == 200
    hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, hard))
    waiting = await target.wire()
    answer = asyncio.ensure_future(waiting.request("GET", "/echo"))
    await asyncio.sleep(1.5)  # asyncio tries twice
    assert not answer.done()
    assert (await connected.request("GET", "/echo")).status == 200, "who is connected is served"
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert (await answer).status == 200
    await target.hang_up()
    process.terminate()
    _, said = await process.communicate()
    assert process.returncode == 0
    assert said.count(NO_ROOM.encode()) == said.count(b"raise the limit on open files") == 1
    assert b"Traceback" not in said


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="another process's limit is Linux's")
async def test_a_worker_that_cannot_be_started_for_lack_of_resources_is_tried_again(
    command: RunCommand,
) -> None:
    served = await command(workers=1)
    supervisor, hard = served.process.pid, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (6, hard))
    served.process.send_signal(signal.SIGHUP)
    await served.until_said("reload failed at worker 0: the old workers keep running")
    os.kill(next(iter(await served.worker_wires(1))), signal.SIGKILL)
    await served.until_said("worker 0 cannot be started, trying again: .*Too many open files")
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (200, hard))
    await served.worker_wires(1)
    assert await served.stop() == 0


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="another process's limit is Linux's")
async def test_workers_are_started_again_although_their_listeners_could_not_be_made_again(
    command: RunCommand,
) -> None:
    served = await command(workers=2)
    supervisor, hard = served.process.pid, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    old = await served.worker_wires(2)
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (6, hard))
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    for number in range(2):
        await served.until_said(f"worker {number} cannot be started, trying again: .*open files", 2)
        await served.until_said(f"clients may wait for worker {number}: .*Too many open files")
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (200, hard))
    assert not old.keys() & (await served.worker_wires(2)).keys()
    assert await served.stop() == 0


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="asyncio needs no threads any more")
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="another process's limit is Linux's")
async def test_a_reload_for_which_there_can_be_no_thread_fails_and_the_next_one_does_not(
    command: RunCommand,
) -> None:
    served = await command(workers=2)
    supervisor, hard = served.process.pid, resource.getrlimit(resource.RLIMIT_AS)[1]
    old = await served.worker_wires(2)
    resource.prlimit(supervisor, resource.RLIMIT_AS, (address_space(supervisor) + (4 << 20), hard))
    served.process.send_signal(signal.SIGHUP)
    await served.until_said("worker 0 cannot be started: can't start new thread")
    await served.until_said("reload failed at worker 0: the old workers keep running")
    resource.prlimit(supervisor, resource.RLIMIT_AS, (hard, hard))
    assert (await served.worker_wires(2)).keys() == old.keys()
    served.process.send_signal(signal.SIGHUP)
    await served.until_said("reload finished")
    assert await served.stop() == 0
    assert not served.has_failed, served.said


def address_space(pid: int) -> int:
    """Return how many bytes of addresses a process uses; the stack of a thread takes 8 MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * resource.getpagesize()


BROKEN = """
import logging

from sockjs_aio import Workers
from sockjs_aio.cluster.workers.listeners import Listeners

filenos = Listeners.filenos

def fail(*_):
    Listeners.filenos = filenos
    return 1 / 0

Listeners.filenos = fail
logging.basicConfig(level="INFO")
Workers(1).run("tests.workers.service:make", port=0)
"""


@pytest.mark.programs
async def test_a_supervisor_that_fails_as_nothing_should_goes_on() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BROKEN),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "SETTINGS": "{}"},
    )
    assert process.stderr is not None
    said = b""
    while b"worker serves" not in said:
        line = await asyncio.wait_for(process.stderr.readline(), PATIENCE)
        assert line, said
        said += line
    process.terminate()
    said += await process.stderr.read()
    assert b"part of the supervisor failed; starting it again" in said
    assert said.count(b"ZeroDivisionError") == 1
    assert await process.wait() == 0
