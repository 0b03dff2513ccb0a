"""Redis that dies, hangs or forgets, under nodes with sessions."""

import asyncio
import json
import signal

import async_timeout
import pytest

from tests.brokers.proxy import Proxy
from tests.brokers.redis_server import RedisServer
from tests.nodes.conftest import Reach, RunNodes
from tests.nodes.processes import ALL, Node, ScatteredXhr
from tests.nodes.test_traffic import keys
from tests.process import PATIENCE
from tests.target import Target

pytestmark = pytest.mark.redis


async def health(node: Node) -> dict[str, object]:
    reply = await node.ask("/health")
    assert reply.status == 200
    answer: dict[str, object] = json.loads(reply.body)
    return answer


async def opened(target: Target, path: str) -> None:
    """Open a session as soon as that is possible again."""
    async with async_timeout.timeout(PATIENCE):
        while True:
            reply = await target.request("POST", path + "/xhr", b"")
            if reply.status == 200:
                assert reply.body == b"o\n"
                return
            assert (reply.status, reply.header("Retry-After")) == (503, "5")
            await asyncio.sleep(0.05)


async def test_sessions_go_on_without_redis(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    nodes = run_nodes(2, expiry=2)
    clients = [await transport.open(reach(*nodes)) for transport in ALL]
    for client in clients:
        await client.send("x")
        await client.send("y")  # either node knows it now
        assert await client.messages(2) == ["x", "y"]
    own_redis.kill()
    for number in range(4):
        for client in clients:
            await client.send(str(number))
            assert await client.messages(1) == [str(number)], client.name


async def test_what_is_known_goes_on_without_redis_and_the_rest_is_refused(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    owner, other, third = run_nodes(3, {"disconnect_delay": 30}, expiry=2)
    assert (await health(owner))["nodes"] == "connected"
    assert await reach(owner).poll("/0/a") == b"o"
    assert await reach(other).post("/0/a", '["x"]') == 204
    own_redis.kill()
    await other.until("state", "reconnecting")
    assert (await health(other))["nodes"] == "reconnecting"
    assert await reach(other).post("/0/a", '["y"]') == 204  # known
    assert await reach(owner).poll("/0/a") == b'a["x","y"]'  # here
    reply = await reach(third).request("POST", "/0/a/xhr_send", b'["z"]')
    assert (reply.status, reply.header("Retry-After")) == (503, "5")
    for end in ("/xhr", "/xhr_streaming"):
        reply = await reach(third).request("POST", "/0/b" + end, b"")
        assert (reply.status, reply.header("Retry-After")) == (503, "5")
    async with reach(third).websocket("/0/b/websocket") as websocket:
        assert await websocket.receive_str() == "o"
    own_redis.start()
    await third.until("state", "connected")
    assert await reach(third).post("/0/a", '["z"]') == 204  # it was claimed again
    assert await reach(owner).poll("/0/a") == b'a["z"]'
    assert len(keys(own_redis, "*session*")) == 1
    for node in (owner, other, third):
        assert node.said.count("until it answers") == 1
        assert node.said.count("connected again") == 1


async def test_a_redis_that_hangs_holds_requests_up_for_a_moment_only(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    owner, other = run_nodes(2, {"disconnect_delay": 30}, expiry=5, timeout=0.5)
    assert await reach(owner).poll("/0/a") == b"o"
    own_redis.signal(signal.SIGSTOP)
    async with async_timeout.timeout(5):
        replies = [await reach(other).request("POST", "/0/a/xhr_send", b'["x"]') for _ in range(20)]
    assert [reply.status for reply in replies] == [503] * 20
    assert await reach(owner).post("/0/a", '["x"]') == 204
    own_redis.signal(signal.SIGCONT)
    await other.until("state", "connected")
    assert await reach(other).poll("/0/a") == b'a["x"]'


async def test_clients_that_leave_before_their_question_is_answered_disturb_nobody(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    (node,) = run_nodes(1, {"disconnect_delay": 60}, timeout=20, expiry=20)
    target = reach(node)
    own_redis.signal(signal.SIGSTOP)
    wires = [await target.wire() for _ in range(300)]
    for number, wire in enumerate(wires):
        wire.send("POST", f"/echo/0/{number}/xhr", b"")
    await asyncio.sleep(0.3)
    for wire in wires:
        wire.abort()
    await asyncio.sleep(0.3)
    own_redis.signal(signal.SIGCONT)
    names = [f"/1/new{number}" for number in range(300)]
    assert await asyncio.gather(*(target.poll(name) for name in names)) == [b"o"] * 300
    async with async_timeout.timeout(PATIENCE):
        while len(keys(own_redis, "*session*")) != 300:
            await asyncio.sleep(0.1)
    assert node.said == ""


async def test_a_redis_that_forgets_all_is_told_again(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    owner, other = run_nodes(2, {"disconnect_delay": 30}, expiry=2)
    names = [f"/0/{number}" for number in range(300)]
    target = reach(owner)
    frames = await asyncio.gather(*(target.poll(name) for name in names))
    assert frames == [b"o"] * 300
    own_redis.cli("flushall")
    async with async_timeout.timeout(PATIENCE):
        while (status := await reach(other).post("/0/299", '["x"]')) != 204:
            assert status == 503  # not 404: nobody knows
            await asyncio.sleep(0.05)
        await other.until("state", "connected")
    assert len(keys(own_redis, "*session*")) == 300
    assert "has lost its data" in other.said
    assert await reach(other).post("/0/nobody", '["x"]') == 404


async def test_a_node_starts_without_redis(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    own_redis.kill()
    (node,) = run_nodes(1, expiry=1, is_known=False)
    assert (await health(node))["nodes"] == "connecting"
    async with reach(node).websocket() as websocket:
        assert await websocket.receive_str() == "o"
    assert (await reach(node).request("POST", "/0/a/xhr", b"")).status == 503
    own_redis.start()
    await opened(reach(node), "/0/a")


async def test_a_node_that_was_held_up_goes_on_as_if_nothing_had_been(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    owner, other = run_nodes(2, {"disconnect_delay": 30}, expiry=1)
    client = await ScatteredXhr.open(reach(owner))
    await client.send("block 2.5")
    assert await client.messages(2) == ["blocking", "blocked"]
    assert await reach(other).post(client.path, '["found"]') == 204
    assert await client.messages(1) == ["found"]
    await opened(reach(owner), "/0/b")
    assert owner.said == other.said == ""


async def test_a_node_that_alone_cannot_reach_redis_goes_on_with_its_own_clients(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer, proxy: Proxy
) -> None:
    cut_off, other = [
        (await asyncio.to_thread(run_nodes, 1, {"disconnect_delay": 60}, redis=url, expiry=1))[0]
        for url in (proxy.url, own_redis.url)
    ]
    assert await reach(cut_off).poll("/0/a") == b"o"
    assert await reach(other).post("/0/a", '["x"]') == 204
    proxy.target, port = 1, proxy.target
    proxy.cut()
    await other.until_said(f"the node at {cut_off.url} has ended or stopped reporting")
    assert await reach(other).poll("/0/a") == b'c[1002,"Connection interrupted"]'
    assert await reach(cut_off).post("/0/a", '["y"]') == 204
    assert await reach(cut_off).poll("/0/a") == b'a["x","y"]'
    proxy.target = port
    await cut_off.until("state", "connected")
    while (status := await reach(other).post("/0/a", '["z"]')) != 204:
        assert status in (404, 503)  # until it has heard of the node again
        await asyncio.sleep(0.05)
    assert await reach(cut_off).poll("/0/a") == b'a["z"]'


async def test_nodes_end_without_redis(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    (node,) = run_nodes(1)
    assert await reach(node).poll("/0/a") == b"o"
    own_redis.kill()
    await node.end()


async def test_openings_that_are_refused_for_want_of_redis_leave_nothing_behind(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    (node,) = run_nodes(1, expiry=60, lease=600)
    own_redis.kill()
    for number in range(20):
        reply = await reach(node).request("POST", f"/0/{number}/xhr", b"")
        assert reply.status == 503
    assert (await node.stats())["claims"] == 0
