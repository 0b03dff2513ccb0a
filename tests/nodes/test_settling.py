"""Redis that lacks claims, because it has lost its data or was replaced, and who may open sessions.

Until all nodes that live have reported their claims again, no node takes one of them.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeAlias

import async_timeout
import pytest

from sockjs_aio.cluster.nodes.directory import Directory
from sockjs_aio.cluster.nodes.redis_access import DirectoryUnavailableError
from tests.brokers.proxy import Proxy
from tests.brokers.redis_server import RedisServer, note_known
from tests.brokers.sentinel_server import SentinelServer
from tests.nodes.conftest import Reach, RunNodes
from tests.nodes.test_without_redis import opened
from tests.ports import free_port
from tests.process import PATIENCE

pytestmark = pytest.mark.redis

Make: TypeAlias = Callable[..., Directory]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Make what a node knows of Redis: ``make("name", url)``."""
    made: list[Directory] = []

    def make(own: str, url: str, *, expiry: float = 60) -> Directory:
        made.append(
            Directory(
                url,
                own=own,
                record=lambda: own,
                namespace="sockjs:",
                lease=600,
                expiry=expiry,
                timeout=min(expiry, 5),
            )
        )
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def owner(directory: Directory, key: str) -> str | None:
    """Claim a session; return whose it is, or None if nobody can know at the moment."""
    with contextlib.suppress(DirectoryUnavailableError):
        found = await directory.find(key, "1")
        return None if found is None else found.name
    return None


async def until_settled(directory: Directory) -> None:
    async with async_timeout.timeout(PATIENCE):
        while not directory.is_settled:
            await asyncio.sleep(0.05)
            await directory.register(())


async def test_services_whose_prefixes_have_colons_share_no_sessions(
    make: Make, own_redis: RedisServer
) -> None:
    note_known(own_redis)
    one, two = make("one", own_redis.url), make("two", own_redis.url)
    await one.register(())
    await two.register(())
    assert await owner(one, one.session_key("/chat", "x:1")) == "one"
    assert await owner(two, two.session_key("/chat:x", "1")) == "two"


