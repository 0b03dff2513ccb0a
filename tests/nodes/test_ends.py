"""Nodes that die, vanish, stop or begin anew, and what becomes of their sessions."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Iterator

import async_timeout
import pytest

from sockjs_aio.cluster.nodes.node_record import make_record
from tests.brokers.redis_server import RedisServer
from tests.clients import Xhr, XhrStreaming
from tests.nodes.conftest import Reach, RunNodes
from tests.nodes.processes import HTTP, SECRET, STREAMS
from tests.nodes.test_traffic import keys, opened_elsewhere
from tests.process import PATIENCE

pytestmark = pytest.mark.redis

INTERRUPTED = b'c[1002,"Connection interrupted"]'
RESTART = b'c[1012,"Service restart"]'


async def test_clients_of_a_node_that_dies_are_told_at_once(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    owner, other = run_nodes(2, expiry=60, lease=600)  # nothing here waits for that
    clients = [await opened_elsewhere(owner, other, reach, transport) for transport in HTTP]
    owner.kill()
    async with async_timeout.timeout(5):
        for client in clients:
            assert await client.frame() == INTERRUPTED, client.name
            if type(client) in STREAMS:
                assert await client.frame() == b"", client.name  # in an orderly way
            assert await client.send_payload('["x"]') == 404
    for client in clients:
        assert await reach(other).poll(client.path) == INTERRUPTED  # and no new session


async def test_requests_after_a_node_has_died_are_answered_at_once(
    run_nodes: RunNodes, reach: Reach
) -> None:
    owner, other = run_nodes(2, expiry=60, lease=600)
    target = reach(other)
    for name in ("a", "b", "c", "d", "e"):
        assert await reach(owner).poll(f"/0/{name}") == b"o"
    assert await target.post("/0/e", '["x"]') == 204  # it remembers the owner, and a connection
    owner.kill()
    async with async_timeout.timeout(5):
        assert await target.post("/0/a", '["x"]') == 404
        assert await target.poll("/0/b") == INTERRUPTED
        stream = await target.request("POST", "/0/c/xhr_streaming", b"")
        assert stream.body == b"h" * 2048 + b'\nc[1002,"Connection interrupted"]\n'
        assert (await target.request("GET", "/0/d/jsonp?c=f")).body == (
            b'/**/f("c[1002,\\"Connection interrupted\\"]");\r\n'
        )
        assert await target.post("/0/e", '["x"]') == 404
        for name in ("a", "b", "c", "d", "e"):
            assert await target.poll(f"/0/{name}") == INTERRUPTED
    assert f"nothing listens at {owner.url}" in other.said


async def test_a_node_that_has_begun_anew_does_not_take_the_place_of_the_old_one(
    run_nodes: RunNodes, reach: Reach
) -> None:
    owner, other = run_nodes(2, expiry=60, lease=600)
    target = reach(other)
    for name in ("a", "b", "c"):
        assert await reach(owner).poll(f"/0/{name}") == b"o"
    assert await target.post("/0/c", '["x"]') == 204
    owner.kill()
    owner.start()
    owner.until_ready()
    assert await target.post("/0/a", '["x"]') == 404
    assert await target.poll("/0/b") == INTERRUPTED
    assert await target.post("/0/c", '["x"]') == 404
    assert await target.poll("/0/b") == INTERRUPTED
    assert f"a different node than expected answers at {owner.url}" in other.said


async def test_what_waits_for_a_node_that_has_vanished_ends(
    run_nodes: RunNodes, reach: Reach
) -> None:
    """A process that is stopped keeps its connections, as a host that is gone seems to."""
    owner, other = run_nodes(2, {"disconnect_delay": 1}, expiry=2)
    clients = [await opened_elsewhere(owner, other, reach, transport) for transport in HTTP]
    owner.signal(signal.SIGSTOP)
    for client in clients:  # long before the heartbeat
        assert await client.frame() == INTERRUPTED, client.name
        assert await client.send_payload('["x"]') == 404
    # and if it comes back nobody has them: they expire
    assert await reach(other).poll(clients[0].path) == INTERRUPTED
    owner.signal(signal.SIGCONT)
    await owner.until("sessions", 0)


async def test_a_node_that_cannot_be_reached_is_told_of(run_nodes: RunNodes, reach: Reach) -> None:
    (other,) = run_nodes(1, timeout=0.5)
    with silent_address() as address:
        (owner,) = run_nodes(1, url=f"http://{address}")
        assert await reach(owner).poll("/0/a") == b"o"
        reply = await reach(other).request("POST", "/0/a/xhr_send", b'["x"]')
    assert (reply.status, reply.header("Retry-After")) == (503, "5")
    assert f"the node at http://{address} cannot be reached (no answer in time)" in other.said
    assert await reach(owner).post("/0/a", '["x"]') == 204  # it has not ended


@contextlib.contextmanager
def silent_address() -> Iterator[str]:
    """Return an address where attempts to connect are not answered: too many wait there."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield "{}:{}".format(*server.getsockname())


