"""Sessions are told, or closed, when messages of their channels may have been missed."""

import asyncio
import contextvars

import pytest

from sockjs_aio import CloseInfo, ConnectionInfo
from sockjs_aio.brokers.redis import RedisBroker
from sockjs_aio.brokers.redis.gap_notices import GapNotices
from sockjs_aio.brokers.redis.payload import GapNotice, Reader, make_gap_notice, make_label
from sockjs_aio.core import lifetime
from sockjs_aio.multiplex import MultiplexConnection
from sockjs_aio.testing.brokers import LinkedBroker, linked_brokers
from tests import clients
from tests.brokers.conftest import MakeBroker
from tests.brokers.proxy import Proxy
from tests.brokers.redis_server import RedisServer
from tests.brokers.talker import Talker, tell
from tests.brokers.test_loops import Ear
from tests.brokers.test_redis import until_connected
from tests.brokers.test_redis_down import HASTY, until
from tests.conftest import Recorder, Serve

Kind = type[clients.Client]
ALL = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
BOTH = pytest.mark.parametrize("kind", [clients.WebSocket, clients.Xhr], ids=lambda kind: kind.name)
WebSocket = clients.WebSocket

# the time within which sessions are closed, without its random part
AT_ONCE = {"on_gap": "close", "session_check_interval": 0.02}


class Reloading(Talker):
    """Says which channels have had a gap."""

    async def on_gap(self, channel: str) -> None:
        self.send(f"gap {channel}")


class Ending(Talker):
    """Notes how its sessions end; its `on_gap` must not be called."""

    ends: list[CloseInfo]

    def __init_subclass__(cls) -> None:
        cls.ends = []

    async def on_gap(self, channel: str) -> None:
        raise AssertionError

    async def on_close(self) -> None:
        assert self.close_info is not None
        self.ends.append(self.close_info)


def interrupt(broker: LinkedBroker) -> None:
    broker.cut()
    broker.mend()


@ALL
async def test_gap_is_told_once_for_each_channel(serve: Serve, kind: Kind) -> None:
    here, there = linked_brokers()
    served = await serve(Reloading, broker=here)
    client, other = await kind.open(served), await kind.open(served)
    await tell(client, "sub news", "sub more", "sub left", "unsub left")
    interrupt(here)
    assert sorted(await client.messages(2)) == ["gap more", "gap news"]
    await there.publish("news", "x")
    assert await client.messages(1) == ["x"]
    await tell(other, "sub more")  # it was subscribed to nothing
    there.cut()
    await there.publish("more", "lost")
    assert not there.channels
    there.mend()
    for each in (client, other):
        assert await each.messages(1) == ["gap more"], "others have missed its message"


