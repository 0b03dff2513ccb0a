"""Channels between workers: what one publishes reaches the sessions of all, over Redis."""

import json

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


@pytest.mark.parametrize("workers", [1, 2])
async def test_channel_that_reaches_one_of_several_workers_is_warned_of(
    command: RunCommand, workers: int
) -> None:
    served = await command(workers=workers)
    for _ in range(2):
        client = await WebSocket.open(served)
        await client.send("subscribe")
        assert await client.messages(1) == ["subscribed"]
        await client.leave()
    if workers > 1:
        await served.until_said("channel 'news' reaches only the sessions of this process: ")
    assert await served.stop() == 0
    assert ("pass broker=RedisBroker" in str(served.said)) is (workers > 1)


async def test_sessions_of_all_workers_are_told_who_comes_and_goes(
    command: RunCommand,
    redis_server: RedisServer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS", redis_server.url)
    served = await command(workers=2, settings={"presence_linger": 0})
    # the kernel spreads connections by chance: so many that one worker hardly gets all of them
    clients = {str(number): await WebSocket.open(served) for number in range(20)}
    there: dict[str, set[str]] = {name: set() for name in clients}

    async def until_told(expected: set[str]) -> None:
        for name in expected:
            while there[name] != expected:
                for message in await clients[name].messages(1):
                    joined, left = json.loads(message)
                    there[name] = there[name].union(joined).difference(left)

    pids = set()
    for client in clients.values():
        await client.send("pid")
        pids.update(await client.messages(1))
    assert len(pids) == 2
    for number, (name, client) in enumerate(clients.items()):
        there[name] = set(list(clients)[:number])  # what a service would say of the beginning
        await client.send(f"watch {name}")
    await until_told(set(clients))
    for name in ("0", "5"):
        await clients.pop(name).leave()
        await until_told(set(clients))
    assert await served.stop() == 0
    assert not served.has_failed, served.said
