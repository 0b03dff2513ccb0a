"""`SockJSRouter.stats`: the numbers are those of what the tests do, on every transport."""

import asyncio
import time

import aiohttp
import pytest

from sockjs_aio import Session, broadcast
from sockjs_aio.protocol import ends
from sockjs_aio.session_info import CloseInfo
from tests import clients
from tests.conftest import SHORT, Recorder, Serve
from tests.observers import until

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
Kind = type[clients.Client]


class Talking(Recorder):
    """Does what its messages say."""

    async def on_message(self, message: str | bytes) -> None:
        await super().on_message(message)
        if message == "echo":
            self.send("echo")
        elif message == "raise":
            raise ValueError("asked for")
        elif message == "pour":
            for _ in range(40):
                self.send("x" * 65536)
        elif message == "wait":
            await asyncio.Event().wait()


@every
async def test_sessions_are_counted_by_transport_and_state(serve: Serve, kind: Kind) -> None:
    class Noted(Talking):
        pass

    served = await serve(Noted, settings=SHORT)
    other = clients.Xhr if kind is clients.WebSocket else clients.WebSocket
    pair = [await kind.open(served), await kind.open(served)]
    third = await other.open(served)
    await Noted.until("open", 3)
    stats = served.router.stats
    assert stats.sessions == {(kind.name, "open"): 2, (other.name, "open"): 1}
    assert stats.opened == {kind.name: 2, other.name: 1}
    assert stats.closed == {}
    for client in (*pair, third):
        client.abort()
    await served.until_empty()
    stats = served.router.stats
    assert stats.sessions == {}
    assert stats.opened == {kind.name: 2, other.name: 1}
    assert {transport: count for (transport, _), count in stats.closed.items()} == stats.opened
    assert {status for _, status in stats.closed} <= {"lost", "expired"}


async def test_session_that_nobody_has_told_of_its_end_is_closing(serve: Serve) -> None:
    class Noted(Talking):
        pass

    served = await serve(Noted)
    assert await served.poll("/0/1") == b"o"
    await Noted.until("open")
    Noted.connections[0].close(4000, "Bye")
    assert served.router.stats.sessions == {("xhr", "closing"): 1}
    assert served.router.stats.closed == {("xhr", "server"): 1}


@every
async def test_messages_are_counted_in_both_directions(serve: Serve, kind: Kind) -> None:
    class Noted(Talking):
        pass

    served = await serve(Noted, settings={"response_limit": 1 << 24})
    client = await kind.open(served)
    for _ in range(3):
        await client.send("echo")
        assert await client.messages(1) == ["echo"]
    if kind is not clients.RawWebSocket:
        await client.send("a", "b", "c")
        await Noted.until("c")
    before = served.router.stats
    assert before.messages_received == (3 if kind is clients.RawWebSocket else 6)
    assert before.messages_sent == 3
    await client.send("pour")
    assert len(await client.messages(40)) == 40
    stats = served.router.stats
    assert stats.messages_sent == 43
    assert 40 * 65536 <= stats.bytes_sent - before.bytes_sent <= 40 * 65600
    await client.send("x" * 100_000)
    await Noted.until("x" * 100_000)
    received = served.router.stats.bytes_received - stats.bytes_received
    assert 100_000 <= received <= 100_100
    await client.leave()


async def test_broadcast_counts_for_each_client(serve: Serve) -> None:
    class Noted(Talking):
        pass

    served = await serve(Noted)
    for kind in clients.ALL:
        await kind.open(served)
    await Noted.until("open", len(clients.ALL))
    broadcast(Noted.connections, "x")
    assert served.router.stats.messages_sent == len(clients.ALL)


@pytest.mark.virtual_time
@every
async def test_queued_bytes_are_those_that_wait_for_clients(serve: Serve, kind: Kind) -> None:
    class Noted(Talking):
        pass

    delays = {"disconnect_delay": 2, "session_check_interval": 0.02}
    served = await serve(Noted, settings={"send_queue_limit": 1 << 26, **delays})
    client = await kind.open(served)
    await Noted.until("open")
    assert served.router.stats.queued_bytes == 0
    client.stop_reading()
    for _ in range(8):
        await client.send("pour")
    await Noted.until("pour", 8)
    assert 1 << 20 < served.router.stats.queued_bytes <= 8 * 40 * (65536 + 64)
    client.abort()
    await until(lambda: served.router.stats.queued_bytes == 0)


