"""What systemd gives to the command, and what the command tells systemd."""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import async_timeout
import pytest

from sockjs_aio.cluster.workers import service_manager
from sockjs_aio.cluster.workers.activation import take_sockets
from sockjs_aio.cluster.workers.service_manager import ServiceManager
from tests.clients import WebSocket
from tests.ports import free_port
from tests.require import require
from tests.workers.commanding import PATIENCE
from tests.workers.conftest import RunCommand

pytestmark = pytest.mark.timeout(3 * PATIENCE)

LAUNCH = """
import os, sys
numbers, command = sys.argv[1].split(","), sys.argv[2:]
for place, number in enumerate(numbers, 3):
    os.dup2(int(number), place)
os.environ.update(LISTEN_FDS=str(len(numbers)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="a:b")
os.execv(command[0], command)
"""
"""Passes sockets as systemd does: from descriptor 3 on, with the number of the process itself."""

PASSED = {"shutdown_timeout": 0.5}


def launched(*listeners: socket.socket) -> dict[str, Any]:
    numbers = [listener.fileno() for listener in listeners]
    through = (sys.executable, "-c", LAUNCH, ",".join(map(str, numbers)))
    return {"through": through, "pass_fds": tuple(numbers), "settings": PASSED}


# Sockets.


async def test_it_listens_at_the_sockets_that_systemd_has_passed(
    command: RunCommand, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(str(path))
        unix.listen()
        for _ in range(2):  # a restart
            served = await command(workers=1, **launched(tcp, unix))
            assert f"serves http://127.0.0.1:{tcp.getsockname()[1]}, unix:{path}" in served.said
            client = await WebSocket.open(served)
            await client.send("x")
            assert await client.messages(1) == ["x"]
            await client.leave()
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(str(path))
            assert await served.stop() == 0
        assert path.exists(), "it is systemd's"


async def test_workers_know_nothing_of_these_sockets(command: RunCommand) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = await command(target="tests.workers.inspected:make", **launched(listener))
        told = (await served.ask("/environment")).body.decode()
        assert "LISTEN_" not in told
        assert await served.stop() == 0


async def test_an_address_wins_over_them_with_a_warning(command: RunCommand) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = await command("--host", "127.0.0.1", **launched(listener))
        assert served.port != listener.getsockname()[1]
        assert "the sockets that systemd has passed are not used" in served.said
        assert await served.stop() == 0


async def test_a_connection_of_systemd_is_refused_with_advice(command: RunCommand) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as accepted,
    ):
        served = await command(wait=False, **launched(accepted))
        assert await served.ended() == 2
    assert "file descriptor 3: it is a connection: use Accept=no" in served.said


async def test_datagrams_are_refused_with_advice(command: RunCommand) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        served = await command(wait=False, **launched(datagrams))
        assert await served.ended() == 2
    assert "not a stream socket: use ListenStream= in the socket unit" in served.said


def test_sockets_of_another_process_are_left(caplog: pytest.LogCaptureFixture) -> None:
    environment = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "x", "PATH": "/"}
    assert take_sockets(environment) == []
    assert environment == {"PATH": "/"}
    assert "were passed to process 1, but this is process" in caplog.text


