"""Workers that retire: whoever comes through them goes on elsewhere, and is found."""

import asyncio

import aiohttp
import pytest

from sockjs_aio.cluster.relay import peers
from sockjs_aio.cluster.workers.placement import worker_at
from tests.clients import HTTP, Client
from tests.workers.conftest import RunTeam
from tests.workers.test_relay import each_poll, each_stream, open_elsewhere

pytestmark = pytest.mark.not_over("handing-over")  # it is about relayed requests

KEY = b"of a worker and its successor"


@each_stream
async def test_streams_through_a_worker_that_retires_end_and_go_on_elsewhere(
    team: RunTeam, transport: type[Client]
) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, transport)
    record, owner = client.served, workers.owner(client.path)
    record.gateway.retire()
    await record.relay.exchanges.end()
    assert await client.frame() == b""
    await client.send("while nobody listens")
    client.served = owner
    await client.connect()
    assert await client.messages(1) == ["while nobody listens"]


@each_poll
async def test_polls_through_a_worker_that_retires_are_answered(
    team: RunTeam, transport: type[Client]
) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, transport)
    await asyncio.sleep(0.05)
    client.served.gateway.retire()
    await client.served.relay.exchanges.end()
    reply = await client.wire.reply()
    assert client._undress(reply.body) == b"h"
    assert reply.header("Connection") == "close"
    assert await client.wire.is_closed()
    await client.connect()  # before it has noticed, perhaps
    client.served = workers.owner(client.path)
    await client.send("x")
    reply = await client.wire.reply()
    assert client._undress(reply.body) == b'a["x"]'
    assert reply.header("Connection") == "close"


@pytest.mark.virtual_time
@each_stream
async def test_who_comes_while_a_worker_retires_is_asked_to_leave_too(
    team: RunTeam, transport: type[Client]
) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, transport)
    record = client.served
    record.gateway.retire()
    late = transport(record, {})
    while workers.owner(late.path) is record:
        late.path += "x"
    wire = await record.wire()
    method, end = late._request()  # type: ignore[attr-defined]
    ending = asyncio.create_task(record.relay.exchanges.end())
    await asyncio.sleep(0)  # the first have been asked, those that there are
    wire.send(method, record.prefix + late.url(end), b"" if method == "POST" else None)
    assert (await wire.reply()).status == 200  # and it has an end
    await ending
    assert await client.frame() == b""


async def test_connections_to_a_worker_that_retires_are_closed(team: RunTeam) -> None:
    workers = await team(2)
    workers[0].gateway.retire()
    for number in range(4):
        wire = await workers[0].wire()
        reply = await wire.request("POST", f"/echo/0/{number}/xhr", b"")
        assert reply.body == b"o\n"
        assert reply.header("Connection") == "close"
        assert await wire.is_closed()


@pytest.mark.parametrize("transport", HTTP, ids=lambda client: client.name)
async def test_sessions_that_a_predecessor_has_are_found(
    team: RunTeam, transport: type[Client]
) -> None:
    """A worker and its successor have the same number, as they do around a reload."""
    first, second = await team(1, key=KEY), await team(1, key=KEY)
    old, new = first[0], second[0]
    client = await transport.open(old)
    new.locator.predecessor = worker_at(old.placement.own_path)
    old.locator.successor = worker_at(new.placement.own_path)
    client.served = new
    await client.send("old")
    client.served = old
    assert await client.messages(1) == ["old"]
    fresh = await transport.open(old)  # new ones are the successor's, wherever they come in
    assert (old.router.session_count, new.router.session_count) == (1, 1)
    client.served = old
    await fresh.send("new")
    assert await fresh.messages(1) == ["new"]
    assert await new.post("/0/nobody", '["x"]') == 404
    assert await old.post("/0/nobody", '["x"]') == 404


async def test_a_predecessor_that_has_ended_is_forgotten(team: RunTeam) -> None:
    (worker,) = await team(1)
    predecessor = worker.locator.predecessor = worker_at(worker.placement.own_path + ".nobody")
    assert await worker.poll("/0/a") == b"o"
    assert worker.locator.predecessor is None
    assert not predecessor.client.closed  # other requests may be on their way to it
    await worker.runner.cleanup()
    assert predecessor.client.closed


async def test_a_predecessor_that_a_hook_blocks_is_not_taken_for_dead(
    team: RunTeam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_ASK_TIMEOUT", aiohttp.ClientTimeout(total=0.3))
    (worker,) = await team(1)
    path = worker.placement.own_path + ".silent"
    asked: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_unix_server(lambda _, writer: asked.append(writer), path)
    predecessor = worker.locator.predecessor = worker_at(path)
    wire = await worker.wire()
    reply = await wire.request("POST", "/echo/0/a/xhr_send", '["x"]')
    assert (reply.status, reply.header("Retry-After")) == (503, "5")
    assert worker.locator.predecessor is predecessor
    silent.close()
    for writer in asked:
        writer.close()
        await writer.wait_closed()
