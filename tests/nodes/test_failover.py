"""Nodes whose Redis changes its role behind a proxy, or refuses all that they ask."""

import asyncio
import itertools
import json

import async_timeout
import pytest

from tests.brokers.proxy import Proxy
from tests.brokers.redis_server import RedisServer, swap
from tests.brokers.sentinel_server import SentinelServer
from tests.nodes.conftest import Reach, RunNodes
from tests.nodes.test_without_redis import opened
from tests.process import PATIENCE

pytestmark = pytest.mark.redis


async def test_nodes_leave_a_server_that_has_become_a_replica(
    run_nodes: RunNodes,
    reach: Reach,
    own_redis: RedisServer,
    other_redis: RedisServer,
    proxy: Proxy,
) -> None:
    nodes = await asyncio.to_thread(
        run_nodes, 2, {"disconnect_delay": 30}, redis=proxy.url, expiry=1
    )
    first, second = (reach(node) for node in nodes)
    assert await first.poll("/0/a") == b"o"
    assert await second.post("/0/a", '["x"]') == 204
    servers = [own_redis, other_redis]
    for round_, text in enumerate(("y", "z")):
        swap(*servers)
        servers.reverse()
        proxy.target = servers[0].port
        for node in nodes:
            while node.said.count("it is a replica") == round_:
                await asyncio.sleep(0.01)
            await node.until("state", "connected")
        assert await second.post("/0/a", f'["{text}"]') == 204
        await opened(first, f"/0/{text}")
        assert await second.post(f"/0/{text}", '["x"]') == 204
    servers[1].kill()  # nobody needs it any more
    assert await first.poll("/0/a") == b'a["x","y","z"]'
    await opened(second, "/0/last")


async def test_nodes_go_on_at_the_primary_that_sentinel_names(
    run_nodes: RunNodes,
    reach: Reach,
    own_redis: RedisServer,
    other_redis: RedisServer,
    sentinel: SentinelServer,
) -> None:
    sentinel.watch(own_redis.port)
    nodes = await asyncio.to_thread(
        run_nodes, 2, {"disconnect_delay": 30}, redis=sentinel.url, expiry=1, lease=3
    )
    first, second = (reach(node) for node in nodes)
    assert await first.poll("/0/a") == b"o"
    await asyncio.to_thread(sentinel.until_it_knows_a_replica)
    sent: list[str] = []

    async def send() -> None:
        sent.append(str(len(sent)))
        assert await second.post("/0/a", json.dumps(sent[-1:])) == 204

    await send()
    own_redis.kill()
    for node in nodes:
        await node.until("state", "reconnecting")
    await send()
    for node in nodes:
        while (await node.stats())["state"] != "connected":
            await send()
            await asyncio.sleep(0.01)
    await opened(first, "/0/new")
    assert await second.post("/0/new", '["x"]') == 204
    key = "sockjs:session:/echo/a"
    before = left = int(other_redis.cli("PTTL", key))
    while left <= before:  # until the claim is renewed, even if it has just been
        await asyncio.sleep(0.01)
        before, left = left, int(other_redis.cli("PTTL", key))
    assert json.loads((await first.poll("/0/a"))[1:]) == sent


async def test_nodes_leave_a_primary_that_was_replaced_although_it_still_works(
    run_nodes: RunNodes,
    reach: Reach,
    own_redis: RedisServer,
    other_redis: RedisServer,
    sentinel: SentinelServer,
) -> None:
    sentinel.watch(own_redis.port)
    (node,) = await asyncio.to_thread(run_nodes, 1, redis=sentinel.url, expiry=1)
    target = reach(node)
    await asyncio.to_thread(sentinel.fail_over)
    for number in itertools.count():
        await opened(target, f"/0/{number}")
        key = f"sockjs:session:/echo/{number}"
        if (other_redis.cli("EXISTS", key), own_redis.cli("EXISTS", key)) == ("1", "0"):
            break
        await asyncio.sleep(0.1)
    assert b"role:master" in own_redis.command("INFO", "replication"), "it does not know yet"
    while other_redis.cli("KEYS", "*session*").count("sockjs") <= number:
        await asyncio.sleep(0.01)  # until it has all claims, also those of the last moment before


async def test_claims_that_a_new_primary_has_not_got_are_reported_to_it_at_once(
    run_nodes: RunNodes,
    reach: Reach,
    own_redis: RedisServer,
    other_redis: RedisServer,
    proxy: Proxy,
) -> None:
    """Without Sentinel, as behind the host name of a service in a cloud."""
    (node,) = await asyncio.to_thread(run_nodes, 1, redis=proxy.url, expiry=2, lease=600)
    while other_redis.cli("KEYS", "*node*") == "":
        await asyncio.sleep(0.01)
    other_redis.follow(None)  # what comes from now on is lost
    await opened(reach(node), "/0/a")
    own_redis.kill()
    proxy.target = other_redis.port
    async with async_timeout.timeout(PATIENCE):
        while other_redis.cli("EXISTS", "sockjs:session:/echo/a") == "0":
            await asyncio.sleep(0.05)
    assert "has lost its data" not in node.said, "it knows the node"


async def test_sessions_of_all_nodes_are_told_of_a_gap(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    nodes = await asyncio.to_thread(run_nodes, 2, has_broker=True)
    first, second = (reach(node) for node in nodes)
    for name, target in (("a", first), ("b", second)):
        assert await target.poll(f"/0/{name}") == b"o"
        assert await target.post(f"/0/{name}", '["subscribe news"]') == 204
        assert await target.poll(f"/0/{name}") == b'a["subscribed"]'
    own_redis.cli("CLIENT", "KILL", "TYPE", "pubsub")
    assert await second.poll("/0/a") == await first.poll("/0/b") == b'a["gap news"]'


async def test_nodes_try_again_while_redis_refuses_their_login(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer, proxy: Proxy
) -> None:
    own_redis.cli("ACL", "SETUSER", "node", "on", ">geheim", "~*", "&*", "+@all")
    url = proxy.url.replace("//", "//node:geheim@")
    (node,) = await asyncio.to_thread(run_nodes, 1, redis=url, expiry=1)
    target = reach(node)
    await opened(target, "/0/a")
    own_redis.cli("ACL", "SETUSER", "node", "off")
    own_redis.cli("CLIENT", "KILL", "USER", "node")
    await node.until_said("it refuses the login")
    assert "geheim" not in node.said
    own_redis.cli("ACL", "SETUSER", "node", "on")
    await node.until("state", "connected")
    await opened(target, "/0/b")
