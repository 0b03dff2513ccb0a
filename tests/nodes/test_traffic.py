"""Requests that come in at another node than their session's."""

import asyncio
from typing import Any

import async_timeout
import pytest

from tests.brokers.redis_server import RedisServer
from tests.clients import Client, XhrStreaming
from tests.nodes.conftest import Reach, RunNodes
from tests.nodes.processes import ALL, HTTP, STREAMS, Node
from tests.process import PATIENCE
from tests.wire import Reply

pytestmark = pytest.mark.redis

each = pytest.mark.parametrize("transport", ALL, ids=lambda client: client.name)
each_http = pytest.mark.parametrize("transport", HTTP, ids=lambda client: client.name)
each_stream = pytest.mark.parametrize("transport", STREAMS, ids=lambda client: client.name)


async def opened(nodes: list[Node]) -> int:
    """Return how many sessions there have been."""
    return sum([(await node.stats())["opened"] for node in nodes])


@pytest.mark.parametrize("count", [2, 3])
@each
async def test_messages_pass_in_order_whichever_nodes_the_requests_come_in_at(
    trio: list[Node], reach: Reach, transport: type[Client], count: int
) -> None:
    nodes = trio[:count]
    for first in range(count):
        client: Any = await transport.open(reach(*nodes, first=first))
        sent = [f"{number} \u00fc \U0001f600 % & \u2028" for number in range(12)]
        for text in sent:
            await client.send(text)
        got: list[str] = []
        while len(got) < 12:
            got += await client.messages(1)
        assert got == sent
        await client.leave()


@each_http
async def test_a_session_is_with_one_node_only(
    trio: list[Node], reach: Reach, transport: type[Client]
) -> None:
    before = await opened(trio)
    client: Any = await transport.open(reach(*trio))
    for number in range(3):
        await client.send(str(number))
    assert len(await client.messages(3)) == 3
    assert await opened(trio) == before + 1
    await client.leave()


@each_stream
async def test_a_full_stream_goes_on_at_another_node(
    trio: list[Node], reach: Reach, transport: type[Client]
) -> None:
    client: Any = await transport.open(reach(*trio))
    for number in range(4):
        await client.send(f"{number}" + "x" * 4096)
        assert (await client.messages(1))[0][0] == str(number)
        assert await client.frame() == b""
        await client.connect()


@each_http
async def test_a_body_of_a_megabyte_comes_back(
    trio: list[Node], reach: Reach, transport: type[Client]
) -> None:
    client: Any = await transport.open(reach(*trio))
    message = "x" * 1_000_000
    await client.send(message)
    await client.send("y")
    assert await client.messages(1) == [message]


async def opened_elsewhere(owner: Node, other: Node, reach: Reach, transport: Any) -> Any:
    """Open a session at one node, and have the next receiving request at another one."""
    client = transport(reach(owner), {})
    assert await reach(owner).poll(client.path) == b"o"
    client.served = reach(other)
    await client.connect()
    await owner.until_receiving(client)
    return client


@pytest.mark.parametrize("how", ["leave", "abort"])
@each_http
async def test_a_client_that_leaves_is_noticed_at_the_owner(
    trio: list[Node], reach: Reach, transport: type[Client], how: str
) -> None:
    owner, other, _ = trio
    ends = (await owner.stats())["ends"].get("network", 0)
    client = await opened_elsewhere(owner, other, reach, transport)
    if how == "leave":
        await client.leave()
    else:
        client.abort()
    await owner.until_ended("network", ends + 1)


async def test_addresses_are_verified_as_the_node_sees_them_where_a_request_comes_in(
    run_nodes: RunNodes, reach: Reach
) -> None:
    owner, other = run_nodes(2, {"verify_ip": True})

    async def poll_from(address: str, node: Node) -> Reply:
        wire = await reach(node).wire(local_addr=(address, 0))
        try:
            reply: Reply = await wire.request("POST", "/echo/0/abc/xhr", b"")
            return reply
        finally:
            wire.close()

    assert (await poll_from("127.0.0.2", owner)).body == b"o\n"
    stranger = await poll_from("127.0.0.3", other)
    assert (stranger.status, stranger.body) == (403, b"This session belongs to another address.\n")
    assert await reach(other).post("/0/abc", '["x"]') == 403
    waiting = asyncio.create_task(poll_from("127.0.0.2", other))
    await other.until("relayed", 3)
    await owner.end()
    assert (await waiting).body == b'c[1012,"Service restart"]\n'


