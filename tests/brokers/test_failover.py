"""Two Redis servers behind a proxy that change their roles while connections to them stay."""

import asyncio

import pytest

from sockjs_aio import BrokerUnavailableError
from sockjs_aio.brokers.redis import RedisBroker
from tests import clients
from tests.brokers.proxy import Proxy
from tests.brokers.redis_server import RedisServer, swap
from tests.brokers.talker import Talker, tell
from tests.brokers.test_redis import until_connected
from tests.brokers.test_redis_down import HASTY, Traffic, said, until
from tests.conftest import Serve

pytestmark = pytest.mark.redis
WebSocket = clients.WebSocket


@pytest.mark.parametrize("members", [True, False], ids=["members", "no members"])
async def test_broker_leaves_a_server_that_has_become_a_replica(
    serve: Serve,
    own_redis: RedisServer,
    other_redis: RedisServer,
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
    members: bool,
) -> None:
    brokers = [RedisBroker(proxy.url, **HASTY) for _ in range(2)]
    people = []
    for broker in brokers:
        client = await WebSocket.open(await serve(Talker, broker=broker))
        await tell(client, "sub news ann" if members else "sub news")
        people.append(client)
    await until_connected(*brokers)
    swap(own_redis, other_redis)
    proxy.target = other_redis.port
    await until(lambda: all(broker.gaps == 1 for broker in brokers))
    await until_connected(*brokers)
    await tell(people[0], "others news hello")
    assert await people[1].messages(1) == ["hello"]
    if members:
        assert await RedisBroker(other_redis.url).members("news") == {"ann"}
    own_redis.kill()  # nobody needs it any more
    other_redis.publish("sockjs:news", b"from elsewhere")
    for client in people:
        assert await client.messages(1) == ["from elsewhere"]
    assert [broker.gaps for broker in brokers] == [1, 1]
    assert len([text for text in said(caplog) if "it is a replica" in text]) == 2


async def test_traffic_flows_again_after_each_failover(
    serve: Serve, own_redis: RedisServer, other_redis: RedisServer, proxy: Proxy
) -> None:
    traffic = Traffic(proxy.url)
    await traffic.start(serve)
    await traffic.flows()
    servers = [own_redis, other_redis]
    for count in (1, 2):
        swap(*servers)
        servers.reverse()
        proxy.target = servers[0].port
        gaps = [count, count]
        while [x.gaps for x in traffic.brokers] != gaps:
            await asyncio.sleep(0.005)
        await until_connected(*traffic.brokers)
        await traffic.flows()
    await traffic.stop()
    traffic.check()


async def test_replica_is_not_used_until_the_proxy_leads_elsewhere(
    serve: Serve,
    own_redis: RedisServer,
    other_redis: RedisServer,
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    proxy.target = other_redis.port
    broker = RedisBroker(proxy.url, on_unavailable="raise", **HASTY)
    served = await serve(Talker, broker=broker)
    await until(lambda: broker.state == "reconnecting")
    accepted = proxy.accepted
    await until(lambda: proxy.accepted > accepted + 4)
    for publisher in (served.router, RedisBroker(proxy.url, on_unavailable="raise")):
        with pytest.raises(BrokerUnavailableError, match="it is a replica"):
            await publisher.publish("news", "x")
    assert (broker.state, broker.gaps) == ("reconnecting", 1)
    assert len(said(caplog)) == 1
    proxy.target = own_redis.port
    await until_connected(broker)
    await served.router.publish("news", "x")


@pytest.mark.parametrize("first", ["listening", "asking"])
async def test_connections_that_lead_to_different_servers_are_given_up(
    serve: Serve,
    own_redis: RedisServer,
    other_redis: RedisServer,
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
    first: str,
) -> None:
    other_redis.follow(None)  # both are primaries for a moment
    servers = [other_redis.port, own_redis.port]
    proxy.next_targets = servers if first == "listening" else servers[::-1]
    broker = RedisBroker(proxy.url, **HASTY)
    client = await WebSocket.open(await serve(Talker, broker=broker))
    await tell(client, "sub news")
    assert broker.state == "connected"
    await until(lambda: broker.gaps == 1)
    assert "published messages do not come back" in said(caplog)[0]
    await until_connected(broker)
    own_redis.publish("sockjs:news", b"hello")
    assert await client.messages(1) == ["hello"]
    await asyncio.sleep(HASTY["timeout"] * 2)
    assert (broker.state, broker.gaps) == ("connected", 1)


async def test_broker_does_not_listen_to_a_replica(
    serve: Serve,
    own_redis: RedisServer,
    other_redis: RedisServer,
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    proxy.next_targets = [other_redis.port, own_redis.port]
    broker = RedisBroker(proxy.url, **HASTY)
    client = await WebSocket.open(await serve(Talker, broker=broker))
    await tell(client, "sub news")
    await until_connected(broker)
    assert "it is a replica" in said(caplog)[0]
    other_redis.kill()
    await asyncio.sleep(HASTY["timeout"] * 2)
    assert (broker.state, broker.gaps) == ("connected", 1)


async def test_replica_without_its_primary_is_tried_again(
    serve: Serve, own_redis: RedisServer, other_redis: RedisServer
) -> None:
    other_redis.cli("CONFIG", "SET", "replica-serve-stale-data", "no")
    own_redis.kill()
    broker = RedisBroker(other_redis.url, **HASTY)
    client = await WebSocket.open(await serve(Talker, broker=broker))
    await tell(client, "sub news")
    await until(lambda: broker.gaps == 1)
    other_redis.follow(None)
    await until_connected(broker)
    other_redis.publish("sockjs:news", b"hello")
    assert await client.messages(1) == ["hello"]


async def test_server_that_loads_its_data_is_tried_again(
    serve: Serve, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    broker = RedisBroker(own_redis.url, **HASTY)
    client = await WebSocket.open(await serve(Talker, broker=broker))
    await tell(client, "sub news")
    await until_connected(broker)
    own_redis.cli("CONFIG", "SET", "key-load-delay", "20000")  # microseconds
    own_redis.cli("CONFIG", "SET", "loading-process-events-interval-bytes", "1024")
    own_redis.cli("CONFIG", "SET", "rdbcompression", "no")  # so many bytes are one key
    own_redis.cli("DEBUG", "POPULATE", "100", "key", "1024")
    loading = asyncio.create_task(asyncio.to_thread(own_redis.cli, "DEBUG", "RELOAD"))
    await until(lambda: "it is loading its data" in caplog.text)
    await loading
    await until_connected(broker)
    own_redis.publish("sockjs:news", b"hello")
    assert await client.messages(1) == ["hello"]
    assert broker.gaps == 1
