"""Real workers: started, killed, ended, restarted."""

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import async_timeout
import pytest

from tests.clients import ALL, HTTP, Client, Xhr, XhrStreaming
from tests.ports import free_port
from tests.wire import Wire
from tests.workers.commanding import PATIENCE
from tests.workers.conftest import RunCommand

pytestmark = pytest.mark.timeout(3 * PATIENCE)


async def pid(client: Client) -> int:
    """Return the process that has a client's session."""
    await client.send("pid")
    (text,) = await client.messages(1)
    return int(text)


async def test_each_transport_works_whatever_worker_a_request_comes_in_at(
    command: RunCommand,
) -> None:
    served = await command(workers=3)
    for transport in ALL:
        client: Any = await transport.open(served, headers={"X-A": "b"})
        owners = set()
        for number in range(12):  # `send` makes a connection each time
            await client.send(f"{number}")
            assert await client.messages(1) == [f"{number}"]
            owners.add(await pid(client))
        assert len(owners) == 1
        await client.send("info")
        assert json.loads((await client.messages(1))[0]) == ["127.0.0.1", "b"]
        await client.leave()
    assert await served.stop() == 0
    assert not served.has_failed, served.said


async def test_sessions_are_spread_over_all_workers(command: RunCommand) -> None:
    served = await command(workers=3, settings={"shutdown_timeout": 0.5})
    owners = {await pid(await Xhr.open(served)) for _ in range(30)}
    assert len(owners) == 3
    assert set(await served.worker_wires(3)) == owners
    assert await served.stop() == 0


async def open_by(client: Any, wire: Wire) -> None:
    """Open a session by a connection that is there."""

    async def that() -> Wire:
        return wire

    real, client.served.wire = client.served.wire, that
    await client.connect()
    client.served.wire = real
    assert await client.frame() == b"o"


async def lost(client: Any) -> bytes:
    """Return the frame from which a client learns that its session is lost.

    Its connection was handed over to the worker that is killed, and ends with it.
    """
    async with async_timeout.timeout(PATIENCE):
        while True:
            try:
                frame: bytes = await client.frame()
            except (OSError, asyncio.IncompleteReadError, AssertionError):  # 503: none is there
                frame = b""
            if frame:
                return frame
            with contextlib.suppress(OSError, AssertionError):
                await client.connect()


async def send_again(client: Client) -> int:
    """Send until it is answered: the kernel may give a connection to a worker that was killed."""
    async with async_timeout.timeout(30):
        while True:
            try:
                return await client.send_payload('["again"]')
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.01)


async def test_a_worker_that_is_killed_takes_its_own_sessions_only(command: RunCommand) -> None:
    served = await command(workers=2, settings={"shutdown_timeout": 0.5, "disconnect_delay": 60})
    victim, other = await served.worker_wires(2)
    its: list[Any] = []
    others: list[Any] = []
    for transport in HTTP:
        while not all(any(type(x) is transport for x in some) for some in (its, others)):
            client: Any = transport(served, {})  # all of them come in at the other one
            await open_by(client, (await served.worker_wires(2))[other])
            (its if await pid(client) == victim else others).append(client)
    os.kill(victim, signal.SIGKILL)
    for client in its:
        assert await lost(client) == b'c[1002,"Connection interrupted"]', client.name
        assert await send_again(client) == 404, client.name
    for client in others:
        assert await send_again(client) in (200, 204), client.name
        assert await client.messages(1) == ["again"], client.name
    await served.until_said(r"died \(SIGKILL\)")
    await served.worker_wires(2)
    again = [await pid(await Xhr.open(served)) for _ in range(30)]  # by their ids: both, surely
    assert victim not in again and len(set(again)) == 2
    assert await served.stop() == 0


async def test_readiness_goes_off_before_sessions_are_closed(command: RunCommand) -> None:
    served = await command("--drain-notice", "1.5", workers=2)
    client = await XhrStreaming.open(served)
    for path in ("/healthz", "/readyz"):
        assert (await served.ask(path)).status == 200
    served.process.send_signal(signal.SIGTERM)
    await served.until_said("readiness is off")
    async with async_timeout.timeout(5):
        while (await served.ask("/readyz")).status != 404:
            await asyncio.sleep(0.01)
    assert (await served.ask("/healthz")).status == 200
    await client.send("still")
    assert await client.messages(1) == ["still"]
    late = await Xhr.open(served)  # opened during the notice
    assert await late.frame() == b'c[1012,"Service restart"]'
    assert await client.frame() == b'c[1012,"Service restart"]'
    assert await served.ended() == 0


async def test_a_second_signal_ends_it_soon(command: RunCommand) -> None:
    served = await command("--drain-notice", "60", workers=2)
    await XhrStreaming.open(served)
    served.process.send_signal(signal.SIGTERM)
    await served.until_said("readiness is off")
    async with async_timeout.timeout(15):
        assert await served.stop() == 0


