"""`close_channel` closes the sessions of a channel on all nodes, whatever broker they have."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import async_timeout
import pytest

from sockjs_aio import Broker, BrokerUnavailableError, CloseInfo, ConnectionInfo
from sockjs_aio.brokers.redis import RedisBroker
from sockjs_aio.brokers.redis.payload import make_close_label
from sockjs_aio.multiplex import MultiplexConnection
from tests import clients
from tests.brokers.conftest import MakeBroker
from tests.brokers.redis_server import RedisServer
from tests.brokers.talker import Talker, tell
from tests.brokers.test_contract import nodes
from tests.brokers.test_loops import Ear
from tests.brokers.test_redis import until_connected
from tests.conftest import Recorder, Serve

Kind = type[clients.Client]
ALL = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
WebSocket = clients.WebSocket
ROOT = Path(__file__).parents[2]

GONE = [4001, "Logged out \u2603"]


class Noting(Talker):
    """Notes how its sessions end."""

    ends: list[CloseInfo]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.ends = []

    async def on_close(self) -> None:
        assert self.close_info is not None
        self.ends.append(self.close_info)

    @classmethod
    async def until(cls, count: int) -> None:
        """Wait until `count` sessions have ended."""
        async with async_timeout.timeout(10):
            while len(cls.ends) < count:
                await asyncio.sleep(0.001)


async def frames_and_end(client: Any) -> tuple[list[bytes], Any]:
    """Return the frames that come, and what the close frame after them says."""
    frames = []
    while not (frame := await client.frame()).startswith(b"c"):
        frames.append(frame)
    return frames, json.loads(frame[1:])


@ALL
async def test_sessions_on_all_nodes_get_their_messages_and_then_the_code(
    serve: Serve, make_broker: MakeBroker, kind: Kind
) -> None:
    class Ending(Noting):
        pass

    here, there = await nodes(serve, make_broker, Ending)
    users = [await kind.open(node) for node in (here, there, here)]
    other = await WebSocket.open(there)
    for user in users:
        await tell(user, "sub user:ann", "sub news")
    await tell(other, "sub user:bob", "sub news")
    await here.router.publish("news", "last")
    await here.router.close_channel("user:ann", 4001, "Logged out \u2603")
    for user in users:
        assert await frames_and_end(user) == ([b'a["last"]'], GONE)
    await Ending.until(3)
    said = {(end.code, end.reason, end.initiator) for end in Ending.ends}
    assert said == {(4001, "Logged out \u2603", "server")}
    assert await other.messages(1) == ["last"]
    await tell(other, "pub user:ann nobody hears it")
    assert not here.router.subscribers("user:ann") + there.router.subscribers("news")[1:]


async def test_the_newest_session_of_a_user_replaces_those_before(
    serve: Serve, make_broker: MakeBroker
) -> None:
    class OneSession(Talker):
        async def on_open(self, info: ConnectionInfo) -> None:
            if not info.query:
                await self.subscribe("user:ann")
                await self.close_channel("user:ann", 4002, "Signed in elsewhere", keep=self)
                self.send("in")

    here, there = await nodes(serve, make_broker, OneSession)
    watchers = [await WebSocket.open(node, query="watch=1") for node in (here, there)]
    for watcher in watchers:
        await tell(watcher, "sub mark")
    before = await WebSocket.open(here)
    assert await before.messages(1) == ["in"]
    for node in (there, there, here):
        for publisher in (here, there):  # then no order from before is on its way
            await publisher.router.publish("mark", "x")
        for watcher in watchers:
            assert await watcher.messages(2) == ["x", "x"]
        newest = await WebSocket.open(node)
        assert await newest.messages(1) == ["in"]
        assert await before.frame() == b'c[4002,"Signed in elsewhere"]'
        before = newest
    await there.router.publish("user:ann", "still here")
    assert await newest.messages(1) == ["still here"]


async def test_several_connections_can_be_kept(serve: Serve, make_broker: MakeBroker) -> None:
    here, there = await nodes(serve, make_broker)
    users = [await WebSocket.open(node) for node in (here, here, here, there)]
    for user in users:
        await tell(user, "sub user:ann")
    kept = here.router.subscribers("user:ann")[:2]
    await here.router.close_channel("user:ann", keep=kept)
    for user in users[2:]:
        assert await user.frame() == b'c[3000,"Go away!"]'
    await there.router.publish("user:ann", "x")
    for user in users[:2]:
        assert await user.messages(1) == ["x"]


async def test_one_of_the_sessions_that_replace_each_other_at_a_time_stays(
    serve: Serve, make_broker: MakeBroker
) -> None:
    served = await nodes(serve, make_broker)
    for number in range(20):
        channel = f"user:{number}"
        users = [await WebSocket.open(node) for node in served]
        for user in users:
            await tell(user, f"sub {channel}")
        connections = [node.router.subscribers(channel)[0] for node in served]
        orders = [connection.close_channel(channel, keep=connection) for connection in connections]
        await asyncio.gather(*orders)
        await served[number % 2].router.publish(channel, "you have won")
        frames = sorted([await user.frame() for user in users])
        assert frames == [b'a["you have won"]', b'c[3000,"Go away!"]']


async def test_order_that_keeps_nobody_closes_also_those_that_others_keep(
    serve: Serve, make_broker: MakeBroker
) -> None:
    here, there = await nodes(serve, make_broker)
    for _ in range(20):
        users = [await WebSocket.open(node) for node in (here, there)]
        for user in users:
            await tell(user, "sub user:ann")
        (kept,) = here.router.subscribers("user:ann")
        await asyncio.gather(
            kept.close_channel("user:ann", keep=kept), there.router.close_channel("user:ann")
        )
        for user in users:
            assert await user.frame() == b'c[3000,"Go away!"]'


async def test_session_that_was_replaced_already_replaces_nobody(
    serve: Serve, make_broker: MakeBroker
) -> None:
    here, there = await nodes(serve, make_broker)
    users = [await WebSocket.open(node) for node in (here, there)]
    for user in users:
        await tell(user, "sub user:ann")
    (replaced,) = here.router.subscribers("user:ann")
    await there.router.close_channel("user:ann", keep=there.router.subscribers("user:ann"))
    assert await users[0].frame() == b'c[3000,"Go away!"]'
    await here.router.close_channel("user:ann", keep=replaced)
    await here.router.publish("user:ann", "still here")
    assert await users[1].messages(1) == ["still here"]


async def test_a_multiplexed_channel_is_closed_alone(serve: Serve, make_broker: MakeBroker) -> None:
    class Member(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await self.subscribe("user:ann")
            await super().on_open(info)

    here, there = await nodes(serve, make_broker, MultiplexConnection.get(one=Member, two=Talker))
    client = await WebSocket.open(here)
    await client.send("sub,one", "sub,two")
    await Member.until("open")
    await there.router.close_channel("user:ann", 4001)
    assert await client.messages(1) == ["uns,one"]
    await Member.until("close")
    await client.send("msg,two,sub news")
    assert await client.messages(1) == ["msg,two,done"]


async def test_listener_without_sessions_is_not_asked_to_close_any(
    serve: Serve, make_broker: MakeBroker
) -> None:
    here, there = await nodes(serve, make_broker)
    client = await WebSocket.open(here)
    await tell(client, "sub news")
    broker, ear = here.router.broker, Ear()
    assert broker is not None
    broker.start(ear)
    broker.subscribe("news", ear)
    await there.router.close_channel("news")
    assert await client.frame() == b'c[3000,"Go away!"]'
    await broker.publish("news", "heard")
    assert ear.texts == ["heard"]
    broker.unsubscribe("news", ear)
    await broker.stop(ear)


WRONG = [
    (TypeError, {"channel": 5}),
    (ValueError, {"channel": ""}),
    (TypeError, {"code": "4001"}),
    (ValueError, {"code": 999}),
    (ValueError, {"code": 5000}),
    (TypeError, {"reason": b"x"}),
    (ValueError, {"reason": "x" * 101}),
]


@pytest.mark.parametrize(("error", "wrong"), WRONG, ids=repr)
async def test_wrong_arguments_close_nobody(
    serve: Serve, make_broker: MakeBroker, error: type[Exception], wrong: dict[str, Any]
) -> None:
    served = await serve(Talker, broker=make_broker(max_message_size=100))
    client = await WebSocket.open(served)
    await tell(client, "sub news")
    with pytest.raises(error):
        await served.router.close_channel(**{"channel": "news", **wrong})
    await served.router.publish("news", "x")
    assert await client.messages(1) == ["x"]


async def test_text_of_a_client_is_never_an_order(serve: Serve, make_broker: MakeBroker) -> None:
    here, there = await nodes(serve, make_broker)
    users = [await WebSocket.open(node) for node in (here, there)]
    for user in users:
        await tell(user, "sub news")
    texts = ["\0!4001\0Logged out", "\0\0\0!4001\0x", "\0" + "a" * 16 + ":1!4001\0x"]
    for text in texts:
        await here.router.publish("news", text)
    for user in users:
        assert await user.messages(3) == texts


# Programs without sessions, and others.


@pytest.mark.redis
async def test_program_with_a_broker_alone_closes_sessions(
    serve: Serve, redis_server: RedisServer
) -> None:
    served = await serve(Talker, broker=RedisBroker(redis_server.url))
    users = [await WebSocket.open(served) for _ in range(2)]
    for number, user in enumerate(users):
        await tell(user, f"sub user:{number}")
    program = (
        "import asyncio, sys\n"
        "from sockjs_aio.brokers.redis import RedisBroker\n"
        "async def main():\n"
        "    asyncio.get_running_loop().slow_callback_duration = 60  # the machine may be busy\n"
        "    await RedisBroker(sys.argv[1]).close_channel('user:0', 4001, 'Logged out')\n"
        "    async with RedisBroker(sys.argv[1]) as broker:\n"
        "        await broker.close_channel('user:1', 4001, 'Logged out')\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-X", "dev", "-c", program, redis_server.url),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert await process.communicate() == (b"", b"")
    for user in users:
        assert await user.frame() == b'c[4001,"Logged out"]'


@pytest.mark.redis
async def test_any_redis_client_closes_sessions_with_the_documented_payload(
    serve: Serve, redis_broker: MakeBroker, redis_server: RedisServer, prefix: str
) -> None:
    client = await WebSocket.open(await serve(Talker, broker=redis_broker()))
    await tell(client, "sub news")
    redis_server.publish(f"{prefix}news", b"\0!999\0", b"\0!5000\0", b"\0!4001", b"\0!4001\0\xff")
    redis_server.publish(f"{prefix}news", b"next", b"\0!4001\0Logged out")
    assert await client.messages(1) == ["next"]
    assert await client.frame() == b'c[4001,"Logged out"]'


@pytest.mark.redis
async def test_order_without_redis_closes_the_sessions_here_and_says_so(
    serve: Serve, own_redis: RedisServer
) -> None:
    broker: Broker = RedisBroker(own_redis.url, on_unavailable="raise")
    own_redis.kill()
    served = await serve(Talker, broker=broker)
    client = await WebSocket.open(served)
    await tell(client, "sub news")
    with pytest.raises(BrokerUnavailableError):
        await served.router.close_channel("news", 4001, "Logged out")
    assert await client.frame() == b'c[4001,"Logged out"]'


@pytest.mark.redis
async def test_order_that_redis_does_not_get_protects_nobody_from_later_ones(
    serve: Serve, own_redis: RedisServer
) -> None:
    broker = RedisBroker(own_redis.url, timeout=0.8, max_retry_delay=0.1)
    served = await serve(Talker, broker=broker)
    client = await WebSocket.open(served)
    await tell(client, "sub news")
    await until_connected(broker)
    own_redis.kill()
    await served.router.close_channel("news", keep=served.router.subscribers("news"))
    own_redis.start()
    await until_connected(broker)
    own_redis.publish("sockjs:news", make_close_label(4002, 5) + b"Signed in elsewhere")
    assert await client.frame() == b'c[4002,"Signed in elsewhere"]'


@pytest.mark.redis
async def test_server_that_does_not_know_orders_refuses_them(
    serve: Serve, redis_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the servers before these orders do: their pattern, and groups that match nothing."""
    before = re.compile(rb"\0(?:([0-9a-f]{16}):([0-9]{1,18}))?" + rb"([^\0-\xff])?" * 4 + rb"\0")
    old = redis_broker()
    client = await WebSocket.open(await serve(Talker, broker=old))
    await tell(client, "sub news")
    monkeypatch.setattr("sockjs_aio.brokers.redis.payload._LABEL", before)
    async with redis_broker() as new:  # type: ignore[attr-defined]
        await new.close_channel("news", 4001, "Logged out")
        await new.publish("news", "next")
    assert await client.messages(1) == ["next"]
    assert old.refused == 1  # type: ignore[attr-defined]


async def test_many_sessions_are_closed_in_turns(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await serve(Talker)
    users = [await WebSocket.open(here) for _ in range(5)]
    for user in users:
        await tell(user, "sub user:ann")
    monkeypatch.setattr("sockjs_aio.turns.TURN", 0)
    connections = here.router.subscribers("user:ann")
    await here.router.close_channel("user:ann", 4001, "x")
    assert [connection.is_closed for connection in connections] == [True] + [False] * 4
    connections[1].unsubscribe("user:ann")
    for user in [users[0], *users[2:]]:
        assert await user.frame() == b'c[4001,"x"]'
    assert not connections[1].is_closed
