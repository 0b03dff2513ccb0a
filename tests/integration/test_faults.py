"""Real faults of real processes: killed, ended, stopped, held up, and out of file descriptors."""

import asyncio
import contextlib
import json
import re
import resource
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import async_timeout
import pytest

from tests import clients
from tests.client_process import ClientProcess
from tests.process import PATIENCE, ServerProcess

Kind = type[clients.Client]
Start = Callable[..., Awaitable[ServerProcess]]

LOST = (OSError, asyncio.IncompleteReadError)
FAREWELL = b'c[1012,"Service restart"]'
OTHERS = [kind for kind in clients.ALL if kind not in clients.POLLS]


@pytest.fixture
async def start(unused_tcp_port: int) -> AsyncIterator[Start]:
    servers: list[ServerProcess] = []

    async def run(**settings: Any) -> ServerProcess:
        servers.append(await ServerProcess.start(unused_tcp_port, settings, is_fork=True))
        return servers[-1]

    yield run
    for server in servers:
        if server.process.returncode is None:
            assert await server.stop() == 0


async def until_the_end(client: clients.Client) -> list[bytes]:
    """Return the frames up to the connection's end, or to the close frame."""
    frames: list[bytes] = []
    async with async_timeout.timeout(PATIENCE):
        while True:
            try:
                frame = await client._frame()
            except LOST:
                frame = b""
            if not frame:
                return frames
            frames.append(frame)
            if frame[:1] == b"c":
                return frames


def messages(frames: list[bytes]) -> list[str]:
    return [text for frame in frames if frame[:1] == b"a" for text in json.loads(frame[1:])]


# The server's process ends.


async def test_200_clients_of_a_server_that_is_killed_come_back_to_the_next(start: Start) -> None:
    server = await start()
    members = [await kind.open(server) for kind in clients.ALL * 29]
    for member in members[:50]:
        await member.send("a")
    waiting = [asyncio.ensure_future(until_the_end(member)) for member in members]
    server.send_signal(signal.SIGKILL)
    for frames in await asyncio.gather(*waiting):
        assert messages(frames) in ([], ["a"])
        assert FAREWELL not in frames
    assert await server.ended() == -signal.SIGKILL
    successor = await start()
    for member in members:
        member.served = successor
        await member.connect()
        assert await member.frame() == b"o", "a new session, as the old one is not known"
        await member.send("b")
        assert await member.messages(1) == ["b"]
    assert (await successor.stats())["opened"] == len(members)


async def test_sigterm_during_traffic_loses_nothing(start: Start) -> None:
    """Pollers that have got messages are not told of the end: aiohttp's `run_app` has closed its
    listener and all connections without a request before they can ask again.
    """
    server = await start()
    members = [await kind.open(server) for kind in clients.ALL * 10]
    waiting = [asyncio.ensure_future(until_the_end(member)) for member in members]
    began = time.monotonic()
    await server.post(members[2].path, '["terminate 10"]')
    for member, frames in zip(members, await asyncio.gather(*waiting), strict=True):
        assert messages(frames) == list("0123456789"), member.name
        if type(member) in OTHERS:
            assert frames[-1] == FAREWELL, member.name
    assert await server.ended() == 0
    assert time.monotonic() - began < 10, "shutdown_timeout"


async def test_sigterm_tells_idle_clients_pollers_too(start: Start) -> None:
    server = await start()
    members = [await kind.open(server) for kind in clients.ALL * 10]
    away = await server.wire()
    assert (await away.request("POST", "/echo/0/away/xhr", b"")).body == b"o\n"
    assert (await server.stats())["sessions"] == 71  # all polls have come, too
    waiting = [asyncio.ensure_future(until_the_end(member)) for member in members]
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    for member, frames in zip(members, await asyncio.gather(*waiting), strict=True):
        assert frames == [FAREWELL], member.name
    assert await away.is_closed(), "aiohttp closes connections without a request"
    assert await server.ended() == 0
    assert time.monotonic() - began < 10, "shutdown_timeout"


async def test_sigterm_does_not_wait_longer_than_it_was_told_for_a_hook(start: Start) -> None:
    server = await start(shutdown_timeout=1)
    members = [await kind.open(server) for kind in clients.ALL]
    for member in members:
        await member.send("hang")
    idle = await server.wire()
    assert (await idle.request("POST", "/echo/0/idle/xhr", b"")).body == b"o\n"
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    assert await idle.is_closed()
    with pytest.raises(OSError):
        await server.wire()
    assert server.process.returncode is None, "it waits for the hooks all the while"
    assert await server.ended() == 0
    assert 1 <= time.monotonic() - began < 6