async def test_of_nodes_that_race_for_an_id_one_opens_the_session(
    trio: list[Node], reach: Reach
) -> None:
    targets = [reach(node) for node in trio]
    before = await opened(trio)
    for number in range(20):
        path = f"/race/{number}"
        polls = [asyncio.create_task(target.poll(path)) for target in targets]
        await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
        while not all(poll.done() for poll in polls):
            assert await targets[number % 3].post(path, '["x"]') == 204
            await asyncio.wait(polls, timeout=0.05)
        frames = [poll.result() for poll in polls]
        assert frames.count(b"o") == 1, frames
        assert await opened(trio) == before + number + 1


async def test_connections_between_nodes_are_used_again(run_nodes: RunNodes, reach: Reach) -> None:
    owner, other = run_nodes(2)
    target = reach(other)
    assert await reach(owner).poll("/0/kept") == b"o"
    for number in range(30):
        assert await target.post("/0/kept", f'["{number}"]') == 204
        assert await target.poll("/0/kept") == f'a["{number}"]'.encode()
    assert (await other.stats())["relayed"] == 60
    assert (await owner.stats())["connections"] == 1


async def test_services_of_parts_of_an_application_are_others(
    trio: list[Node], reach: Reach, redis_server: RedisServer
) -> None:
    """The same id in two services is two sessions."""
    one, two = reach(trio[0]), reach(trio[1])
    assert await one.poll("/0/parted") == b"o"
    one.prefix = two.prefix = "/part/of/it"
    assert await two.poll("/0/parted") == b"o"
    assert await one.post("/0/parted", '["to the part"]') == 204
    assert await one.poll("/0/parted") == b'a["to the part"]'
    endings = {key.partition("session:")[2] for key in keys(redis_server, "*parted")}
    assert endings == {"/echo/parted", "/part/of/it/parted"}


# What is told to Redis.


async def test_only_sessions_that_several_requests_need_are_claimed(
    trio: list[Node], reach: Reach, redis_server: RedisServer
) -> None:
    node = reach(trio[0])
    before = keys(redis_server, "*unclaimed*")
    async with node.websocket("/0/unclaimed/websocket") as socket:
        assert await socket.receive_str() == "o"
        await reach(trio[1]).request("OPTIONS", "/0/unclaimed/xhr")
        assert (await node.request("PUT", "/0/unclaimed/xhr")).status == 405
        assert (await node.request("POST", "/0/unclaimed.x/xhr")).status == 404
        assert (await node.request("POST", "/0.x/unclaimed/xhr")).status == 404
        assert await node.post("/0/unclaimed", '["x"]') == 404
        assert keys(redis_server, "*unclaimed*") == before == []
    assert await node.poll("/0/unclaimed") == b"o"
    (key,) = keys(redis_server, "*unclaimed*")
    assert key.endswith(":session:/echo/unclaimed")


async def test_a_request_at_the_owner_asks_redis_nothing(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    # nodes without other sessions, which have nothing to refresh or to remove meanwhile
    owner, other = (reach(node) for node in run_nodes(2, expiry=600, lease=6000))
    assert await owner.poll("/0/quiet") == b"o"

    async def talk(node: Any) -> int:
        own_redis.cli("config", "resetstat")
        for _ in range(50):
            assert await node.post("/0/quiet", '["x"]') == 204
            assert await node.poll("/0/quiet") == b'a["x"]'
        return questions(own_redis)

    assert await talk(owner) == 0
    assert await talk(other) == 1  # and then it remembers who has the session


def keys(redis: RedisServer, pattern: str) -> list[str]:
    return redis.cli("keys", pattern).split()


def questions(redis: RedisServer) -> int:
    """Return how many scripts Redis has run, be it for requests or to refresh sessions."""
    lines = redis.cli("info", "commandstats").splitlines()
    counts = [line for line in lines if line.startswith("cmdstat_evalsha:")]
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in counts)