@BOTH
async def test_gap_comes_after_the_running_hook_and_before_waiting_messages(
    serve: Serve, kind: Kind
) -> None:
    variable = contextvars.ContextVar("variable", default="")
    may_go_on = asyncio.Event()

    class Slow(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            variable.set("opened")
            for channel in ("news", "more", "left"):
                await self.subscribe(channel)
            await super().on_open(info)

        async def on_message(self, message: str | bytes) -> None:
            self.seen.append(message)
            await may_go_on.wait()
            self.unsubscribe("left")
            self.seen.append("end")

        async def on_gap(self, channel: str) -> None:
            self.seen.append(f"gap {channel} {variable.get()}")
            await asyncio.sleep(0)
            self.seen.append("end")

    (broker,) = linked_brokers(1)
    client = await kind.open(await serve(Slow, broker=broker))
    await client.send("one", "two")
    await Slow.until("one")
    interrupt(broker)
    interrupt(broker)  # nobody was told of the first one yet
    may_go_on.set()
    await Slow.until("end", 4)
    gaps = ["gap news opened", "end", "gap more opened", "end"]
    assert Slow.seen == ["open", "one", "end", *gaps, "two", "end"]


@pytest.mark.not_over("uvloop")  # which reads before it runs what was scheduled
@ALL
async def test_gap_comes_before_messages_that_are_read_in_the_same_turn(
    serve: Serve, kind: Kind
) -> None:
    class Noted(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await self.subscribe("news")
            await super().on_open(info)

        async def on_gap(self, channel: str) -> None:
            self.seen.append("gap")

    (broker,) = linked_brokers(1)
    client = await kind.open(await serve(Noted, broker=broker))
    await client.send("one")
    await Noted.until("one")
    for number in range(5):  # one of them at least finds its bytes behind the gap in one turn
        asyncio.get_running_loop().call_soon(interrupt, broker)
        await client.send(f"{number}")
        await Noted.until(f"{number}")
        await Noted.until("gap", number + 1)
    told = [each for number in range(5) for each in ("gap", f"{number}")]
    assert Noted.seen == ["open", "one", *told]
    await client.leave()


@ALL
@pytest.mark.parametrize("rate", [None, 1000])
async def test_gap_in_a_hook_that_does_not_wait_comes_before_messages_behind_it(
    serve: Serve, kind: Kind, rate: float | None
) -> None:
    class Noted(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await self.subscribe("news")
            await super().on_open(info)

        async def on_message(self, message: str | bytes) -> None:
            await super().on_message(message)
            if message == "two":
                interrupt(broker)

        async def on_gap(self, channel: str) -> None:
            self.seen.append("gap")

    (broker,) = linked_brokers(1)
    client = await kind.open(await serve(Noted, settings={"message_rate": rate}, broker=broker))
    await client.send("one", "two", "three", "two", "two", "four")
    await Noted.until("four")
    assert Noted.seen == ["open", "one", *["two", "gap", "three"], *["two", "gap"] * 2, "four"]
    await client.leave()


@BOTH
async def test_gap_while_on_open_runs_is_told_afterwards(serve: Serve, kind: Kind) -> None:
    (broker,) = linked_brokers(1)

    class Opening(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await self.subscribe("news")
            interrupt(broker)
            await asyncio.sleep(0)
            await super().on_open(info)

        async def on_gap(self, channel: str) -> None:
            self.seen.append(channel)

    await kind.open(await serve(Opening, broker=broker))
    await Opening.until("news")
    assert Opening.seen == ["open", "news"]


@BOTH
@pytest.mark.logs(r"Failing\.on_gap failed(?s:.*)LookupError: news")
async def test_session_whose_on_gap_raises_is_closed(serve: Serve, kind: Kind) -> None:
    class Failing(Talker):
        async def on_gap(self, channel: str) -> None:
            raise LookupError(channel)

    (broker,) = linked_brokers(1)
    client = await kind.open(await serve(Failing, broker=broker))
    await tell(client, "sub news")
    interrupt(broker)
    assert await client.frame() == b'c[1011,"Internal error"]'


@BOTH
async def test_closed_session_is_not_told(serve: Serve, kind: Kind) -> None:
    class Closing(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            await self.subscribe("news")
            interrupt(broker)
            self.close()

        async def on_gap(self, channel: str) -> None:
            self.seen.append(channel)

    (broker,) = linked_brokers(1)
    client = await kind.open(await serve(Closing, broker=broker))
    await client.send("x")
    await Closing.until("close")
    assert Closing.seen == ["open", "close"]


@ALL
async def test_session_is_closed_after_a_gap_if_you_want(
    serve: Serve, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mine(Ending):
        pass

    monkeypatch.setattr(lifetime, "GAP_SPREAD", 0)
    (broker,) = linked_brokers(1)
    served = await serve(Mine, settings=AT_ONCE, broker=broker)
    client, other = await kind.open(served), await kind.open(served)
    await tell(client, "sub news")
    interrupt(broker)
    while not (frame := await client.frame()).startswith(b"c"):
        pass  # a heartbeat
    assert frame == b'c[1012,"Messages missed"]'
    await until(lambda: bool(Mine.ends))
    (end,) = Mine.ends
    assert (end.code, end.reason, end.initiator) == (1012, "Messages missed", "gap")
    await tell(other, "sub news")
    closed = served.router.stats.closed
    assert [x for (_, status), x in closed.items() if status == "messages_missed"] == [1]


@pytest.mark.parametrize("closes", [False, True])
async def test_multiplexed_channels_are_told_in_turn_or_closed_alone(
    serve: Serve, closes: bool
) -> None:
    may_go_on = asyncio.Event()
    seen = []

    class Slow(Talker):
        async def on_message(self, message: str | bytes) -> None:
            seen.append("message")
            await may_go_on.wait()
            seen.append("end")

    class Listening(Talker):
        async def on_open(self, info: ConnectionInfo) -> None:
            await self.subscribe("news")

        async def on_gap(self, channel: str) -> None:
            seen.append(f"gap {channel}")
            self.send("gap")
            self.close()

        async def on_close(self) -> None:
            assert self.close_info is not None
            seen.append(self.close_info.initiator)

    (broker,) = linked_brokers(1)
    both = MultiplexConnection.get(slow=Slow, listening=Listening)
    settings = {"on_gap": "close" if closes else None}
    client = await WebSocket.open(await serve(both, settings=settings, broker=broker))
    await client.send("sub,listening", "sub,slow", "msg,slow,x")
    await until(lambda: bool(seen))
    interrupt(broker)
    await asyncio.sleep(0.01)
    if closes:
        assert await client.messages(1) == ["uns,listening"]
        await until(lambda: seen == ["message", "gap"])
        may_go_on.set()
        return
    assert seen == ["message"]
    may_go_on.set()
    assert await client.messages(2) == ["msg,listening,gap", "uns,listening"]
    await until(lambda: seen == ["message", "end", "gap news", "server"])


@pytest.mark.redis
@pytest.mark.parametrize("way", ["killed", "CLIENT KILL"])
async def test_gap_is_told_when_redis_works_again(
    serve: Serve, own_redis: RedisServer, way: str
) -> None:
    broker, ear = RedisBroker(own_redis.url, **HASTY), GapEar()
    served = await serve(Reloading, broker=broker)
    client, late = await WebSocket.open(served), await clients.Xhr.open(served)
    await tell(client, "sub news", "sub more")
    broker.start(ear)
    broker.subscribe("news", ear)
    if way == "killed":
        own_redis.kill()
        await until(lambda: broker.state == "reconnecting")
        await tell(late, "sub news")  # it returns, but messages do not arrive yet
        own_redis.start()
    else:
        own_redis.cli("CLIENT", "KILL", "TYPE", "pubsub")
    assert sorted(await client.messages(2)) == ["gap more", "gap news"]
    own_redis.publish("sockjs:news", b"new")  # nothing is missed from now on
    assert await client.messages(1) == ["new"]
    if way == "killed":
        assert await late.messages(2) == ["gap news", "new"]
    assert (ear.gaps, ear.texts, broker.gaps) == (["news"], ["new"], 1)
    broker.unsubscribe("news", ear)
    await broker.stop(ear)


class GapEar(Ear):
    """Listens to a broker without a session."""

    def __init__(self) -> None:
        super().__init__()
        self.gaps: list[str] = []

    def gap_ended(self, channel: str) -> None:
        self.gaps.append(channel)


@pytest.mark.redis
async def test_gap_of_a_channel_that_redis_refuses_is_told_when_it_is_allowed(
    serve: Serve, own_redis: RedisServer
) -> None:
    own_redis.cli("ACL", "SETUSER", "default", "resetchannels", "&sockjs:news")
    broker = RedisBroker(own_redis.url, **HASTY)
    client = await WebSocket.open(await serve(Reloading, broker=broker))
    await tell(client, "sub news", "sub secret")
    assert broker.state == "degraded"
    own_redis.cli("ACL", "SETUSER", "default", "allchannels")
    assert await client.messages(1) == ["gap secret"]
    await tell(client, "sub news")


@pytest.mark.redis
async def test_others_are_told_of_messages_that_did_not_reach_redis(
    serve: Serve, own_redis: RedisServer, proxy: Proxy
) -> None:
    cut_off = RedisBroker(proxy.url, **HASTY)
    other = RedisBroker(own_redis.url, **HASTY)
    publisher = await WebSocket.open(await serve(Reloading, broker=cut_off))
    listener = await WebSocket.open(await serve(Reloading, broker=other))
    await tell(publisher, "sub news")
    await tell(listener, "sub news", "sub more")
    await until_connected(cut_off, other)
    target, proxy.target = proxy.target, 1
    proxy.cut()
    await until(lambda: cut_off.state == "reconnecting")
    await tell(publisher, "others news lost")
    proxy.target = target
    assert await publisher.messages(1) == ["gap news"]
    assert await listener.messages(1) == ["gap news"], "it has missed a message"
    assert (other.state, other.gaps) == ("connected", 0)
    await tell(publisher, "others news new")
    assert await listener.messages(1) == ["new"]


@pytest.mark.redis
async def test_many_who_could_not_publish_cause_one_gap_a_second(
    redis_server: RedisServer, redis_broker: MakeBroker, prefix: str
) -> None:
    broker, ear = redis_broker(), GapEar()
    broker.start(ear)
    broker.subscribe("news", ear)
    await broker.ready("news")
    notices = [make_gap_notice(make_label(f"{number:016x}", 1)) for number in range(20)]
    redis_server.publish(f"{prefix}news", *notices, b"next")
    await until(lambda: bool(ear.texts and ear.gaps))
    assert (ear.texts, ear.gaps) == (["next"], ["news"])
    broker.unsubscribe("news", ear)
    await broker.stop(ear)


@pytest.mark.redis
async def test_channel_that_redis_refuses_does_not_have_others_told_again_and_again(
    serve: Serve, own_redis: RedisServer, proxy: Proxy
) -> None:
    own_redis.cli("ACL", "SETUSER", "some", "on", ">pw", "+@all", "~*", "&sockjs:news")
    cut_off = RedisBroker(proxy.url.replace("//", "//some:pw@"), **HASTY)
    other = RedisBroker(own_redis.url, **HASTY)
    publisher = await WebSocket.open(await serve(Talker, broker=cut_off))
    listener = await WebSocket.open(await serve(Reloading, broker=other))
    await tell(publisher, "sub news")
    await tell(listener, "sub news", *(f"sub secret{number}" for number in range(9)))
    await until_connected(cut_off, other)
    await tell(publisher, *(f"others secret{number} lost" for number in range(9)))
    target, proxy.target = proxy.target, 1
    proxy.cut()
    await until(lambda: cut_off.state == "reconnecting")
    await tell(publisher, "others news lost")
    proxy.target = target
    assert await listener.messages(1) == ["gap news"]
    await asyncio.sleep(4 * HASTY["max_retry_delay"])
    await tell(publisher, "others news new")
    assert await listener.messages(1) == ["new"], "it is told once"
    own_redis.cli("ACL", "SETUSER", "some", "allchannels")
    assert sorted(await listener.messages(9)) == [f"gap secret{number}" for number in range(9)]


async def test_gaps_of_many_channels_are_told_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sockjs_aio.turns.TURN", 0)
    told: list[str] = []
    notices = GapNotices(told.append, lambda channel: ("PING",), 5)
    for number in range(10):
        notices.missed(f"room{number}")
    keeping = asyncio.ensure_future(notices.keep(None))  # type: ignore[arg-type]
    for turn in range(1, 11):
        await asyncio.sleep(0)
        assert len(told) == turn
    keeping.cancel()


@pytest.mark.redis
async def test_message_that_is_too_large_is_a_gap(
    serve: Serve, redis_server: RedisServer, redis_broker: MakeBroker, prefix: str
) -> None:
    broker = redis_broker(max_message_size=10)
    client = await WebSocket.open(await serve(Reloading, broker=broker))
    await tell(client, "sub news")
    redis_server.publish(f"{prefix}news", *[b"x" * 300] * 100, b"next")
    assert sorted(await client.messages(2)) == ["gap news", "next"], "it is told once"
    await tell(client, "sub news")


@pytest.mark.logs("a listener failed when it was told of a gap(?s:.*)LookupError")
async def test_listener_that_raises_does_not_keep_others_from_being_told() -> None:
    class Raising(Ear):
        def gap_ended(self, channel: str) -> None:
            raise LookupError(channel)

    (broker,), ear = linked_brokers(1), GapEar()
    broker.start(ear)
    broker.subscribe("news", Raising())
    broker.subscribe("news", ear)
    interrupt(broker)
    assert ear.gaps == ["news"]


def test_sessions_end_at_random_times_and_once() -> None:
    ends = {lifetime.ended_soon(None, 10).due for _ in range(20)}
    assert len(ends) > 10
    assert 10 <= min(ends) < max(ends) <= 12
    first = lifetime.ended_soon(None, 10)
    due = first.due
    assert lifetime.ended_soon(first, 15).due == due


def test_notice_of_a_gap_is_read_by_others() -> None:
    ann, bob = "a" * 16, "b" * 16
    payload = make_gap_notice(make_label(ann, 3))
    assert payload == b"\0%s:3?\0" % ann.encode()
    assert isinstance(Reader(bob).read(payload), GapNotice)
    assert isinstance(Reader(bob).read(b"\0?\0"), GapNotice)
    assert Reader(ann).read(payload) is None


async def test_sessions_without_on_gap_get_no_task(serve: Serve) -> None:
    (broker,) = linked_brokers(1)
    served = await serve(Talker, broker=broker)
    client = await clients.Xhr.open(served)
    await tell(client, "sub news")
    tasks = asyncio.all_tasks()
    interrupt(broker)
    assert asyncio.all_tasks() == tasks