async def test_two_processes_at_one_url_are_told_of(run_nodes: RunNodes, reach: Reach) -> None:
    (first,) = run_nodes(1)
    (second,) = run_nodes(1, url=first.url)
    (other,) = run_nodes(1)
    assert await reach(second).poll("/0/a") == b"o"
    assert await reach(other).post("/0/a", '["x"]') == 404
    assert "or two nodes have the same url" in other.said
    assert first.said == ""


async def test_a_node_that_drains_tells_clients_wherever_they_come_in(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    owner, other = run_nodes(2, {"disconnect_delay": 1})
    clients = [await opened_elsewhere(owner, other, reach, transport) for transport in HTTP]
    await owner.end()
    for client in clients:
        assert await client.frame() == RESTART, client.name
        assert await reach(other).poll(client.path) == INTERRUPTED  # and no new session
    left = keys(own_redis, "*session*")
    assert len(left) == len(HTTP)
    assert all(0 < int(own_redis.cli("PTTL", key)) <= 60_000 for key in left)
    assert len(keys(own_redis, "*node*")) == 1
    assert await reach(other).poll("/0/next") == b"o"


async def test_clients_go_on_through_another_node_when_theirs_ends(
    run_nodes: RunNodes, reach: Reach
) -> None:
    owner, record = run_nodes(2)
    clients = [await opened_elsewhere(owner, record, reach, transport) for transport in HTTP]
    for client in clients:
        client.served = reach(owner)
    await record.end()
    for client in clients:
        is_stream = type(client) in STREAMS
        # the response ends in an orderly way
        assert await client.frame() == (b"" if is_stream else b"h"), client.name
        await client.send("while nobody listens")
        if is_stream:
            await client.connect()
        assert await client.messages(1) == ["while nobody listens"]


async def test_a_node_that_is_killed_ends_only_what_it_was_relaying(
    run_nodes: RunNodes, reach: Reach
) -> None:
    """For the owner, a client that hangs up while it polls or streams has lost its connection."""
    owner, other = run_nodes(2, {"disconnect_delay": 30})
    waiting = [await opened_elsewhere(owner, other, reach, transport) for transport in HTTP]
    between = await Xhr.open(reach(owner))
    assert await reach(other).post(between.path, '["before"]') == 204
    assert await between.messages(1) == ["before"]
    other.kill()
    await owner.until_ended("network", len(waiting))
    for client in waiting:
        assert await reach(owner).poll(client.path) == INTERRUPTED, client.name
    assert await reach(owner).post(between.path, '["after"]') == 204
    assert await between.messages(1) == ["after"]


async def test_ids_of_sessions_that_have_ended_are_not_opened_at_another_node(
    run_nodes: RunNodes, reach: Reach
) -> None:
    """Not before their lease has run out."""
    settings = {"disconnect_delay": 0.3, "ended_session_delay": 3}
    first, second, third = run_nodes(3, settings, lease=3, expiry=2)
    assert await reach(first).poll("/0/again") == b"o"
    assert await reach(third).post("/0/again", '["x"]') == 204
    await first.until("sessions", 0)
    for node in (third, second, first):
        assert await reach(node).poll("/0/again") == b'c[1002,"Session expired"]'
        assert await reach(node).post("/0/again", '["y"]') == 404
    client = XhrStreaming(reach(second), {})
    client.path = "/0/again"
    async with async_timeout.timeout(PATIENCE):
        while True:
            await client.connect()
            if await client.frame() == b"o":
                break
            await asyncio.sleep(0.2)
        # one that remembers the old owner is told better by it
        assert await reach(third).post("/0/again", '["z"]') == 204
        assert await client.messages(1) == ["z"]


async def test_messages_that_a_node_may_have_got_are_not_sent_again(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    """What has their session reads requests, and ends the connection without a word."""
    seen = []

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
        writer.close()

    (node,) = run_nodes(1, expiry=60, lease=600)
    server = await asyncio.start_server(read, "127.0.0.1", 0)
    url = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
    record = make_record(SECRET.encode(), "other", url, time.time())
    own_redis.cli("set", "sockjs:node:other", record)
    own_redis.cli("set", "sockjs:session:/echo/a", "other")
    own_redis.cli("set", "sockjs:session:/echo/b", "other")
    assert await reach(node).post("/0/a", '["x"]') == 404
    assert await reach(node).poll("/0/b") == INTERRUPTED
    assert seen == [b"/echo/0/a/xhr_send", b"/echo/0/b/xhr", b"/echo/0/b/xhr"]
    server.close()


async def test_what_a_node_refuses_as_it_ends_is_opened_by_another(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    """Also what it had claimed before it was told to end."""
    ending, other = run_nodes(2, {"disconnect_delay": 30}, timeout=20, expiry=60, lease=600)
    target = reach(ending)
    for name in ("waiting", "away"):
        assert await target.poll(f"/0/{name}") == b"o"
    waiting = asyncio.create_task(target.poll("/0/waiting"))
    wire = await target.wire()
    own_redis.signal(signal.SIGSTOP)
    wire.send("POST", "/echo/0/new/xhr", b"")
    await asyncio.sleep(0.2)
    ending.signal(signal.SIGTERM)
    assert await waiting == RESTART
    own_redis.signal(signal.SIGCONT)
    assert (await wire.reply()).status == 503
    assert await reach(other).poll("/0/new") == b"o"


async def test_a_send_finds_the_node_that_has_its_session_since_another_one_has_died(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    """With its messages, though they were meant to go to that other one first."""
    first, second, other = run_nodes(3, expiry=60, lease=600)
    assert await reach(first).poll("/0/a") == b"o"
    assert await reach(other).post("/0/a", '["to the first"]') == 204
    first.kill()
    assert await reach(second).poll("/0/a") == INTERRUPTED
    own_redis.cli("del", "sockjs:session:/echo/a")  # as if the lease had run out
    assert await reach(second).poll("/0/a") == b"o"
    assert await reach(other).post("/0/a", '["to the second"]') == 204
    assert await reach(second).poll("/0/a") == b'a["to the second"]'


@pytest.mark.parametrize("has_begun", [False, True])
async def test_what_waits_for_a_node_that_writes_nothing_is_given_up(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer, has_begun: bool
) -> None:
    """Something between the nodes may acknowledge for it; heartbeats would come otherwise."""
    ended, asked = [], []

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.partition(b" HTTP")[0].rpartition(b"/")[2])
        if has_begun:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\no\n\r\n")
        ended.append(await reader.read() == b"")
        writer.close()

    settings = {"heartbeat_delay": 0.5, "authorize_timeout": 0.5}
    (node,) = run_nodes(1, settings, expiry=60, lease=600)
    server = await asyncio.start_server(read, "127.0.0.1", 0)
    url = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
    record = make_record(SECRET.encode(), "other", url, time.time())
    own_redis.cli("set", "sockjs:node:other", record)
    own_redis.cli("set", "sockjs:session:/echo/a", "other")
    async with async_timeout.timeout(PATIENCE):
        stream = await reach(node).request("POST", "/0/a/xhr_streaming", b"")
        if has_begun:
            assert (stream.status, stream.body) == (200, b"o\n")  # and its end, in an orderly way
        else:
            assert (stream.status, stream.header("Retry-After")) == (503, "5")
            wires = [await reach(node).wire() for _ in range(2)]
            for wire, name in zip(wires, ("xhr", "xhr_send"), strict=True):
                wire.send("POST", f"/echo/0/a/{name}", b'["x"]')
            for wire in wires:
                reply = await wire.reply()
                assert (reply.status, reply.header("Retry-After")) == (503, "5")
            # the send, and the question that nobody answers
            assert sorted(asked) == [b"xhr", b"xhr_send", b"xhr_send", b"xhr_streaming"]
        while len(ended) < 1:
            await asyncio.sleep(0.01)
    server.close()


async def test_a_send_may_wait_for_longer_at_a_node_that_is_there(
    run_nodes: RunNodes, reach: Reach
) -> None:
    settings = {"heartbeat_delay": 0.4, "authorize_timeout": 0.2, "receive_queue_limit": 10}
    owner, other = run_nodes(2, settings, expiry=60, lease=600)
    assert await reach(owner).poll("/0/a") == b"o"
    for text in ("wait 1.6", "xxxxxxxxx", "yyyyyyyyy"):  # the last one waits for room
        assert await reach(other).post("/0/a", f'["{text}"]') == 204
    assert (await reach(owner).poll("/0/a")).startswith(b'a["xxxxxxxxx"')
