"""Brokers for tests, and the Redis behind them."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from sockjs_aio import Broker, MemoryBroker
from sockjs_aio.brokers.redis import RedisBroker
from tests.brokers.proxy import Proxy
from tests.brokers.redis_server import RedisServer, find_server
from tests.brokers.sentinel_server import SentinelServer
from tests.conftest import require

MakeBroker: TypeAlias = Callable[..., Broker]

_numbers = itertools.count()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that no test stops; each uses a prefix of its own."""
    require(find_server(), "redis-server")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_redis(tmp_path: Any) -> Iterator[RedisServer]:
    """A Redis for the test alone."""
    require(find_server(), "redis-server")
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def other_redis(own_redis: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    """A replica of `own_redis`."""
    folder = tmp_path / "replica"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    server.follow(own_redis)
    yield server
    server.kill()


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[SentinelServer]:
    """A Sentinel that watches nothing yet."""
    folder = tmp_path / "sentinel"
    folder.mkdir()
    server = SentinelServer(folder)
    yield server
    server.kill()


@pytest.fixture
async def proxy(own_redis: RedisServer) -> AsyncIterator[Proxy]:
    """What stands in front of `own_redis`, and may stand in front of another one."""
    proxy = Proxy(own_redis.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
def prefix() -> str:
    """A prefix that no other test uses."""
    return f"test{next(_numbers)}:"


@pytest.fixture
def redis_broker(redis_server: RedisServer, prefix: str) -> MakeBroker:
    """Make one node's broker; at each call another node's."""

    def make(**options: Any) -> RedisBroker:
        return RedisBroker(redis_server.url, **{"prefix": prefix, **options})

    return make


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def make_broker(request: pytest.FixtureRequest) -> MakeBroker:
    """Make one node's broker; nodes on the memory broker are routers that share it."""
    if request.param == "redis":
        make: MakeBroker = request.getfixturevalue("redis_broker")
        return make
    shared: list[Broker] = []

    def share(**options: Any) -> Broker:
        if not shared:
            shared.append(MemoryBroker(**options))
        return shared[0]

    return share
