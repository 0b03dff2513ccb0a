"""Publishing without an event loop."""

import asyncio
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import async_timeout
import pytest

from sockjs_aio import BrokerUnavailableError, SettingsError
from sockjs_aio.brokers.redis import RedisBroker, RedisPublisher
from sockjs_aio.protocol.names import MAX_NAME
from tests import clients
from tests.brokers.redis_server import RedisServer
from tests.brokers.test_scripted import Ear
from tests.conftest import Recorder, Serve

pytestmark = pytest.mark.redis

WIDE = "Grüße \u2028 \ud800 \0"


async def test_messages_of_all_threads_arrive_those_of_each_in_order(
    redis_server: RedisServer,
) -> None:
    async with RedisBroker(redis_server.url, prefix="threads:") as broker:
        ear = Ear()
        broker.subscribe("news", ear)
        await broker.ready("news")
        publisher = RedisPublisher(redis_server.url, prefix="threads:")

        def publish(name: str) -> None:
            for number in range(20):
                publisher.publish("news", f"{name} {number}")

        await asyncio.gather(*(asyncio.to_thread(publish, name) for name in "ab"))
        await asyncio.to_thread(publisher.publish, "news", WIDE)
        await asyncio.to_thread(publisher.publish, "news", "\0!4001\0last")
        async with async_timeout.timeout(10):
            while "\0!4001\0last" not in ear.texts:
                await asyncio.sleep(0.001)
        for name in "ab":
            expected = [f"{name} {number}" for number in range(20)]
            assert [x for x in ear.texts if x.startswith(f"{name} ")] == expected
        assert ear.texts[-2:] == [WIDE, "\0!4001\0last"]
        publisher.close()


async def test_more_than_a_hundred_threads_can_publish_at_a_time(own_redis: RedisServer) -> None:
    with RedisPublisher(own_redis.url) as publisher, ThreadPoolExecutor(110) as pool:
        own_redis.cli("CLIENT", "PAUSE", "500")
        for waiting in [pool.submit(publisher.publish, "news", "x") for _ in range(110)]:
            waiting.result()


async def test_close_leaves_a_thread_alone_that_is_publishing(own_redis: RedisServer) -> None:
    with RedisPublisher(own_redis.url) as publisher:
        publisher.publish("news", "x")
        own_redis.cli("CLIENT", "PAUSE", "300")
        waiting = asyncio.create_task(asyncio.to_thread(publisher.publish, "news", "y"))
        await asyncio.sleep(0.1)
        publisher.close()
        assert not waiting.done()
        await waiting


@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
async def test_sessions_get_the_latest_and_are_closed(
    serve: Serve, redis_server: RedisServer, kind: type[clients.Client]
) -> None:
    class Listening(Recorder):
        async def on_open(self, info: Any) -> None:
            await self.subscribe("user:ann")
            self.send("ready")

    prefix = f"{kind.name}:"
    broker = RedisBroker(redis_server.url, prefix=prefix)
    client = await kind.open(await serve(Listening, broker=broker))
    assert await client.messages(1) == ["ready"]
    with RedisPublisher(redis_server.url, prefix=prefix) as publisher:
        await asyncio.to_thread(publisher.publish, "user:ann", "21 °C", key="weather")
        assert await client.messages(1) == ["21 °C"]
        await asyncio.to_thread(publisher.close_channel, "user:ann", 4001, "Logged out")
    assert await client.frame() == b'c[4001,"Logged out"]'
    await client.leave()


def test_a_publisher_that_was_made_before_a_fork_works_in_both(redis_server: RedisServer) -> None:
    publisher = RedisPublisher(redis_server.url)
    publisher.publish("news", "x")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            publisher.publish("news", "y")
            os.write(write, b"y")
        finally:
            os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"y"
    os.close(read)
    os.waitpid(child, 0)
    publisher.publish("news", "z")
    publisher.close()