async def test_a_refused_opening_leaves_no_claim(
    trio: list[Node], reach: Reach, redis_server: RedisServer
) -> None:
    node = reach(trio[0])
    assert (await node.request("POST", "/0/refused/xhr?key=wrong", b"")).status == 403
    assert (await node.request("GET", "/0/refused2/jsonp")).status == 500
    async with async_timeout.timeout(PATIENCE):
        while keys(redis_server, "*refused*"):
            await asyncio.sleep(0.05)
    assert await reach(trio[1]).poll("/0/refused") == b"o"


async def test_a_node_without_room_finds_sessions_elsewhere_and_claims_none(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    owner, full = run_nodes(2, {"max_sessions": 1})
    assert await reach(owner).poll("/0/a") == b"o"
    assert await reach(full).poll("/0/b") == b"o"
    assert (await reach(full).request("POST", "/0/c/xhr", b"")).status == 503
    assert keys(own_redis, "*:c") == []
    assert await reach(full).post("/0/a", '["x"]') == 204
    assert await reach(full).poll("/0/a") == b'a["x"]'


async def test_claims_outlast_their_lease_while_the_session_lasts_and_end_with_it(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    settings = {"disconnect_delay": 0.5}
    owner, other = run_nodes(2, settings, lease=2.5, expiry=2)
    client = await opened_elsewhere(owner, other, reach, XhrStreaming)
    async with async_timeout.timeout(PATIENCE):
        claimant = own_redis.cli("get", "sockjs:session:/echo/" + client.path[5:])
        for _ in range(10):  # 4 s, which is more than a lease
            await asyncio.sleep(0.4)
            assert own_redis.cli("get", "sockjs:session:/echo/" + client.path[5:]) == claimant
        await client.send("still here")
        assert await client.messages(1) == ["still here"]
        await client.leave()
        await owner.until("claims", 0)
        while keys(own_redis, "*session*"):  # until the lease has run out
            await asyncio.sleep(0.1)


async def test_late_requests_for_sessions_of_a_node_that_has_left_are_told_of_the_end(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    """As those of a client that has stalled while its node was replaced."""
    first, second = run_nodes(2, {"disconnect_delay": 0.5})
    ids = [f"/0/{number}" for number in range(5)]
    for path in ids:
        assert await reach(first).poll(path) == b"o"
    await first.end()
    for path in ids:
        assert await reach(second).post(path, '["x"]') == 404
        assert await reach(second).poll(path) == b'c[1002,"Connection interrupted"]'
    assert (await second.stats())["opened"] == 0
    assert int(own_redis.cli("pttl", "sockjs:session:/echo/0")) > 0, "it is forgotten in time"


async def test_ends_leave_nothing_in_redis(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    first, second = run_nodes(2, {"disconnect_delay": 3}, lease=9)
    target = reach(first)
    frames = await asyncio.gather(*(target.poll(f"/0/{number}") for number in range(250)))
    assert frames == [b"o"] * 250
    assert len(keys(own_redis, "*session*")) == 250
    await first.end()
    assert len(keys(own_redis, "*node*")) == 1
    await second.end()
    async with async_timeout.timeout(PATIENCE):
        while keys(own_redis, "*session*"):  # which tell late requests until then
            await asyncio.sleep(0.1)
    assert keys(own_redis, "*") == ["sockjs:server"], "so that the next ones need not wait"


async def test_the_log_does_not_blame_the_balancer_where_nodes_find_sessions(
    run_nodes: RunNodes, reach: Reach
) -> None:
    (node,) = run_nodes(1)
    for number in range(20):
        assert await reach(node).post(f"/0/{number}", '["x"]') == 404
    assert "balancer" not in node.said
