"""Nodes whose Redis changes its role behind a proxy, or refuses all that they ask."""

import asyncio

import pytest

from tests.brokers.proxy import Proxy
from tests.brokers.redis_server import RedisServer, swap
from tests.nodes.conftest import Reach, RunNodes
from tests.nodes.test_without_redis import opened

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
