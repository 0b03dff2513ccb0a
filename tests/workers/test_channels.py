"""Channels between workers: what one publishes reaches the sessions of all, over Redis."""

import pytest

from tests.brokers.conftest import redis_server  # noqa: F401
from tests.brokers.redis_server import RedisServer
from tests.clients import HTTP, WebSocket
from tests.workers.conftest import RunCommand

pytestmark = pytest.mark.redis


async def test_what_one_worker_publishes_reaches_the_sessions_of_all(
    command: RunCommand,
    redis_server: RedisServer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS", redis_server.url)
    served = await command(workers=2)
    clients = [await WebSocket.open(served) for _ in range(8)]
    clients += [await kind.open(served) for kind in HTTP for _ in range(4)]
    pids = set()
    for client in clients:
        await client.send("pid", "subscribe")
        pid, answer = await client.messages(2)
        pids.add(pid)
        assert answer == "subscribed"
    assert len(pids) == 2
    for number, client in enumerate(clients[::4]):
        await client.send(f"publish {number}")
        for other in clients:
            assert await other.messages(1) == [str(number)]
    assert await served.stop() == 0
    assert not served.has_failed, served.said