def test_threads_and_forks_ask_a_slow_sentinel_at_the_same_time() -> None:
    """The threads do not wait for each other, and a fork for none that it does not have."""

    def publish() -> None:
        with pytest.raises(BrokerUnavailableError):
            publisher.publish("news", "x")

    with socket.create_server(("127.0.0.1", 0)) as sentinel, ThreadPoolExecutor(3) as pool:
        sentinel.settimeout(20)
        url = f"redis+sentinel://127.0.0.1:{sentinel.getsockname()[1]}/main"
        publisher = RedisPublisher(url, timeout=60)
        publishing = [pool.submit(publish) for _ in range(3)]
        asking = []
        try:
            asking += [sentinel.accept()[0] for _ in range(3)]
            child = os.fork()
            if child == 0:  # pragma: no cover
                try:
                    publish()
                finally:
                    os._exit(0)
            try:
                asking.append(sentinel.accept()[0])
            finally:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        finally:
            for connection in asking:
                connection.close()
            sentinel.close()
        for waiting in publishing:
            waiting.result()


def test_all_sentinels_are_asked_within_the_timeout() -> None:
    silent = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    try:
        hosts = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in silent)
        publisher = RedisPublisher(f"redis+sentinel://{hosts}/main", timeout=1)
        with pytest.raises(BrokerUnavailableError):
            publisher.publish("news", "x")
        options = [each.connection_pool.connection_kwargs for each in _sentinels(publisher)]
        assert sum(each["socket_timeout"] for each in options) < 1
        assert sum(each["socket_connect_timeout"] for each in options) < 1
    finally:
        for each in silent:
            each.close()


def _sentinels(publisher: RedisPublisher) -> Any:
    pool: Any = publisher._pool
    return pool.sentinel_manager.sentinels


def test_redis_may_restart_between_two_messages(own_redis: RedisServer) -> None:
    with RedisPublisher(own_redis.url) as publisher:
        publisher.publish("news", "x")
        own_redis.kill()
        with pytest.raises(BrokerUnavailableError, match=f"127.0.0.1:{own_redis.port}"):
            publisher.publish("news", "y")
        own_redis.start()
        publisher.publish("news", "z")
        own_redis.kill()
        own_redis.start()
        publisher.publish("news", "the old connection is closed, and noticed")


def test_a_redis_that_hangs_is_given_up(own_redis: RedisServer) -> None:
    with RedisPublisher(own_redis.url, timeout=0.2) as publisher:
        publisher.publish("news", "x")
        own_redis.signal(signal.SIGSTOP)
        with pytest.raises(BrokerUnavailableError):
            publisher.publish("news", "y")
        own_redis.signal(signal.SIGCONT)
        publisher.publish("news", "z")


def test_a_replica_is_not_taken_for_the_primary(other_redis: RedisServer) -> None:
    with (
        RedisPublisher(other_redis.url) as publisher,
        pytest.raises(BrokerUnavailableError, match="it is a replica"),
    ):
        publisher.publish("news", "x")


def test_few_permissions_are_needed(own_redis: RedisServer) -> None:
    own_redis.cli("ACL", "SETUSER", "worker", "on", ">word", "&sockjs:*", "-@all", "+publish")
    url = own_redis.url.replace("//", "//worker:word@")
    with RedisPublisher(url) as publisher:
        publisher.publish("news", "x")
    with (
        RedisPublisher(url, prefix="other:") as publisher,
        pytest.raises(BrokerUnavailableError, match="refuses"),
    ):
        publisher.publish("news", "x")


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://127.0.0.1"},
        {"url": "redis://127.0.0.1/x:y"},
        {"prefix": "é"},
        {"timeout": 0},
        {"max_message_size": 0},
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        RedisPublisher(**{"url": "redis://127.0.0.1", **options})


@pytest.mark.parametrize(
    "arguments, kind",
    [
        (("", "x"), ValueError),
        (("news", b"x"), TypeError),
        (("news", "é" * 8), ValueError),
        (("n" * (MAX_NAME + 1), "x"), ValueError),
    ],
)
def test_messages_that_cannot_be_are_refused(
    arguments: tuple[Any, Any], kind: type[Exception]
) -> None:
    publisher = RedisPublisher("redis://127.0.0.1:1", max_message_size=15)
    with pytest.raises(kind):
        publisher.publish(*arguments)
    with pytest.raises(ValueError, match="key"):
        publisher.publish("news", "x", key="")
    with pytest.raises(ValueError):
        publisher.close_channel("news", 999, "")