async def test_a_worker_that_ends_by_itself_is_started_again(command: RunCommand) -> None:
    served = await command(workers=2)
    before = await served.worker_wires(2)
    wire = next(iter(before.values()))
    with pytest.raises(asyncio.IncompleteReadError):
        await wire.request("GET", "/die")
    await served.until_said(r"died \(exit status 7\): starting it again")
    after = await served.worker_wires(2)
    assert len(set(before) & set(after)) == 1
    assert await served.stop() == 0


async def test_an_application_that_cannot_start_ends_it_at_once(
    command: RunCommand, tmp_path: Path
) -> None:
    generation = tmp_path / "generation"
    generation.write_text("broken")
    served = await command(workers=2, generation=generation, wait=False)
    assert await served.ended() == 1
    assert "RuntimeError: a test has asked for it" in served.said
    assert served.said.count("cannot start: tests.workers.service:make failed:\n") == 1
    assert "sockjs_aio/cluster" not in served.said


async def test_what_a_module_misses_is_shown_with_its_place(
    command: RunCommand, tmp_path: Path
) -> None:
    generation = tmp_path / "generation"
    generation.write_text("incomplete")
    served = await command(workers=1, generation=generation, wait=False)
    assert await served.ended() == 1
    assert "ModuleNotFoundError: No module named 'nowhere'" in served.said
    assert "service.py" in served.said


async def test_workers_that_die_again_and_again_end_it(command: RunCommand, tmp_path: Path) -> None:
    generation = tmp_path / "generation"
    generation.write_text("mortal")
    served = await command(workers=1, generation=generation, wait=False)
    assert await served.ended() == 1
    assert "worker 0 died 5 times in a row before it had served for 5 s" in served.said
    assert "exit status 7" in served.said


@pytest.mark.parametrize(
    "target, message",
    [
        ("tests.workers.service", "does not have the form package.module:app_factory"),
        ("tests.workers.service:nothing", "module tests.workers.service has no attribute nothing"),
        ("tests.workers.service:json", "must be or return an aiohttp application, not module"),
        (
            "tests.workers.nowhere:make",
            "cannot start: No module named 'tests.workers.nowhere': start",
        ),
        ("nowhere.at.all:make", "cannot start: No module named 'nowhere': start the command in"),
    ],
)
async def test_what_is_no_application_is_named(
    command: RunCommand, target: str, message: str
) -> None:
    served = await command(target=target, wait=False)
    assert await served.ended() in (1, 2)
    assert message in served.said
    assert not served.has_failed, served.said


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--workers", "0"), "count must be a positive integer"),
        (("--drain-over", "-1"), "over=-1.0 must be seconds"),
        (("--drain-limit", "nan"), "limit=nan must be seconds"),
        (("--host", "192.0.2.1"), "of 192.0.2.1: Cannot assign"),
        (("--port", "99999"), "port 99999: must be 0 to 65535"),
    ],
)
async def test_what_cannot_be_is_said(
    command: RunCommand, arguments: tuple[str, ...], message: str
) -> None:
    served = await command(*arguments, wait=False)
    assert await served.ended() == 2
    assert message in served.said


async def test_a_port_in_use_is_not_shared(command: RunCommand) -> None:
    port = free_port()
    first = await command("--port", str(port))
    second = await command("--port", str(port), wait=False)
    assert await second.ended() == 2
    assert f"cannot listen at port {port} of 127.0.0.1: Address already" in second.said
    assert await first.stop() == 0


async def test_workers_end_in_order_when_their_supervisor_is_killed(command: RunCommand) -> None:
    served = await command(workers=2)
    client = await XhrStreaming.open(served)
    pids = list(await served.worker_wires(2))
    served.process.kill()
    assert await client.frame() == b'c[1012,"Service restart"]'
    async with async_timeout.timeout(20):
        while any(map(is_running, pids)):
            await asyncio.sleep(0.05)


def is_running(number: int) -> bool:
    return Path(f"/proc/{number}").exists()


async def test_the_sockets_between_workers_are_for_their_user_alone(
    command: RunCommand, tmp_path: Path
) -> None:
    served = await command(workers=2, temporary=tmp_path)
    assert seen_in(tmp_path) == [(0o700, ["0", "1"])]
    assert await served.stop() == 0
    assert seen_in(tmp_path) == []


def seen_in(place: Path) -> list[tuple[int, list[str]]]:
    """Return of each directory there who may use it, and the workers that have files in it."""
    return [
        (directory.stat().st_mode & 0o777, sorted({path.name[0] for path in directory.iterdir()}))
        for directory in place.iterdir()
    ]