async def test_request_whose_body_is_on_its_way_does_not_hold_up_the_end(start: Start) -> None:
    server = await start(receive_timeout=60)
    await server.poll("/0/1")
    wire = await server.wire()
    wire.send("POST", "/echo/0/1/xhr_send", headers={"Content-Length": "10"})
    await server.stats()
    server.send_signal(signal.SIGTERM)
    assert (await wire.reply()).status == 408
    assert await server.ended() == 0


async def test_drain_then_sigterm_tells_everybody(start: Start) -> None:
    server = await start()
    members = [await kind.open(server) for kind in clients.ALL * 6]
    for member in members:
        await member.send("before")
    away = await server.wire()
    assert (await away.request("POST", "/echo/0/away/xhr", b"")).body == b"o\n"
    waiting = [asyncio.ensure_future(until_the_end(member)) for member in members]
    draining = asyncio.ensure_future(server.request_root("POST", "/drain?over=1"))
    while (health := await server.request_root("GET", "/health")).status == 200:
        await asyncio.sleep(0.01)
    assert (health.status, json.loads(health.body)["status"]) == (503, "draining")
    reply = await server.request("POST", "/0/new/xhr", b"")
    assert (reply.status, reply.header("Retry-After")) == (503, "5")
    told = {0}
    while len(members) not in told:
        told.add(sum(task.done() for task in waiting))
        await asyncio.sleep(0.005)
    assert len(told) >= 5, "one after the other"
    for task in waiting:
        frames = await task
        assert messages(frames) == ["before"]
        assert frames[-1] == FAREWELL
    reply = await away.request("POST", "/echo/0/away/xhr", b"")
    assert reply.body == FAREWELL + b"\n", "over a connection that was open all the time"
    assert (await draining).status == 200
    assert (await server.request_root("POST", "/drain?over=60")).status == 200
    began = time.monotonic()
    assert await server.stop() == 0
    assert time.monotonic() - began < 5


# A client's process is stopped.


SHORT = {"heartbeat_delay": 0.5, "disconnect_delay": 0.5}


@contextlib.asynccontextmanager
async def stopped(
    server: ServerProcess, kinds: Sequence[Kind]
) -> AsyncIterator[list[ClientProcess]]:
    """Start a client of each kind, and stop them all once they have opened their sessions."""
    processes = [await ClientProcess.start(server.port, kind) for kind in kinds]
    for client in processes:
        await client.until("open")
    for client in processes:
        client.stop()
    yield processes
    for client in processes:
        await client.kill()


async def test_stopped_websocket_clients_are_closed_as_they_answer_no_ping(start: Start) -> None:
    server = await start(**SHORT)
    async with stopped(server, [clients.WebSocket, clients.RawWebSocket]) as processes:
        await server.until_ended("timeout", 2)
        await server.until_empty()
        for client in processes:
            client.go_on()
        for client in processes:
            await client.until("ended")
            await client.until("open")
        assert (await server.stats())["opened"] == 4


async def test_sessions_of_stopped_pollers_expire(start: Start) -> None:
    server = await start(**SHORT)
    async with stopped(server, clients.POLLS) as processes:
        await server.until_ended("timeout", 2)
        await server.until_empty()
        for client in processes:
            client.go_on()
        for client in processes:
            await client.until("ended")  # its next poll is told, and opens no new session
            await client.until("open")
        assert (await server.stats())["opened"] == 4


async def test_stopped_streams_go_on_afterwards_if_little_was_sent(start: Start) -> None:
    """The client's kernel takes heartbeats and messages for it, and says so."""
    server = await start(**SHORT)
    async with stopped(server, clients.STREAMS) as processes:
        sender = await clients.WebSocket.open(server)
        for number in range(5):
            await sender.send(f"broadcast {number}")
            assert await sender.messages(1) == [str(number)]
            await asyncio.sleep(0.5)
        numbers = await server.stats()
        assert (numbers["sessions"], numbers["ends"]) == (1 + len(processes), {})
        for client in processes:
            client.go_on()
        for client in processes:
            before = await client.until("message 4")
            assert before == [f"message {number}" for number in range(4)]
        await sender.leave()