@pytest.mark.virtual_time
@every
@pytest.mark.logs("asked for")
async def test_hooks_that_wait_and_that_fail_are_counted(serve: Serve, kind: Kind) -> None:
    class Noted(Talking):
        pass

    served = await serve(Noted, settings={"shutdown_timeout": 0.1})
    waiting, failing = await kind.open(served), await kind.open(served)
    await waiting.send("wait")
    await failing.send("raise")
    await Noted.until("close")
    await until(lambda: served.router.stats.hooks_running == 1)
    assert served.router.stats.hooks_failed == 1
    await served.router.shutdown()
    assert served.router.stats.hooks_running == 0
    assert served.router.stats.closed[kind.name, "hook_failed"] == 1
    assert served.router.stats.closed[kind.name, "service_restart"] == 1


async def test_blocked_loop_is_seen(serve: Serve) -> None:
    class Noted(Talking):
        pass

    served = await serve(Noted, settings=SHORT)
    await clients.WebSocket.open(served)
    await Noted.until("open")
    before = served.router.stats.loop_blocked
    time.sleep(0.3)  # noqa: ASYNC251 - to block the loop
    await until(lambda: served.router.stats.loop_blocked - before >= 0.25)


async def test_snapshot_does_not_change(serve: Serve) -> None:
    served = await serve(Talking)
    stats = served.router.stats
    assert (stats.broker, stats.broker_gaps, stats.relayed) == ("connected", 0, 0)
    await clients.WebSocket.open(served)
    assert stats.opened == {}


async def test_numbers_can_be_read_in_another_thread(serve: Serve) -> None:
    served = await serve(Talking, settings=SHORT)
    loop = asyncio.get_running_loop()
    reading = loop.run_in_executor(None, lambda: [served.router.stats for _ in range(2000)])
    wire, number = await served.wire(), 0
    while not reading.done():
        number += 1
        await wire.request("POST", f"{served.prefix}/0/{number}/xhr", b"")
    opened = [stats.opened.get("xhr", 0) for stats in await reading]
    assert opened == sorted(opened)
    assert opened[-1] <= number


def test_every_end_has_a_status_of_its_own() -> None:
    statuses = [CloseInfo(*end, 0.0, "xhr").status for end in ends.ENDS]
    assert len(set(statuses)) == len(ends.ENDS)
    assert not {"client", "server"} & set(statuses)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (ends.End(4001, "Logged out", "server"), "server"),
        (ends.End(3000, "Go away!", "server"), "go_away"),
        (ends.End(4001, "x" * 100, "client"), "client"),
        (ends.UNSUBSCRIBED, "client"),
        (ends.TOO_BIG._replace(reason="20000 messages"), "too_big"),
        (ends.End(1002, "Something new", "error"), "protocol_error"),
        (ends.End(1012, "Later", "shutdown"), "shutdown"),
    ],
)
def test_statuses_are_few_whatever_is_said(end: ends.End, status: str) -> None:
    assert CloseInfo(*end, 0.0, "xhr").status == status


@pytest.mark.logs("Error handling request")
@pytest.mark.parametrize("kind", [clients.Xhr, clients.WebSocket], ids=lambda kind: kind.name)
async def test_constructor_that_closes_and_fails_leaves_no_session(
    serve: Serve, kind: Kind
) -> None:
    class Failing(Recorder):
        def __init__(self, session: Session) -> None:
            super().__init__(session)
            self.close(4000, "banned")
            raise ValueError("a mistake")

    served = await serve(Failing)
    for _ in range(2):
        with pytest.raises((aiohttp.ClientError, AssertionError)):
            await kind.open(served)
    stats = served.router.stats
    assert (stats.sessions, stats.opened) == ({}, {kind.name: 2})
    assert stats.closed == {(kind.name, "server"): 2}
