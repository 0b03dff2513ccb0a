"""Clients that leave, that do not read, and owners that end, with a relay between them."""

import asyncio
import json
from typing import Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import SockJSConnection
from tests.clients import POLLS, STREAMS, Client, EventSource, Xhr, XhrStreaming
from tests.conftest import Recorder
from tests.workers.conftest import Member, RunTeam, Team
from tests.workers.test_relay import each_http, each_poll, each_stream, open_elsewhere

# of the relay itself, or of owners that end while another worker has the connection
of_relay = pytest.mark.not_over("handing-over")
both_cancellations = pytest.mark.parametrize("cancellation", [True, False])


async def until_gone(workers: Team) -> None:
    """Wait until nothing is on its way from worker to worker."""
    async with async_timeout.timeout(5):
        while any(worker.relay.exchanges for worker in workers):
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("how", ["leave", "abort"])
@both_cancellations
@each_http
async def test_a_client_that_leaves_is_noticed_at_the_owner(
    team: RunTeam, transport: type[Client], cancellation: bool, how: str
) -> None:
    class Noticing(Recorder):
        pass

    settings = {"session_check_interval": 0.02}
    workers = await team(2, Noticing, settings, handler_cancellation=cancellation)
    client = await open_elsewhere(workers, transport)
    if transport in POLLS:
        await asyncio.sleep(0.05)  # the next poll waits
    if how == "leave":
        await client.leave()
    else:
        client.abort()
    async with async_timeout.timeout(2):  # far below the heartbeat delay
        await Noticing.until("close")
    info = Noticing.connections[0].close_info
    assert info is not None and info.initiator == "network"
    await until_gone(workers)


@both_cancellations
@each_poll
async def test_who_asks_again_after_giving_up_is_not_taken_for_a_second_receiver(
    team: RunTeam, transport: type[Client], cancellation: bool
) -> None:
    """The second request comes before the relay has looked around for clients that have gone."""
    settings = {"disconnect_delay": 0.1, "session_check_interval": 0.02}
    workers = await team(2, settings=settings, handler_cancellation=cancellation)
    for number in range(8):
        client = await open_elsewhere(workers, transport)
        async with async_timeout.timeout(5):
            while not has_receiver(workers):  # the poll waits
                await asyncio.sleep(0.001)
        (client.wire.abort if number % 2 else client.wire.close)()
        await client.connect()
        assert await client.frame() == b'c[1002,"Connection interrupted"]'
        await client.leave()
        await until_gone(workers)
        await workers.owner(client.path).until_empty()


def has_receiver(workers: Team) -> bool:
    sessions = [session for worker in workers for session in worker.router._registry._sessions]
    return any(session.has_http_writer for session in sessions)


@of_relay
async def test_a_client_that_leaves_during_its_upload_is_noticed(team: RunTeam) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, Xhr)
    wire = await client.served.wire()
    wire.send("POST", f"/echo{client.path}/xhr_send", headers={"Content-Length": "900000"})
    wire.writer.write(b"[" * 200_000)
    async with async_timeout.timeout(5):
        while len(client.served.relay.exchanges) < 2:
            await asyncio.sleep(0.002)
    wire.abort()
    async with async_timeout.timeout(5):
        while len(client.served.relay.exchanges) == 2:
            await asyncio.sleep(0.002)
    await client.send("still here")
    assert await client.messages(1) == ["still here"]


class Pourer(SockJSConnection):
    """Sends as fast as the session takes it, and counts."""

    sent = 0

    def __init_subclass__(cls) -> None:
        cls.sent = 0

    async def on_message(self, message: str | bytes) -> None:
        count, size = map(int, str(message).split())
        for _ in range(count):
            await self.drain()
            if self.is_closed:
                break
            self.send("x" * size)
            type(self).sent += size


def most_buffered(member: Member) -> int:
    """Return how much of a worker's connection to a client waits in the process."""
    assert member.runner.server is not None
    transports = [connection.transport for connection in member.runner.server.connections]
    return max(x.get_write_buffer_size() for x in transports if x is not None)


