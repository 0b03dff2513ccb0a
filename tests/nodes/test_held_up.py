"""Nodes that are stopped for longer than they are taken for alive, and what they do then."""

import asyncio
import signal
from typing import Any

import async_timeout
import pytest

from tests.brokers.redis_server import RedisServer
from tests.nodes.conftest import Reach, RunNodes
from tests.nodes.processes import HTTP, Node
from tests.nodes.test_ends import INTERRUPTED
from tests.nodes.test_traffic import keys
from tests.process import PATIENCE

# over TLS nobody can connect to a node that is stopped, so that requests could wait there for it
pytestmark = [pytest.mark.redis, pytest.mark.not_over("tls")]

LATE_REQUESTS = 20


async def taken_over(redis: RedisServer, other: Node, reach: Reach, path: str) -> None:
    """Have a session of a node that is stopped opened by `other`, as if its lease had run out."""
    async with async_timeout.timeout(PATIENCE):
        while (await reach(other).request("POST", path + "/xhr", b"")).status == 503:
            await asyncio.sleep(0.05)  # it may have missed Redis for a moment
        assert await reach(other).poll(path) == INTERRUPTED
        redis.cli("del", f"sockjs:session:/echo/{path.rsplit('/', 1)[1]}")
        assert await reach(other).poll(path) == b"o"


async def until_nodes(redis: RedisServer, count: int) -> None:
    """Wait until Redis knows so many nodes."""
    async with async_timeout.timeout(PATIENCE):
        while len(keys(redis, "*node*")) != count:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("transport", HTTP, ids=lambda transport: transport.name)
async def test_a_node_that_was_stopped_answers_nothing_for_a_session_that_another_has_opened(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer, transport: Any
) -> None:
    """It looks at its sessions again every 200 s, and is asked as soon as it goes on."""
    owner, other = run_nodes(2, {"disconnect_delay": 60}, expiry=1, lease=600)
    receiving = transport(reach(owner), {})
    await receiving.connect()
    assert await receiving.frame() == b"o"
    await owner.until_receiving(receiving)
    owner.signal(signal.SIGSTOP)
    await taken_over(own_redis, other, reach, receiving.path)
    wires = [await reach(owner).wire() for _ in range(LATE_REQUESTS)]
    for wire in wires:
        wire.send("POST", f"/echo{receiving.path}/xhr_send", b'["late"]')
    owner.signal(signal.SIGCONT)
    assert [(await wire.reply()).status for wire in wires] == [204] * LATE_REQUESTS
    assert await receiving.frame() == INTERRUPTED
    expected = b"a[" + b",".join([b'"late"'] * LATE_REQUESTS) + b"]"
    assert await reach(owner).poll(receiving.path) == expected  # from the other node
    assert (await other.stats())["sessions"] == 1


async def test_requests_that_another_node_sends_to_one_that_was_stopped_find_the_new_owner(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    """Also those of a node that has not heard so far that the first owner was taken for dead."""
    owner, other = run_nodes(2, {"disconnect_delay": 60}, expiry=1, lease=600)
    (third,) = run_nodes(1, {"disconnect_delay": 60}, expiry=30, lease=600)
    assert await reach(owner).poll("/0/a") == b"o"
    assert await reach(third).post("/0/a", '["it remembers the owner"]') == 204
    third.signal(signal.SIGSTOP)
    owner.signal(signal.SIGSTOP)
    await taken_over(own_redis, other, reach, "/0/a")
    wires = [await reach(third).wire() for _ in range(3)]
    for wire in wires:
        wire.send("POST", "/echo/0/a/xhr_send", b'["late"]')
    third.signal(signal.SIGCONT)
    owner.signal(signal.SIGCONT)
    assert [(await wire.reply()).status for wire in wires] == [204] * 3
    assert await reach(third).poll("/0/a") == b'a["late","late","late"]'


async def test_a_node_that_was_stopped_keeps_what_nobody_has_asked_for(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    owner, other = run_nodes(2, {"disconnect_delay": 60}, expiry=1, lease=600)
    assert await reach(owner).poll("/0/a") == b"o"
    owner.signal(signal.SIGSTOP)
    await until_nodes(own_redis, 1)
    owner.signal(signal.SIGCONT)
    await until_nodes(own_redis, 2)
    assert await reach(other).post("/0/a", '["found"]') == 204
    assert await reach(owner).poll("/0/a") == b'a["found"]'


async def test_a_node_that_is_stopped_while_it_asks_redis_does_not_take_redis_for_dead(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    settings = {"disconnect_delay": 60, "heartbeat_delay": 60}
    owner, other = run_nodes(2, settings, expiry=1, lease=600, timeout=0.3)
    assert await reach(owner).poll("/0/a") == b"o"
    await asyncio.sleep(0.5)
    own_redis.signal(signal.SIGSTOP)
    await asyncio.sleep(0.3)  # it looks every 0.2 s
    owner.signal(signal.SIGSTOP)
    own_redis.signal(signal.SIGCONT)
    await taken_over(own_redis, other, reach, "/0/a")
    wire = await reach(owner).wire()
    wire.send("POST", "/echo/0/a/xhr_send", b'["late"]')
    owner.signal(signal.SIGCONT)
    assert (await wire.reply()).status == 204
    assert await reach(other).poll("/0/a") == b'a["late"]'
    assert owner.said == ""


async def test_a_node_that_was_stopped_goes_on_without_redis(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    (owner,) = run_nodes(1, {"disconnect_delay": 60}, expiry=1, lease=600, timeout=0.5)
    assert await reach(owner).poll("/0/a") == b"o"
    owner.signal(signal.SIGSTOP)
    own_redis.signal(signal.SIGSTOP)
    await asyncio.sleep(1.2)
    owner.signal(signal.SIGCONT)
    async with async_timeout.timeout(5):
        assert await reach(owner).post("/0/a", '["x"]') == 204
        assert await reach(owner).poll("/0/a") == b'a["x"]'
    own_redis.signal(signal.SIGCONT)
