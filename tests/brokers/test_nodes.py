"""Nodes that are processes of their own, on a real Redis: killed, held up, and stopped."""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import async_timeout
import pytest

from sockjs_aio.brokers.redis import RedisBroker
from tests import clients
from tests.brokers.redis_server import RedisServer
from tests.brokers.talker import tell
from tests.ports import free_port
from tests.process import PATIENCE, ServerProcess

pytestmark = pytest.mark.redis
WebSocket = clients.WebSocket
EXPIRY = 2.0


@pytest.fixture
async def nodes(redis_server: RedisServer, prefix: str) -> AsyncIterator[list[ServerProcess]]:
    options = {"redis": redis_server.url, "prefix": prefix, "member_expiry": EXPIRY}
    starting = [
        ServerProcess.start(free_port(), options, module="tests.brokers.node", is_fork=True)
        for _ in range(3)
    ]
    servers = list(await asyncio.gather(*starting))
    yield servers
    for server in servers:
        server.send_signal(signal.SIGCONT)
        await server.stop()


async def members(node: ServerProcess, channel: str) -> list[str]:
    reply = await node.request_root("GET", f"/members?channel={channel}")
    names: list[str] = json.loads(reply.body)
    return names


async def until_members(node: ServerProcess, expected: list[str]) -> None:
    async with async_timeout.timeout(PATIENCE):
        while await members(node, "news") != expected:
            await asyncio.sleep(0.01)


async def test_messages_pass_between_processes(
    nodes: list[ServerProcess], redis_server: RedisServer, prefix: str
) -> None:
    kinds: list[Any] = [clients.WebSocket, clients.XhrStreaming, clients.Xhr]
    people = [await kind.open(node) for kind, node in zip(kinds, nodes, strict=True)]
    for person, name in zip(people, ("ann", "bob", "cid"), strict=True):
        await tell(person, f"sub news {name}")
    async with RedisBroker(redis_server.url, prefix=prefix) as worker:
        for number in range(50):
            await worker.publish("news", str(number))
        for person in people:
            assert await person.messages(50) == [str(number) for number in range(50)]
        assert await worker.members("news") == {"ann", "bob", "cid"}
    await people[0].send("others news hello")
    for person in people[1:]:
        assert await person.messages(1) == ["hello"]
    assert await people[0].messages(1) == ["done"]
    await people[2].send("others news good morning")
    assert await people[0].messages(1) == ["good morning"]
    for node in nodes:
        assert await members(node, "news") == ["ann", "bob", "cid"]


async def test_members_of_a_killed_node_vanish_and_the_others_go_on(
    nodes: list[ServerProcess], redis_server: RedisServer, prefix: str
) -> None:
    people = [await WebSocket.open(node) for node in nodes]
    for person, name in zip(people, ("ann", "bob", "cid"), strict=True):
        await tell(person, f"sub news {name}")
    nodes[0].send_signal(signal.SIGKILL)
    await nodes[0].process.wait()
    killed = time.monotonic()
    await tell(people[1], "others news still here")
    assert await people[2].messages(1) == ["still here"]
    while (left := await members(nodes[1], "news")) == ["ann", "bob", "cid"]:
        assert time.monotonic() - killed < PATIENCE
        await asyncio.sleep(0.01)
    assert left == ["bob", "cid"]
    # Redis counts the time, so that a slow machine does not matter: nothing lasts longer than that
    keys = redis_server.cli("--raw", "KEYS", f"{prefix}*").split()
    assert len(keys) == 3
    for key in keys:
        assert 0 < int(redis_server.cli("PTTL", key)) <= EXPIRY * 1000
    # the others are refreshed
    await asyncio.sleep(EXPIRY * 1.5)
    assert await members(nodes[2], "news") == ["bob", "cid"]


async def test_node_that_was_held_up_is_there_again(
    nodes: list[ServerProcess], redis_server: RedisServer
) -> None:
    ann, bob = await WebSocket.open(nodes[0]), await WebSocket.open(nodes[1])
    await tell(ann, "sub news ann")
    await tell(bob, "sub news bob")
    nodes[0].send_signal(signal.SIGSTOP)
    await until_members(nodes[1], ["bob"])
    nodes[0].send_signal(signal.SIGCONT)
    await until_members(nodes[1], ["ann", "bob"])
    await tell(bob, "others news welcome back")
    assert await ann.messages(1) == ["welcome back"]


async def test_members_of_a_node_that_stops_vanish_at_once(
    nodes: list[ServerProcess], redis_server: RedisServer, prefix: str
) -> None:
    ann, bob = await WebSocket.open(nodes[0]), await WebSocket.open(nodes[1])
    await tell(ann, "sub news ann", "sub more ann")
    await tell(bob, "sub news bob")
    assert await nodes[0].stop() == 0
    assert await members(nodes[1], "news") == ["bob"]
    keys = redis_server.cli("--raw", "KEYS", f"{prefix}*").split()
    assert sorted(key.split(":")[1] for key in keys) == ["members", "nodes"]
    with contextlib.suppress(ConnectionError):
        await ann.leave()


async def test_data_that_redis_has_lost_is_told_again(
    nodes: list[ServerProcess], redis_server: RedisServer, prefix: str
) -> None:
    ann = await WebSocket.open(nodes[0])
    await tell(ann, "sub news ann")
    keys = redis_server.cli("--raw", "KEYS", f"{prefix}*").split()
    redis_server.command("DEL", *keys)
    assert await members(nodes[1], "news") == []
    await until_members(nodes[1], ["ann"])
