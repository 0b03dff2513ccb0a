"""Redis that is not there, dies, comes back, or hangs: what goes on, what is said, what is lost."""

import asyncio
import itertools
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import async_timeout
import pytest
from redis.asyncio import Connection
from redis.exceptions import TimeoutError as RedisTimeoutError

from sockjs_aio import BrokerUnavailableError, ConnectionInfo, SockJSRouter
from sockjs_aio.brokers.redis import RedisBroker
from sockjs_aio.brokers.redis.gap_notices import GapNotices
from tests import clients
from tests.brokers.redis_server import RedisServer
from tests.brokers.talker import Talker, tell
from tests.brokers.test_redis import until_connected
from tests.conftest import Recorder, Serve, Served
from tests.observers import Notes
from tests.process import PATIENCE
from tests.test_lost_cancellations import Deaf

pytestmark = pytest.mark.redis
WebSocket = clients.WebSocket

HASTY: dict[str, Any] = {"timeout": 0.8, "max_retry_delay": 0.1}
"""Options for tests that wait for Redis to be missed, and to be found again."""

STRICT: dict[str, Any] = {**HASTY, "on_unavailable": "raise"}
"""The same, for those that want to be told."""


async def until(is_so: Callable[[], bool | Awaitable[bool]]) -> None:
    async with async_timeout.timeout(10):
        while True:
            answer = is_so()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.005)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.message
        for record in caplog.records
        if record.name == "sockjs_aio.broker" and record.levelno >= logging.WARNING
    ]


class Traffic:
    """Two nodes: numbers are published on the first, and received on both."""

    def __init__(self, url: str, **options: Any) -> None:
        self.brokers = [RedisBroker(url, **{**STRICT, **options}) for _ in range(2)]
        self.published = 0
        self.failed: set[int] = set()
        self.received: list[list[int]] = [[], []]
        self.clients: list[Any] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, serve: Serve) -> None:
        self.nodes: list[Served] = [await serve(Talker, broker=x) for x in self.brokers]
        for node, received in zip(self.nodes, self.received, strict=True):
            client = await WebSocket.open(node)
            await tell(client, "sub numbers ann", "sub more")
            self.clients.append(client)
            self._tasks.append(asyncio.ensure_future(self._receive(client, received)))
        self._tasks.append(asyncio.ensure_future(self._publish()))

    async def _publish(self) -> None:
        while True:
            number = self.published
            self.published += 1
            try:
                await self.nodes[0].router.publish("numbers", str(number))
            except BrokerUnavailableError:
                self.failed.add(number)
            await asyncio.sleep(0.002)

    async def _receive(self, client: Any, received: list[int]) -> None:
        while True:
            frame = await client._frame()
            if frame[:1] == b"a":
                received += map(int, frame[2:-1].replace(b'"', b"").split(b","))

    async def flows(self, node: int = 1) -> None:
        """Wait until messages that are published from now on are received."""
        start = self.published
        await until(lambda: bool(self.received[node]) and self.received[node][-1] >= start + 5)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results

    def check(self) -> None:
        """Check what is promised."""
        near, far = self.received
        assert near == list(range(len(near))), "local delivery is complete, whatever Redis does"
        assert len(near) >= self.published - 1
        assert far == sorted(set(far)), "nothing comes twice, or out of order"


# It is not there.


