"""What a node has written of itself, repeated by somebody who can write to Redis."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sockjs_aio.cluster.nodes.node_record import (
    RecordForgedError,
    RecordMaker,
    make_record,
    read_record,
)
from sockjs_aio.cluster.nodes.owners import KnownNodes
from tests.brokers.redis_server import RedisServer
from tests.clients import XhrStreaming
from tests.nodes.conftest import Reach, RunNodes
from tests.nodes.processes import SECRET
from tests.nodes.test_trust import name_of
from tests.ports import free_port


@pytest.mark.parametrize("age, is_good", [(-31, False), (-29, True), (34, True), (36, False)])
def test_an_entry_is_good_for_as_long_as_redis_keeps_it_and_clocks_may_differ(
    age: float, is_good: bool
) -> None:
    key = b"0" * 16
    record = make_record(key, "me", "http://a:1", 1000)
    if is_good:
        assert read_record(key, "me", record, now=1000 + age, expiry=5).url == "http://a:1"
    else:
        with pytest.raises(RecordForgedError, match=f"wrote it {age} s ago, by its clock"):
            read_record(key, "me", record, now=1000 + age, expiry=5)


@pytest.mark.parametrize("step, is_later", [(-29, True), (0, True), (60, True), (-31, False)])
def test_each_entry_is_later_than_the_one_before_unless_that_was_refused(
    step: float, is_later: bool
) -> None:
    times = iter([1000.0, 1000 + step, 1000 + step])
    make = RecordMaker(b"0" * 16, "me", "http://a:1", lambda: next(times))
    issued = [float(make().split()[1]) for _ in range(3)]
    assert (issued[1] > issued[0]) == is_later
    assert issued[2] > issued[1]


def test_a_node_whose_clock_is_set_back_is_not_taken_for_one_that_has_stopped_reporting() -> None:
    key, expiry, late = b"0" * 16, 5.0, 0.0
    make = RecordMaker(key, "other", "http://a:1", lambda: time.time() - late)
    nodes: Any = KnownNodes(key, expiry, None)  # type: ignore[arg-type]
    nodes.meet("other", make(), 0.0)
    late = 10
    for second in range(20):
        assert nodes.check("other", make(), second) is None


@contextlib.asynccontextmanager
async def trap(port: int) -> AsyncIterator[list[bytes]]:
    """Listen where a node was, and note what comes."""
    caught: list[bytes] = []

    async def catch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caught.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No content\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(catch, "127.0.0.1", port)
    yield caught
    server.close()


@pytest.mark.redis
async def test_what_a_node_that_has_ended_wrote_cannot_be_repeated(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    owner, other = run_nodes(2, {"disconnect_delay": 60}, expiry=1, lease=600)
    assert await reach(owner).poll("/0/a") == b"o"
    assert await reach(other).post("/0/a", '["they know each other"]') == 204
    key = f"sockjs:node:{name_of(owner, own_redis)}"
    record = own_redis.cli("get", key)
    owner.kill()
    own_redis.cli("set", key, record)  # for ever, and nobody sees it gone
    async with trap(owner.port) as caught:
        await other.until_said(f"the node at {owner.url} has ended or stopped reporting")
        for _ in range(3):
            reply = await reach(other).request(
                "POST", "/0/a/xhr_send", b'["x"]', headers={"Cookie": "secret=1"}
            )
            assert (reply.status, reply.header("Retry-After")) == (503, "5")
        assert caught == []
    assert "has ended, and somebody has restored its record" in other.said


@pytest.mark.redis
@pytest.mark.parametrize("age", [70, -40])
async def test_what_was_written_long_ago_or_by_a_clock_that_is_wrong_is_not_used(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer, age: float
) -> None:
    (node,) = run_nodes(1, expiry=30, lease=600)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    own_redis.cli("set", "sockjs:session:/echo/a", "old")
    async with trap(port) as caught:
        record = make_record(SECRET.encode(), "old", url, time.time() - age)
        own_redis.cli("set", "sockjs:node:old", record)
        reply = await reach(node).request("POST", "/0/a/xhr_send", b'["x"]')
        assert (reply.status, reply.header("Retry-After")) == (503, "5")
        assert caught == []
        record = make_record(SECRET.encode(), "old", url, time.time())
        own_redis.cli("set", "sockjs:node:old", record)
        assert await reach(node).post("/0/a", b'["x"]') == 204
        assert len(caught) == 1
    assert "clocks differ by more than 30 s" in node.said


@pytest.mark.redis
async def test_a_node_whose_clock_is_put_wrong_keeps_what_is_on_its_way(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    """Only new requests are refused, as nobody can tell whether it has ended."""
    (owner,) = run_nodes(1, {"disconnect_delay": 60}, expiry=60, lease=600)
    (other,) = run_nodes(1, {"disconnect_delay": 60}, expiry=5, lease=600)
    client = XhrStreaming(reach(owner), {})
    assert await reach(owner).poll(client.path) == b"o"
    client.served = reach(other)
    await client.connect()
    await owner.until_receiving(client)
    name = name_of(owner, own_redis)
    record = make_record(SECRET.encode(), name, owner.url, time.time() + 3600)
    own_redis.cli("set", f"sockjs:node:{name}", record)
    await other.until_said("clocks differ by more than 30 s")
    assert await client.send_payload('["x"]') == 503
    assert await reach(owner).post(client.path, '["y"]') == 204
    assert await client.messages(1) == ["y"]