async def test_nodes_refuse_a_redis_cluster(make: Make, own_redis: RedisServer) -> None:
    own_redis.kill()
    own_redis.start("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with pytest.raises(DirectoryUnavailableError, match="it belongs to a Redis Cluster"):
        await make("one", own_redis.url).register(())


async def test_a_redis_in_a_folder_whose_name_is_not_utf8_can_be_used(
    make: Make, own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells the name with its run id."""
    folder = tmp_path / os.fsdecode(b"andr\xe9")
    folder.mkdir()
    monkeypatch.chdir(folder)
    own_redis.kill()
    own_redis.start()
    node = make("one", own_redis.url)
    await node.register(())
    assert not node.is_down


async def test_a_node_that_starts_beside_others_need_not_wait(
    make: Make, own_redis: RedisServer
) -> None:
    old = make("old", own_redis.url)
    await old.register(())
    new = make("new", own_redis.url)
    await new.register(())
    assert (old.state, new.state) == ("connected", "connected")
    assert await owner(new, "k") == "new"


async def test_a_node_that_starts_when_redis_has_just_lost_its_data_opens_no_sessions_of_others(
    make: Make, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = (make(name, own_redis.url, expiry=2) for name in ("old", "new"))
    await old.register(())
    assert await owner(old, "k") == "old"
    own_redis.cli("FLUSHALL")
    caplog.set_level(logging.INFO)
    await new.register(())
    assert await owner(new, "k") is None
    assert not new.is_settled
    assert "For 2 s, HTTP requests for unknown sessions get 503" in caplog.text
    await old.register(())
    assert await old.refresh([("k", "1")]) == []
    assert await owner(new, "k") == "old", "what is known need not be waited for"
    await until_settled(new)
    assert await owner(new, "k") == "old"
    assert await owner(new, "other") == "new"


async def test_a_node_that_starts_a_little_later_does_not_open_them_either(
    make: Make, own_redis: RedisServer
) -> None:
    """Another new node has reported to the empty Redis before it."""
    old, new, later = (make(name, own_redis.url) for name in ("old", "new", "later"))
    await old.register(())
    assert await owner(old, "k") == "old"
    own_redis.cli("FLUSHALL")
    for each in (new, later):
        await each.register(())
        await each.register(())
        assert await owner(each, "k") is None


async def test_the_first_nodes_of_all_wait_once_and_together(
    make: Make, own_redis: RedisServer
) -> None:
    """Redis could as well have had data: it looks the same."""
    own_redis.cli("FLUSHALL")
    loop = asyncio.get_running_loop()
    first = make("first", own_redis.url, expiry=2)
    await first.register(())
    start = loop.time()
    assert not first.is_settled
    while loop.time() < start + 1:
        await asyncio.sleep(0.05)
    second = make("second", own_redis.url, expiry=2)
    await second.register(())
    assert not second.is_settled
    await until_settled(first)
    await until_settled(second)
    assert own_redis.cli("KEYS", "*unsettled*") == ""
    third = make("third", own_redis.url, expiry=2)
    await third.register(())
    assert third.is_settled
    for each in (first, second, third):
        await each.leave()
    fourth = make("fourth", own_redis.url, expiry=2)
    await fourth.register(())
    assert fourth.is_settled, "nodes have run here before"


async def test_a_node_that_starts_when_redis_was_restarted_waits_although_it_has_data(
    make: Make, own_redis: RedisServer
) -> None:
    """It may have lost what was written just before."""
    own_redis.kill()
    own_redis.start("--appendonly", "yes", "--appendfsync", "always")
    note_known(own_redis, "sockjs:")
    old, new = (make(name, own_redis.url) for name in ("old", "new"))
    await old.register(())
    assert await owner(old, "k") == "old"
    own_redis.kill()
    own_redis.start("--appendonly", "yes", "--appendfsync", "always")
    assert own_redis.cli("GET", "k") == "old/1"
    await new.register(())
    assert await owner(new, "k") == "old"
    assert await owner(new, "may be lost") is None
    with contextlib.suppress(DirectoryUnavailableError):
        await old.register(())  # it finds its connection closed
    await old.register(())
    assert old.lost_at > 0, "it reports its claims again"
    assert await owner(old, "may be lost") is None


async def unknown_to_replica(one: Directory, two: Directory, replica: RedisServer) -> None:
    """Have `one` claim a session; its claim does not come to the replica, which knows the nodes."""
    await one.register(())
    await two.register(())
    while replica.cli("KEYS", "sockjs:mark:*").count("mark") < 2:
        await asyncio.sleep(0.01)
    replica.follow(None)
    assert await owner(one, "k") == "one"


async def reconnected(directory: Directory) -> None:
    """Report over a new connection; those before are found closed."""
    with contextlib.suppress(DirectoryUnavailableError):
        await directory.register(())
    await directory.register(())


async def test_no_node_takes_a_claim_that_a_new_primary_has_not_got(
    make: Make, own_redis: RedisServer, other_redis: RedisServer, proxy: Proxy
) -> None:
    one, two = (make(name, proxy.url) for name in ("one", "two"))
    await unknown_to_replica(one, two, other_redis)
    proxy.target = other_redis.port
    proxy.cut()
    await reconnected(two)
    assert await owner(two, "k") is None
    new = make("new", proxy.url)
    await new.register(())
    assert await owner(new, "k") is None
    assert other_redis.cli("EXISTS", "k") == "0"
    await reconnected(one)
    assert await one.refresh([("k", "1")]) == []
    assert await owner(two, "k") == await owner(new, "k") == "one"


async def test_a_claim_does_not_overtake_the_news_of_a_new_primary(
    make: Make, own_redis: RedisServer, other_redis: RedisServer, proxy: Proxy
) -> None:
    """It goes over a new connection, which is the first one to that server."""
    one, two = (make(name, proxy.url) for name in ("one", "two"))
    await unknown_to_replica(one, two, other_redis)
    proxy.target, proxy.delay = other_redis.port, 0.3
    asking = asyncio.create_task(two.record_of("one"))  # over the connection that it has
    await asyncio.sleep(0)
    assert await owner(two, "k") is None
    assert other_redis.cli("EXISTS", "k") == "0"
    with contextlib.suppress(DirectoryUnavailableError):
        await asking


async def test_a_connection_to_the_old_server_is_dropped_even_if_it_is_in_use(
    make: Make, own_redis: RedisServer, other_redis: RedisServer, proxy: Proxy
) -> None:
    """Otherwise it would be used again, and its node would go on at the old server alone."""
    other_redis.follow(None)
    one = make("one", proxy.url, expiry=1)
    await one.register(())
    proxy.target, proxy.delay = other_redis.port, 0.5
    slow = asyncio.create_task(one.refresh([("q", "1")]))  # over the connection that it has
    await asyncio.sleep(0.1)
    proxy.delay = 0
    # over a new one, meanwhile
    await asyncio.gather(one.refresh([("r", "1")]), slow, return_exceptions=True)
    await reconnected(one)
    two = make("two", proxy.url, expiry=1)
    await reconnected(two)
    for node in (one, two):
        await until_settled(node)
    assert await owner(one, "k") == await owner(two, "k") == "one"
    assert own_redis.cli("EXISTS", "k") == "0"


async def test_a_claim_at_the_old_server_is_not_believed_once_another_has_taken_its_place(
    make: Make, own_redis: RedisServer, other_redis: RedisServer, proxy: Proxy
) -> None:
    """Its answer was on its way when the node found the new server."""
    one, two = (make(name, proxy.url) for name in ("one", "two"))
    await unknown_to_replica(one, two, other_redis)
    proxy.delay = 1
    asking = asyncio.create_task(owner(two, "late"))  # over the connection that it has
    async with async_timeout.timeout(PATIENCE):
        while own_redis.cli("EXISTS", "late") == "0":
            await asyncio.sleep(0.01)
    proxy.target, proxy.delay = other_redis.port, 0
    assert await two.refresh([("other", "1")]) == []  # over a new one
    assert not asking.done()
    assert await asking is None
    assert own_redis.cli("GET", "late") == "two/1"
    assert other_redis.cli("EXISTS", "late") == "0"


async def test_a_claim_does_not_overtake_the_news_that_another_command_brings(
    make: Make, own_redis: RedisServer, other_redis: RedisServer, proxy: Proxy
) -> None:
    """Both connect to the new server at the same time."""
    one, two = (make(name, proxy.url) for name in ("one", "two"))
    await unknown_to_replica(one, two, other_redis)
    proxy.delay = 1
    slow = asyncio.create_task(two.record_of("one"))  # over the connection that it has
    await asyncio.sleep(0.1)
    proxy.target, proxy.delay = other_redis.port, 0
    assert (await asyncio.gather(two.refresh([("other", "1")]), owner(two, "k")))[1] is None
    assert other_redis.cli("EXISTS", "k") == "0"
    with contextlib.suppress(DirectoryUnavailableError):
        await slow


async def test_nodes_settle_although_each_connection_tells_another_run_id(
    make: Make, own_redis: RedisServer, proxy: Proxy
) -> None:
    """As behind proxies that lead to several servers, which keep the same data."""
    proxy.renames = True
    nodes = [make(name, proxy.url, expiry=1) for name in ("one", "two")]

    async def look(node: Directory) -> None:
        """Report, and send several commands at a time, each over a connection of its own."""
        with contextlib.suppress(DirectoryUnavailableError):
            await node.register(())
        asked = (
            owner(node, f"of {node.own}"),
            node.record_of("one"),
            node.refresh([("other", "1")]),
        )
        await asyncio.gather(*asked, return_exceptions=True)

    async with async_timeout.timeout(PATIENCE):
        while [await owner(node, "k") for node in nodes] != ["one", "one"]:
            for node in nodes:
                await look(node)
            await asyncio.sleep(0.05)


async def test_no_node_takes_a_claim_after_a_failover_by_sentinel(
    make: Make, own_redis: RedisServer, other_redis: RedisServer, sentinel: SentinelServer
) -> None:
    """Also if the user must not ask which server it is."""
    for redis in (own_redis, other_redis):
        redis.cli("ACL", "SETUSER", "node", "on", ">geheim", "~*", "+@all", "-info")
    sentinel.watch(own_redis.port)
    url = sentinel.url.replace("//", "//node:geheim@")
    one, two = (make(name, url) for name in ("one", "two"))
    await one.register(())
    await two.register(())
    while other_redis.cli("KEYS", "sockjs:mark:*").count("mark") < 2:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(sentinel.fail_over)
    async with async_timeout.timeout(PATIENCE):
        while two.is_settled or two.is_down:
            with contextlib.suppress(DirectoryUnavailableError):
                await two.register(())
            await asyncio.sleep(0.05)
    assert await owner(two, "k") is None


async def test_a_node_warns_once_if_it_must_not_ask_which_server_redis_is(
    make: Make, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.cli("ACL", "SETUSER", "node", "on", ">geheim", "~*", "+@all", "-info")
    node = make("one", own_redis.url.replace("//", "//node:geheim@"))
    await node.register(())
    assert "give the nodes' user +info" in caplog.text
    await asyncio.gather(
        node.record_of("one"), node.refresh([("k", "1")]), node.remove([("other", "1")])
    )
    assert caplog.text.count("+info") == 1
    assert node.state == "connected"


async def test_a_session_has_one_owner_although_a_node_starts_after_a_flush(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    (old,) = await asyncio.to_thread(run_nodes, 1, {"disconnect_delay": 30}, expiry=2)
    assert await reach(old).poll("/0/a") == b"o"
    old.signal(signal.SIGSTOP)  # it reports its session again only after the first request
    own_redis.cli("FLUSHALL")
    (new,) = await asyncio.to_thread(
        run_nodes, 1, {"disconnect_delay": 30}, expiry=2, is_known=False
    )
    assert await reach(new).post("/0/a", '["x"]') == 503
    old.signal(signal.SIGCONT)
    async with async_timeout.timeout(PATIENCE):
        while (reply := await reach(new).request("POST", "/0/a/xhr_send", b'["x"]')).status == 503:
            await asyncio.sleep(0.05)
    assert reply.status == 204
    assert new.said.count("requests get 503: Redis may lack sessions") == 1
    assert await reach(new).poll("/0/a") == b'a["x"]'
    await opened(reach(new), "/0/b")
    assert (await old.stats())["opened"] == (await new.stats())["opened"] == 1
