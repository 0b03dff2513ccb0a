"""Workers whose connections to Redis are lost: each tells its own sessions."""

import asyncio

import pytest

from tests.brokers.conftest import own_redis  # noqa: F401
from tests.brokers.redis_server import RedisServer
from tests.clients import ALL
from tests.workers.conftest import RunCommand

pytestmark = pytest.mark.redis


async def test_sessions_of_all_workers_are_told_of_a_gap(
    command: RunCommand,
    own_redis: RedisServer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS", own_redis.url)
    served = await command(workers=2)
    clients = [await kind.open(served) for kind in ALL for _ in range(3)]
    pids = set()
    for client in clients:
        await client.send("pid", "subscribe")
        pid, answer = await client.messages(2)
        pids.add(pid)
        assert answer == "subscribed"
    assert len(pids) == 2
    await asyncio.to_thread(own_redis.cli, "CLIENT", "KILL", "TYPE", "pubsub")
    for client in clients:
        assert await client.messages(1) == ["gap news"]
    await clients[0].send("publish new")
    for client in clients:
        assert await client.messages(1) == ["new"]
    assert await served.stop() == 0
    assert not served.has_failed, served.said