@pytest.mark.parametrize(
    ("settings", "initiators"),
    [
        ({"send_queue_limit": 1 << 20, "heartbeat_delay": 30}, {"overflow"}),
        # nothing is taken for a heartbeat; or the kernel has given up, after three of them
        ({"send_queue_limit": 1 << 26, "heartbeat_delay": 0.5}, {"timeout", "network"}),
    ],
    ids=["overflow", "stalled"],
)
async def test_stopped_clients_that_much_is_sent_to_are_closed(
    start: Start, settings: dict[str, Any], initiators: set[str]
) -> None:
    server = await start(**settings, response_limit=1 << 30, disconnect_delay=0.5)
    kinds = [clients.WebSocket, clients.RawWebSocket, *clients.STREAMS]
    async with stopped(server, kinds) as processes:
        sender = await clients.Xhr.open(server)
        async with async_timeout.timeout(2 * PATIENCE):
            for _ in range(20):  # 10 MB: more than the sockets hold of a client that does not read
                await sender.send("broadcast " + "x" * (1 << 19))
                await sender.messages(1)
            while sum((numbers := await server.stats())["ends"].values()) < len(kinds):
                await asyncio.sleep(0.05)
        assert set(numbers["ends"]) <= initiators
        for client in processes:
            client.go_on()
        for client in processes:
            before = await client.until("ended")
            assert set(before) <= {"message " + "x" * 20}
            await client.until("open")
        await sender.leave()


# The server's loop is held up.


async def test_loop_that_a_hook_blocks_costs_no_session(start: Start) -> None:
    server = await start(heartbeat_delay=2, disconnect_delay=4, session_check_interval=0.1)
    members = [await kind.open(server) for kind in clients.ALL * 5]
    blocking = await clients.WebSocket.open(server)
    has_blocked = asyncio.Event()

    async def chat(member: clients.Client) -> None:
        sent: list[str] = []
        received: list[str] = []
        while not has_blocked.is_set() or len(sent) < 50:
            sent.append(str(len(sent)))
            await member.send(sent[-1])
            while received[-1:] != sent[-1:]:
                received += [text for text in await member.messages(1) if text != "blocking"]
            await asyncio.sleep(0.01)
        assert received == sent

    chats = [asyncio.ensure_future(chat(member)) for member in members]
    await asyncio.sleep(0.3)
    for seconds in ("7", "5"):
        await blocking.send(f"block {seconds}")
        while "blocked" not in await blocking.messages(1):
            pass
    await blocking.leave()
    await asyncio.sleep(0.3)
    has_blocked.set()
    await asyncio.gather(*chats)
    numbers = await server.stats()
    assert (numbers["opened"], numbers["ends"]) == (len(members) + 1, {"client": 1})
    for member in members:
        await member.leave()


# No file descriptors.


async def test_server_without_file_descriptors_serves_again_afterwards(start: Start) -> None:
    """What it logs meanwhile is asyncio's, for each of up to 128 attempts a second; and for many
    more in a Python without the fix of python/cpython#151615.
    """
    server = await start()
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (220, 220))
    first = await clients.WebSocket.open(server)
    wires = await asyncio.gather(*(server.wire() for _ in range(300)))
    for number, wire in enumerate(wires):
        wire.send("POST", f"/echo/0/{number}/xhr_streaming", b"")
    answers = [asyncio.ensure_future(wire.head()) for wire in wires]
    done, _ = await asyncio.wait(answers, timeout=1.5)
    assert 100 < len(done) < 220, "as many as there are descriptors for"
    await first.send("a")
    assert await first.messages(1) == ["a"], "who is connected is served"
    for wire in wires[:250]:
        wire.close()
    for answer in answers[250:]:
        assert (await answer).status == 200, "the others' turn has come"
    for kind in clients.ALL:
        client = await kind.open(server)
        await client.leave()
    for wire in wires[250:]:
        wire.close()
    await asyncio.gather(*answers, return_exceptions=True)
    await first.leave()
    assert await server.stop(complaints=True) == 0
    errors = await server.errors
    assert "out of system resource" in errors
    assert errors.count("Traceback") == errors.count("ERROR:asyncio:")
    # asyncio names its timer, which calls `_start_serving` with our class of server
    assert "sockjs_aio" not in re.sub(r"_start_serving\(<[^>]*>", "", errors)