@of_relay
@each_stream
async def test_a_client_that_does_not_read_holds_up_its_owner_and_fills_no_relay(
    team: RunTeam, transport: type[Client]
) -> None:
    class Pouring(Pourer):
        pass

    workers = await team(2, Pouring, {"response_limit": 1 << 30, "send_queue_limit": 1 << 20})
    client = await open_elsewhere(workers, transport)
    client.stop_reading()
    await client.send("4000 10000")  # 40 MB
    async with async_timeout.timeout(10):
        before = -1
        while Pouring.sent != before:  # until it stands still
            before = Pouring.sent
            await asyncio.sleep(0.3)
    assert Pouring.sent < 25_000_000  # the kernel's buffers, of two connections, and ours
    assert len(client.served.relay.exchanges) == 1
    # what counts as congested, and what was read at a time
    assert 0 < most_buffered(client.served) <= 65536 + 262144 + 8192
    client.wire.writer.transport.resume_reading()
    received = 0
    while received < 4000:
        received += len(await client.messages(1))
    assert received == 4000


@of_relay
async def test_an_owner_that_does_not_read_holds_up_the_client(team: RunTeam) -> None:
    """The relay does not take in a body that its owner has no room for."""
    release = asyncio.Event()

    class Slow(SockJSConnection):
        async def on_message(self, message: str | bytes) -> None:
            await release.wait()

    settings = {"receive_queue_limit": 1000, "max_message_size": 32 << 20}
    workers = await team(2, Slow, settings)
    client = await open_elsewhere(workers, Xhr)
    big = json.dumps(["x" * 24_000_000]).encode()
    await client.send(*["x"] * 600)  # its queue is full
    second = asyncio.create_task(client.send_payload('["waits for room"]'))
    await asyncio.sleep(0.1)
    wire = await client.served.wire()
    wire.send("POST", f"/echo{client.path}/xhr_send", big)
    await asyncio.sleep(0.3)
    assert len(client.served.relay.exchanges) == 3
    # the others are in the kernel, of two connections, and a few in buffers of ours
    assert wire.writer.transport.get_write_buffer_size() > 8_000_000
    release.set()
    assert await second == 204
    assert (await wire.reply()).status == 204


# The owner ends.


def kill(member: Member) -> None:
    """Have all connections of a worker end as if its process had been killed."""
    for site in list(member.runner.sites):
        assert isinstance(site, web.BaseSite) and site._server is not None
        site._server.close()
    assert member.runner.server is not None
    for connection in list(member.runner.server.connections):
        if connection.transport is not None:
            connection.transport.abort()


@of_relay
@each_http
async def test_the_client_of_an_owner_that_ends_is_told_so_at_once(
    team: RunTeam, transport: type[Client]
) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, transport)
    await client.send("x")
    assert await client.messages(1) == ["x"]
    await asyncio.sleep(0.05)  # a poll waits again
    kill(workers.owner(client.path))
    assert await client.frame() == b'c[1002,"Connection interrupted"]'
    if transport in STREAMS:
        assert await client.frame() == b""  # the response ends in an orderly way


@of_relay
async def test_sends_to_an_owner_that_has_ended_are_404_at_once(team: RunTeam) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, EventSource)
    kill(workers.owner(client.path))
    async with async_timeout.timeout(1):
        assert await client.send_payload('["x"]') == 404
        form = await client.served.request("POST", client.path + "/jsonp_send", b"d=[]")
        assert form.status == 404


@of_relay
@each_http
async def test_a_new_session_waits_for_a_worker_that_is_being_restarted(
    team: RunTeam, transport: type[Client]
) -> None:
    workers = await team(2)
    client: Any = transport(workers[0], {})
    client.served = workers.elsewhere(client.path)
    owner = workers.owner(client.path)
    kill(owner)
    opening = asyncio.create_task(open_at(client))
    await asyncio.sleep(0.1)
    assert not opening.done()
    await restart(owner)
    assert await opening == b"o"


async def open_at(client: Any) -> bytes:
    await client.connect()
    frame: bytes = await client.frame()
    return frame


async def restart(member: Member) -> None:
    await web.SockSite(member.runner, member.placement.listen()).start()
    member.placement.publish(replaces=False)


@of_relay
async def test_a_stream_that_breaks_off_within_a_chunk_is_cut(team: RunTeam) -> None:
    """Nothing may be added to half a message."""
    workers = await team(2, settings={"response_limit": 1 << 30, "send_queue_limit": 64 << 20})
    client = await open_elsewhere(workers, XhrStreaming)
    client.stop_reading()
    owner = workers.owner(client.path)
    (session,) = owner.router._registry._sessions
    session.send("x" * 20_000_000)
    await asyncio.sleep(0.2)
    kill(owner)
    await asyncio.sleep(0.1)
    client.wire.writer.transport.resume_reading()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        while True:
            await client.wire.chunk()