def test_their_number_is_checked() -> None:
    assert take_sockets({}) == []
    assert take_sockets({"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid())}) == [3, 4]
    with pytest.raises(OSError, match="LISTEN_FDS=many must be the number"):
        take_sockets({"LISTEN_FDS": "many", "LISTEN_PID": str(os.getpid())})


async def test_systemd_starts_it_when_the_first_client_comes(command: RunCommand) -> None:
    activate = shutil.which("systemd-socket-activate")
    require(activate, "systemd-socket-activate")
    port = free_port()
    variables = [f"--setenv={name}" for name in ("PYTHONPATH", "SETTINGS")]
    served = await command(
        through=(str(activate), "-l", f"127.0.0.1:{port}", *variables), wait=False, settings=PASSED
    )
    await served.until_said("Listening on")
    served.port = port
    client = await WebSocket.open(served)
    await client.send("x")
    assert await client.messages(1) == ["x"]
    await served.until_said(f"workers serve http://127.0.0.1:{port}")
    assert await served.stop() == 0


# Words.


class Manager:
    """A service manager's socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.heard: list[dict[str, str]] = []

    async def hear(self, word: str) -> dict[str, str]:
        """Return the next message that has this word, without those of the watchdog."""
        loop = asyncio.get_running_loop()
        async with async_timeout.timeout(PATIENCE):
            while True:
                lines = (await loop.sock_recv(self.socket, 4096)).decode().split("\n")
                message = dict(line.split("=", 1) for line in lines)
                self.heard.append(message)
                if "WATCHDOG" not in message or word == "WATCHDOG":
                    assert word in message, message
                    return message


async def test_it_says_when_it_is_ready_reloads_and_ends(
    command: RunCommand, tmp_path: Path
) -> None:
    told = Manager(str(tmp_path / "notify"))
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    served = await command(workers=1, environment=environment, settings=PASSED)
    ready = await told.hear("READY")
    assert ready == {"READY": "1", "STATUS": f"1 worker serves http://127.0.0.1:{served.port}"}
    client = await WebSocket.open(served)  # it is
    served.process.send_signal(signal.SIGHUP)
    reloading = await told.hear("RELOADING")
    assert int(reloading["MONOTONIC_USEC"]) > 0
    assert await client.frame() == b'c[1012,"Service restart"]'
    await told.hear("READY")
    await served.until_said("all workers are new")
    served.process.send_signal(signal.SIGTERM)
    stopping = await told.hear("STOPPING")
    assert 30e6 < int(stopping["EXTEND_TIMEOUT_USEC"]) < 120e6
    assert await served.ended() == 0
    assert not any("WATCHDOG" in message for message in told.heard)
    told.socket.close()


async def test_its_name_may_be_abstract() -> None:
    told = Manager(f"\0sockjs-aio-{os.getpid()}")
    ServiceManager({"NOTIFY_SOCKET": f"@sockjs-aio-{os.getpid()}"}).ready("here")
    assert await told.hear("READY") == {"READY": "1", "STATUS": "here"}
    told.socket.close()


async def test_a_reload_that_fails_is_over_too(command: RunCommand, tmp_path: Path) -> None:
    told = Manager(str(tmp_path / "notify"))
    generation = tmp_path / "generation"
    generation.write_text("one")
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    served = await command(workers=1, generation=generation, environment=environment)
    await told.hear("READY")
    generation.write_text("broken")
    served.process.send_signal(signal.SIGHUP)
    await told.hear("RELOADING")
    await told.hear("READY")
    await served.until_said("the old workers keep running")
    assert await served.stop() == 0
    told.socket.close()


async def test_it_says_that_it_is_alive(command: RunCommand, tmp_path: Path) -> None:
    told = Manager(str(tmp_path / "notify"))
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1500000"}
    served = await command(workers=1, environment=environment)
    await told.hear("READY")
    loop = asyncio.get_running_loop()
    times = []
    for _ in range(4):
        await told.hear("WATCHDOG")
        times.append(loop.time())
    assert max(b - a for a, b in itertools.pairwise(times)) < 1.5
    assert await served.stop() == 0
    told.socket.close()


def test_watchdogs_of_other_processes_are_not_fed(tmp_path: Path) -> None:
    told = Manager(str(tmp_path / "notify"))
    environment = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "1000000",
        "WATCHDOG_PID": "1",
    }
    ServiceManager(environment).beat()
    with pytest.raises(BlockingIOError):
        told.socket.recv(100)
    assert environment == {}
    told.socket.close()


def test_a_manager_that_was_busy_or_away_is_told_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_manager, "PATIENCE", 0.01)
    path = tmp_path / "notify"
    manager = ServiceManager({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "1000000"})
    manager.ready("1 worker serves")
    told = Manager(str(path))
    while "temporarily" not in caplog.text and "timed out" not in caplog.text:
        manager = ServiceManager({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "1000000"})
        manager.ready("1 worker serves")
    told.socket.recv(100)
    manager.beat()
    with contextlib.suppress(BlockingIOError):
        while last := told.socket.recv(100):
            heard = last
    assert heard == b"WATCHDOG=1"
    told.socket.close()
    manager.stopping(float("inf"))
    assert caplog.text.count("cannot tell the service manager at ") == 2, "each says it once"