async def test_server_starts_and_serves_without_redis(
    serve: Serve, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.kill()
    broker = RedisBroker(own_redis.url, **STRICT)
    served = await serve(Talker, broker=broker)
    one, two = await WebSocket.open(served), await WebSocket.open(served)
    await tell(one, "sub news ann")
    await tell(two, "sub news bob")
    await one.send("pub news 1")
    assert await one.messages(2) == ["1", "unavailable"]
    assert await two.messages(1) == ["1"]
    with pytest.raises(BrokerUnavailableError, match="Error 111"):
        await served.router.members("news")
    assert (broker.state, broker.gaps, broker.dropped) == ("reconnecting", 1, 1)
    assert len(said(caplog)) == 1 and "from now on, messages from other" in said(caplog)[0]
    own_redis.start()
    await until_connected(broker)
    assert await RedisBroker(own_redis.url).members("news") == {"ann", "bob"}
    own_redis.publish("sockjs:news", b"2")
    for client in (one, two):
        assert await client.messages(1) == ["2"]
    assert len(said(caplog)) == 2 and "connected again after" in said(caplog)[1]


class Careless(Recorder):
    """Publishes and asks, and thinks of no exception."""

    async def on_open(self, info: ConnectionInfo) -> None:
        await self.subscribe("news", member="ann")
        await super().on_open(info)

    async def on_message(self, message: str | bytes) -> None:
        await self.publish("news", str(message))
        self.send(",".join(await self.members("news")))


@pytest.mark.parametrize("way", ["not there", "killed", "stopped", "refuses"])
@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
async def test_sessions_stay_while_redis_is_away(
    serve: Serve,
    own_redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
    kind: type[clients.Client],
    way: str,
) -> None:
    class Here(Careless):
        pass

    if way == "not there":
        own_redis.kill()
    broker = RedisBroker(own_redis.url, **HASTY)
    client = await kind.open(await serve(Here, broker=broker))
    await Here.until("open")
    if way != "not there":
        await until_connected(broker)
    if way == "killed":
        own_redis.kill()
    elif way == "stopped":
        own_redis.signal(signal.SIGSTOP)
    elif way == "refuses":
        own_redis.cli("ACL", "SETUSER", "default", "-publish", "-eval")
    for number in range(5):
        await client.send(f"{number}")
        assert await client.messages(2) == [f"{number}", "ann"]
    assert "close" not in Here.seen
    assert broker.dropped == 5
    assert len([text for text in said(caplog) if "dropping messages for other" in text]) == 1
    await client.leave()


async def test_publishing_without_a_server_raises_if_one_likes(own_redis: RedisServer) -> None:
    own_redis.kill()
    await RedisBroker(own_redis.url).publish("news", "nobody hears")
    with pytest.raises(BrokerUnavailableError, match="Error 111"):
        await RedisBroker(own_redis.url, on_unavailable="raise").publish("news", "nobody hears")


async def test_attempts_to_connect_become_rare(serve: Serve) -> None:
    accepted: list[float] = []

    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(time.monotonic())
        writer.close()

    listener = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    served = await serve(Talker, broker=RedisBroker(f"redis://127.0.0.1:{port}"))
    await until(lambda: len(accepted) >= 4)
    pauses = [after - before for before, after in itertools.pairwise(accepted)]
    for number, pause in enumerate(pauses[:3]):
        assert pause >= 0.1 * 2**number * 0.5
    await served.runner.cleanup()
    listener.close()
    await listener.wait_closed()


async def test_redis_that_accepts_and_says_nothing_is_given_up(serve: Serve) -> None:
    connections = []

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    listener = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    broker = RedisBroker(f"redis://127.0.0.1:{port}", **STRICT)
    served = await serve(Talker, broker=broker)
    client = await WebSocket.open(served)
    await client.send("sub news ann", "pub news 1")
    assert await client.messages(3) == ["done", "1", "unavailable"]
    with pytest.raises(BrokerUnavailableError, match="no answer in time"):
        await RedisBroker(f"redis://127.0.0.1:{port}", **{**STRICT, "timeout": 0.1}).publish(
            "news", "x"
        )
    await served.runner.cleanup()
    for writer in connections:
        writer.close()
    listener.close()


# It dies.


@pytest.mark.parametrize("way", ["kill", "kill connections", "stop"])
async def test_traffic_goes_on_and_comes_back(
    serve: Serve, own_redis: RedisServer, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    traffic = Traffic(own_redis.url)
    await traffic.start(serve)
    await traffic.flows()
    for count in (1, 2):
        if way == "kill":
            own_redis.kill()
            await until(lambda: all(x.state == "reconnecting" for x in traffic.brokers))
            await traffic.flows(0)
            own_redis.start()
        elif way == "stop":
            own_redis.signal(signal.SIGSTOP)
            await until(lambda: all(x.state == "reconnecting" for x in traffic.brokers))
            await traffic.flows(0)
            own_redis.signal(signal.SIGCONT)
        else:
            own_redis.command("CLIENT", "KILL", "TYPE", "pubsub")
            await until(partial(_gaps_are, count, traffic.brokers))
        await until_connected(*traffic.brokers)
        await traffic.flows()
        for node in traffic.nodes:  # what Redis has lost it was told again
            await until(partial(_ann_is_in, "numbers", node.router))
    await traffic.stop()
    traffic.check()
    assert way == "kill connections" or traffic.failed
    for broker in traffic.brokers:
        assert (broker.state, broker.gaps) == ("connected", 2)
    losses = [text for text in said(caplog) if "from now on, messages" in text]
    returns = [text for text in said(caplog) if "connected again" in text]
    assert (len(losses), len(returns)) == (4, 4)
    others = set(said(caplog)) - {*losses, *returns}
    assert all("still being lost" in text for text in others), others  # another reason, meanwhile


def _gaps_are(count: int, brokers: list[RedisBroker]) -> bool:
    return all(broker.gaps == count for broker in brokers)


async def _ann_is_in(channel: str, router: SockJSRouter) -> bool:
    try:
        return await router.members(channel) == {"ann"}
    except BrokerUnavailableError:
        return False


async def test_subscribing_does_not_hang_on_a_redis_that_does(
    serve: Serve, own_redis: RedisServer
) -> None:
    broker = RedisBroker(own_redis.url, **STRICT)
    served = await serve(Talker, broker=broker)
    await until_connected(broker)
    own_redis.signal(signal.SIGSTOP)
    client = await WebSocket.open(served)
    await client.send("sub news ann", "sub more", "unsub more", "pub news 1")
    assert await client.messages(5) == ["done", "done", "done", "1", "unavailable"]
    assert broker.state == "reconnecting"
    own_redis.signal(signal.SIGCONT)
    await until_connected(broker)
    own_redis.publish("sockjs:more", b"not subscribed any more")
    own_redis.publish("sockjs:news", b"2")
    assert await client.messages(1) == ["2"]
    await until(partial(_ann_is_in, "news", served.router))


async def test_what_waits_for_redis_is_bounded(serve: Serve, own_redis: RedisServer) -> None:
    broker = RedisBroker(
        own_redis.url, publish_queue_limit=100_000, timeout=30, on_unavailable="raise"
    )
    served = await serve(Talker, broker=broker, settings={"shutdown_timeout": 0.1})
    await served.router.publish("news", "connects")
    own_redis.signal(signal.SIGSTOP)
    text = "x" * 9_000
    waiting = [asyncio.ensure_future(served.router.publish("news", text)) for _ in range(20)]
    done, pending = await asyncio.wait(waiting, timeout=0.5)
    assert (len(done), len(pending)) == (10, 10)
    for task in done:
        assert "full (100000 bytes)" in str(task.exception())
    own_redis.signal(signal.SIGCONT)
    await asyncio.gather(*pending)


@pytest.mark.parametrize("way", ["kill", "stop"])
async def test_server_ends_in_time_without_redis(
    serve: Serve, own_redis: RedisServer, way: str
) -> None:
    broker = RedisBroker(own_redis.url, **STRICT)
    served = await serve(Talker, broker=broker)
    client = await WebSocket.open(served)
    await tell(client, "sub news ann")
    waiting: list[asyncio.Future[Any]] = []
    if way == "kill":
        own_redis.kill()
    else:
        own_redis.signal(signal.SIGSTOP)
        waiting.append(asyncio.ensure_future(served.router.publish("news", "x")))
        waiting.append(asyncio.ensure_future(served.router.members("news")))
        cancelled = asyncio.ensure_future(served.router.publish("news", "x"))
        await asyncio.sleep(0)
        cancelled.cancel()
    async with async_timeout.timeout(5):
        await served.runner.cleanup()
    for task in waiting:
        with pytest.raises(BrokerUnavailableError):
            await task
    assert broker.state == "stopped"


async def test_loop_that_was_held_up_is_no_reason_to_give_up(
    serve: Serve, own_redis: RedisServer
) -> None:
    broker = RedisBroker(own_redis.url, **STRICT)
    served = await serve(Talker, broker=broker)
    client = await WebSocket.open(served)
    await tell(client, "sub news")
    for _ in range(3):
        publishing = asyncio.ensure_future(served.router.publish("news", "x"))
        await asyncio.sleep(0)
        time.sleep(1)  # noqa: ASYNC251 (longer than the timeout)
        await publishing
        await asyncio.sleep(0.05)
    assert (broker.state, broker.gaps) == ("connected", 0)


async def test_idle_link_is_kept(serve: Serve, own_redis: RedisServer) -> None:
    own_redis.cli("CONFIG", "SET", "timeout", "1")  # Redis ends idle connections
    broker = RedisBroker(own_redis.url, **STRICT)
    served = await serve(Talker, broker=broker)
    await served.router.publish("news", "x")
    await asyncio.sleep(2.5)
    await served.router.publish("news", "x")
    assert (broker.state, broker.gaps) == ("connected", 0)


async def test_observers_are_told_when_messages_may_be_missed(
    serve: Serve, own_redis: RedisServer
) -> None:
    broker, notes = RedisBroker(own_redis.url, **HASTY), Notes()
    served = await serve(Talker, broker=broker, observers=[notes])
    await until_connected(broker)
    assert notes.named("broker_gap") == []
    own_redis.kill()
    await notes.until("broker_gap")
    stats = served.router.stats
    assert (stats.broker, stats.broker_gaps) == ("reconnecting", 1)
    own_redis.start()
    await until_connected(broker)
    assert served.router.stats.broker == "connected"
    assert notes.named("broker_gap") == [(broker,)], "once for each loss"


@pytest.mark.logs("ZeroDivisionError")
async def test_a_user_that_fails_when_it_is_told_of_a_gap_stops_nothing(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        told = 0

        def gap_began(self) -> None:
            self.told += 1
            raise ZeroDivisionError

    broker, users = RedisBroker(own_redis.url, **HASTY), [Failing(), Failing()]
    for user in users:
        broker.start(user)
    await until_connected(broker)
    for round_ in (1, 2):
        own_redis.kill()
        await until(lambda: broker.gaps == round_)  # noqa: B023
        own_redis.start()
        await until_connected(broker)
    assert [user.told for user in users] == [2, 2]
    assert caplog.text.count("a user of the broker failed when a gap began") == 4
    for user in users:
        await broker.stop(user)


async def test_a_part_of_the_link_that_loses_a_cancellation_holds_up_neither_a_new_link_nor_the_end(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf: list[Deaf] = []

    def work(*_: object) -> Coroutine[Any, Any, None]:
        deaf.append(Deaf())
        return deaf[-1].work()

    monkeypatch.setattr(GapNotices, "keep", work)
    broker = RedisBroker(own_redis.url, **HASTY)
    broker.start(broker)
    await until_connected(broker)
    own_redis.kill()
    await until(lambda: broker.state == "reconnecting")
    own_redis.start()
    await until_connected(broker)
    async with async_timeout.timeout(PATIENCE):
        await broker.stop(broker)
    assert [each.heard for each in deaf] == [2, 2]


async def test_a_broker_whose_end_is_cancelled_has_ended(own_redis: RedisServer) -> None:
    before = asyncio.all_tasks()
    broker = RedisBroker(own_redis.url)
    broker.start(broker)
    await until_connected(broker)
    own_redis.signal(signal.SIGSTOP)
    stopping = asyncio.ensure_future(broker.stop(broker))
    await asyncio.sleep(0.05)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    own_redis.signal(signal.SIGCONT)
    await until(lambda: asyncio.all_tasks() == before)
    await until(lambda: own_redis.command("CLIENT", "LIST").count(b" addr=") == 1)


async def test_what_fails_while_a_broker_ends_is_not_taken_for_a_loss(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when closing a connection fails, or a cancellation is lost to a timeout."""
    broker = RedisBroker(own_redis.url)
    broker.start(broker)
    await until_connected(broker)
    assert broker._work is not None
    link = broker._work.link
    disconnect = Connection.disconnect

    async def fail(self: Connection, **options: Any) -> None:
        await disconnect(self, **options)
        raise RedisTimeoutError("Timed out closing connection after 1")

    monkeypatch.setattr(Connection, "disconnect", fail)
    await broker.stop(broker)
    assert caplog.text == ""
    assert link.state == "stopped"
    assert broker.gaps == 0
    await until(lambda: own_redis.command("CLIENT", "LIST").count(b" addr=") == 1)


async def test_member_that_leaves_while_redis_is_away_is_gone_when_it_is_back(
    own_redis: RedisServer,
) -> None:
    cut_off = RedisBroker(own_redis.url, member_expiry=1000, **HASTY)
    async with cut_off, RedisBroker(own_redis.url) as other:
        for channel in ("left", "lost", "kept"):
            cut_off.join(channel, "ann")
            await cut_off.ready(channel)
            assert await other.members(channel) == {"ann"}
        own_redis.signal(signal.SIGSTOP)
        cut_off.leave("lost", "ann")
        await until(lambda: cut_off.state == "reconnecting")
        cut_off.leave("left", "ann")
        own_redis.signal(signal.SIGCONT)

        async def is_gone() -> bool:
            return not (await other.members("left") | await other.members("lost"))

        await until_connected(cut_off)
        await until(is_gone)
        assert await other.members("kept") == {"ann"}
