"""RedisBroker and a Redis that answers late, in other ways, or out of turn."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import async_timeout
import pytest

from sockjs_aio.brokers.redis import RedisBroker
from sockjs_aio.brokers.redis.commands import Commands
from sockjs_aio.errors import BrokerUnavailableError
from tests import clients
from tests.brokers.redis_server import RedisServer
from tests.brokers.scripted import ScriptedRedis, message
from tests.brokers.talker import Talker, tell
from tests.brokers.test_redis import until_connected
from tests.brokers.test_redis_down import STRICT
from tests.conftest import Serve

WebSocket = clients.WebSocket


@pytest.fixture
async def redis() -> AsyncIterator[ScriptedRedis]:
    server = ScriptedRedis()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def broker(redis: ScriptedRedis) -> AsyncIterator[RedisBroker]:
    async with RedisBroker(redis.url, timeout=30) as broker:
        await until_connected(broker)
        yield broker


class Ear:
    """Whoever listens in this process."""

    def __init__(self) -> None:
        self.texts: list[Any] = []

    def deliver(self, channel: str, message: Any, exclude: Any = ()) -> None:
        self.texts.append(message.message)

    async def until(self, *texts: str) -> None:
        async with async_timeout.timeout(5):
            while self.texts != list(texts):
                await asyncio.sleep(0.001)


async def turns() -> None:
    """Let everybody do what there is to do, with answers on their way through the kernel."""
    for _ in range(50):
        await asyncio.sleep(0.001)


async def test_subscribe_waits_for_the_last_confirmation(
    redis: ScriptedRedis, broker: RedisBroker
) -> None:
    ear = Ear()
    redis.hold(b"SUBSCRIBE")
    waiting = []
    for number in range(3):
        broker.subscribe("news", ear)
        waiting.append(asyncio.ensure_future(broker.ready("news")))
        async with async_timeout.timeout(5):
            while len(redis.commands) < 3 + number:  # this one has left
                await asyncio.sleep(0.001)
            await turns()
        if number < 2:
            broker.unsubscribe("news", ear)
            await turns()
    await asyncio.gather(*waiting[:2])  # they have left meanwhile
    for _ in range(2):
        assert not waiting[2].done()
        redis.release(b"SUBSCRIBE")
        await turns()
    redis.release(b"SUBSCRIBE")
    async with async_timeout.timeout(5):
        await waiting[2]


class GapEar(Ear):
    """Wants to know of gaps, too."""

    def __init__(self) -> None:
        super().__init__()
        self.gaps: list[str] = []

    def gap_ended(self, channel: str) -> None:
        self.gaps.append(channel)


async def test_the_link_is_up_again_although_channels_come_all_the_time(
    redis: ScriptedRedis, broker: RedisBroker
) -> None:
    """There is always one that Redis has not confirmed yet."""
    ear = GapEar()
    broker.subscribe("old", ear)
    await broker.ready("old")
    redis.hold(b"SUBSCRIBE")
    redis.cut()
    async with async_timeout.timeout(5):
        while redis.count(b"SUBSCRIBE") < 2:
            await asyncio.sleep(0.001)
    assert broker.state == "reconnecting"
    broker.subscribe("new", ear)
    redis.release(b"SUBSCRIBE")
    await until_connected(broker)
    await turns()
    assert ear.gaps == ["old"]
    redis.release(b"SUBSCRIBE")
    async with async_timeout.timeout(5):
        while ear.gaps != ["old", "new"]:
            await asyncio.sleep(0.001)


async def test_subscribe_with_a_member_waits_until_redis_knows(
    redis: ScriptedRedis, broker: RedisBroker
) -> None:
    redis.hold(b"SADD")
    broker.subscribe("news", Ear())
    broker.join("news", "ann")
    waiting = asyncio.ensure_future(broker.ready("news"))
    for _ in range(2):  # the member, and the process
        await turns()
        assert not waiting.done()
        redis.release(b"SADD")
    async with async_timeout.timeout(5):
        await waiting
    assert redis.count(b"SADD") == 2


@pytest.mark.parametrize(
    "nonsense",
    [
        b":7\r\n",
        b"+OK\r\n",
        b"$-1\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"-ERR out of the blue\r\n",
        b"*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$4\r\nnews\r\n$1\r\nx\r\n",
        b"*3\r\n$9\r\nsubscribe\r\n$5\r\nother\r\n:9\r\n",
        b"*3\r\n$7\r\nunknown\r\n$5\r\nother\r\n:9\r\n",
        message(b"sockjs:other", b"not subscribed"),
    ],
    ids=repr,
)
async def test_nonsense_does_not_break_the_subscriber(
    redis: ScriptedRedis, broker: RedisBroker, nonsense: bytes
) -> None:
    ear = Ear()
    broker.subscribe("news", ear)
    await broker.ready("news")
    listening = redis._writers[:1]  # the first of the two connections
    for writer in listening:
        writer.write(message(b"sockjs:news", b"1") + nonsense * 3)
        writer.write(message(b"sockjs:news", b"2"))
    await ear.until("1", "2")
    broker.subscribe("more", ear)
    async with async_timeout.timeout(5):
        await broker.ready("more")
    assert (broker.state, broker.gaps) == ("connected", 0)


@pytest.mark.parametrize("noise", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 100 + b"\r\n"])
async def test_what_is_no_redis_is_given_up_and_tried_again(
    redis: ScriptedRedis, broker: RedisBroker, noise: bytes
) -> None:
    redis.say(noise)
    async with async_timeout.timeout(5):
        while broker.gaps == 0:
            await asyncio.sleep(0.001)
    await until_connected(broker)
    assert broker.gaps == 1


@pytest.mark.redis
async def test_one_channel_that_redis_refuses_spoils_no_other(
    serve: Serve, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.cli("ACL", "SETUSER", "default", "resetchannels", "&sockjs:room*")
    broker = RedisBroker(own_redis.url, **STRICT)
    served = await serve(Talker, broker=broker)
    client = await WebSocket.open(served)
    async with async_timeout.timeout(10):
        await tell(client, "sub room1", "sub secret", "sub room2")
    # and not when all are asked for at once
    own_redis.command("CLIENT", "KILL", "TYPE", "pubsub")
    async with async_timeout.timeout(10):
        while broker.gaps == 0:
            await asyncio.sleep(0.001)
    async with async_timeout.timeout(10):
        while broker.gaps == 1 or broker.state != "degraded":
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.5)
    assert (broker.state, broker.gaps) == ("degraded", 2)
    own_redis.publish("sockjs:room1", b"1")
    own_redis.publish("sockjs:room2", b"2")
    assert await client.messages(2) == ["1", "2"]
    await client.send("pub secret 3")
    assert await client.messages(2) == ["3", "unavailable"]
    assert caplog.text.count("Redis refuses channel sockjs:secret") == 1
    await tell(client, "unsub secret", "sub room3")
    own_redis.cli("ACL", "SETUSER", "default", "allchannels")
    await tell(client, "sub secret")
    own_redis.publish("sockjs:secret", b"4")
    assert await client.messages(1) == ["4"]


async def test_members_that_nobody_takes_off_leave_with_the_broker(redis: ScriptedRedis) -> None:
    async with RedisBroker(redis.url) as broker:
        broker.join("news", "ann")
        await broker.ready("news")
    last = redis.commands[-3:]
    assert [command[0] for command in last] == [b"DEL", b"SREM", b"PING"]


@pytest.mark.parametrize("stays", [False, True])
async def test_no_member_is_left_behind_although_the_queue_is_full_at_the_end(
    redis: ScriptedRedis, stays: bool
) -> None:
    rooms = [f"room{number}" for number in range(50)]
    async with RedisBroker(redis.url, timeout=30, publish_queue_limit=3000) as broker:
        await until_connected(broker)
        for room in rooms:
            broker.join(room, "ann")
            await broker.ready(room)
        for room in [] if stays else rooms:
            broker.leave(room, "ann")
    changes = [command for command in redis.commands if command[0] in (b"SADD", b"DEL")]
    last = {key: verb for verb, key, *_ in changes if b":members:" in key}
    assert [*last.values()] == [b"DEL"] * len(rooms)


async def test_member_that_leaves_while_redis_is_away_is_taken_off_although_it_goes_away_again(
    redis: ScriptedRedis,
) -> None:
    async with RedisBroker(redis.url, timeout=30, max_retry_delay=0.01) as broker:
        await until_connected(broker)
        broker.join("news", "ann")
        await broker.ready("news")
        redis.answers[b"PUBLISH"] = redis.answers[b"EXEC"] = b"-LOADING wait\r\n"
        redis.hold(b"EXEC")
        await broker.publish("news", "x")
        assert broker.state == "reconnecting"
        del redis.answers[b"PUBLISH"]
        broker.leave("news", "ann")
        async with async_timeout.timeout(5):
            while not redis.count(b"EXEC"):
                await asyncio.sleep(0.001)
            redis.release(b"EXEC")
            while redis.held[b"EXEC"].is_set():
                await asyncio.sleep(0.001)
            del redis.answers[b"EXEC"]
            while redis.count(b"EXEC") < 2:
                await asyncio.sleep(0.001)
            redis.release(b"EXEC")
        verbs = [verb for verb, *_ in redis.commands if verb in (b"DEL", b"SREM", b"EXEC")]
        assert verbs[-4:] == [b"DEL", b"DEL", b"SREM", b"EXEC"]


async def test_others_are_told_of_a_message_that_fails_as_its_caller_is_cancelled() -> None:
    """Both in one turn of the loop."""
    commands = Commands(1000, ("PING",))
    told: list[str] = []
    calling = asyncio.ensure_future(
        commands.call(("PUBLISH", "news", "x"), failed=lambda: told.append("x"))
    )
    await asyncio.sleep(0)
    commands.lose("the link is gone")
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert told == ["x"]


async def test_others_are_told_of_messages_for_which_the_queue_had_no_room(
    redis: ScriptedRedis,
) -> None:
    async with RedisBroker(redis.url, timeout=30, publish_queue_limit=200) as broker:
        await until_connected(broker)
        redis.hold(b"PUBLISH")
        sent = asyncio.ensure_future(broker.publish("news", "1"))
        await turns()
        await broker.publish("more", "2" * 200)
        assert broker.dropped == 1
        redis.release(b"PUBLISH")
        await sent
        del redis.held[b"PUBLISH"]
        async with async_timeout.timeout(5):
            while redis.count(b"PUBLISH") < 2:
                await asyncio.sleep(0.001)
    published = [command[1:] for command in redis.commands if command[0] == b"PUBLISH"]
    assert [name for name, _ in published] == [b"sockjs:news", b"sockjs:more"]
    assert published[1][1].endswith(b":1?\0")


@pytest.mark.parametrize("answer", [b"-NOPERM not you\r\n", b"-LOADING wait\r\n"])
async def test_others_are_told_of_a_lost_message_for_which_nobody_waits_any_more(
    redis: ScriptedRedis, answer: bytes
) -> None:
    async with RedisBroker(redis.url, timeout=30) as broker:
        await until_connected(broker)
        redis.hold(b"PUBLISH")
        redis.answers[b"PUBLISH"] = answer
        publishing = asyncio.ensure_future(broker.publish("news", "lost"))
        async with async_timeout.timeout(5):
            while not redis.count(b"PUBLISH"):
                await asyncio.sleep(0.001)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        redis.release(b"PUBLISH")
        async with async_timeout.timeout(5):
            while not broker.dropped:
                await asyncio.sleep(0.001)
            del redis.answers[b"PUBLISH"]
            while not redis.commands[-1][-1].endswith(b"?\0"):
                redis.release(b"PUBLISH")
                await asyncio.sleep(0.001)
        redis.release(b"PUBLISH")
        assert broker.dropped == 1
    notices = [command[1] for command in redis.commands if command[-1].endswith(b"?\0")]
    assert set(notices) == {b"sockjs:news"}


async def test_a_broker_that_stops_keeps_nobody_waiting_who_has_just_subscribed(
    redis: ScriptedRedis,
) -> None:
    broker = RedisBroker(redis.url, timeout=0.1)
    redis.hold(b"SUBSCRIBE")
    broker.start(redis)
    broker.subscribe("news", Ear())
    broker.join("news", "ann")
    waiting = asyncio.ensure_future(broker.ready("news"))
    await turns()
    await broker.stop(redis)
    async with async_timeout.timeout(5):
        await waiting


@pytest.mark.slow
@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_broker_whose_queue_is_full_sends_it_before_it_stops(
    redis: ScriptedRedis, is_lost: bool
) -> None:
    broker = RedisBroker(redis.url, on_unavailable="raise", publish_queue_limit=1000, timeout=30)
    broker.start(broker)
    await until_connected(broker)
    redis.hold(b"PUBLISH")
    publishing = asyncio.create_task(broker.publish("room", "x" * 1000))
    await turns()
    stopping = asyncio.create_task(broker.stop(broker))
    await turns()
    assert not (publishing.done() or stopping.done())
    if is_lost:
        await redis.stop()
    else:
        redis.release(b"PUBLISH")
    async with async_timeout.timeout(5):
        await stopping
        (failure,) = await asyncio.gather(publishing, return_exceptions=True)
    assert isinstance(failure, BrokerUnavailableError) if is_lost else failure is None


@pytest.mark.virtual_time
@pytest.mark.not_over("uvloop")
async def test_members_of_many_channels_are_kept_although_redis_is_far_away(
    redis: ScriptedRedis,
) -> None:
    redis.delay = 0.02
    await members_are_kept(redis, 1000)


@pytest.mark.virtual_time
@pytest.mark.not_over("uvloop")
async def test_members_of_many_channels_are_kept_although_the_queue_is_small(
    redis: ScriptedRedis,
) -> None:
    redis.delay = 0.02
    await members_are_kept(redis, 60, publish_queue_limit=3000)


async def test_who_waits_for_room_in_the_queue_gets_it_however_much_others_publish(
    redis: ScriptedRedis,
) -> None:
    async with RedisBroker(redis.url, timeout=30, publish_queue_limit=20_000) as broker:
        await until_connected(broker)

        async def flood() -> None:
            while True:
                for _ in range(100):
                    publishing.append(asyncio.ensure_future(broker.publish("news", "x" * 1000)))
                await asyncio.sleep(0)

        publishing: list[asyncio.Future[None]] = []
        flooding = asyncio.ensure_future(flood())
        await turns()
        assert broker._work is not None
        commands = broker._work.link._commands
        async with async_timeout.timeout(10):
            await commands.call_with_room(lambda: [("SET", "key", "y" * 10_000)])
        flooding.cancel()
        await asyncio.gather(*publishing)
        assert broker.dropped > 0, "there was a flood"


async def members_are_kept(redis: ScriptedRedis, count: int, **options: Any) -> None:
    """Check that the members of many channels are refreshed before they expire."""
    channels = [f"room{number}" for number in range(count)]
    async with RedisBroker(redis.url, member_expiry=15, **options) as broker:
        for channel in channels:
            broker.join(channel, "ann")
        await asyncio.sleep(60)
        end = asyncio.get_running_loop().time()
    kept: dict[bytes, float] = {}
    for (verb, *arguments), time in zip(redis.commands, redis.times, strict=True):
        if verb == b"PEXPIRE" and b":members:" in arguments[0]:
            assert time - kept.get(arguments[0], time) < 15, arguments[0]
            kept[arguments[0]] = time
    assert len(kept) == len(channels)
    assert end - min(kept.values()) < 15
