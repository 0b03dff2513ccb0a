"""What every broker promises: the same tests for each of them, with two nodes."""

import asyncio
import gc
import weakref
from typing import Any

import async_timeout
import pytest

from sockjs_aio import (
    ConnectionInfo,
    SockJSConnection,
    SockJSRouter,
    TooManyChannelsError,
)
from sockjs_aio.multiplex import MultiplexConnection
from tests import clients
from tests.brokers.conftest import MakeBroker
from tests.brokers.talker import Talker, tell
from tests.conftest import Recorder, Serve, Served

Kind = type[clients.Client]
ALL = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
WebSocket = clients.WebSocket

BRIEF = {"disconnect_delay": 0.5, "session_check_interval": 0.02}
"""Settings for tests that wait for polling sessions to end."""


async def nodes(serve: Serve, make_broker: MakeBroker, connection: Any = Talker) -> list[Served]:
    """Start two servers whose brokers lead to the same place."""
    return [await serve(connection, broker=make_broker()) for _ in range(2)]


# Messages.


@ALL
async def test_message_reaches_subscribers_on_all_nodes(
    serve: Serve, make_broker: MakeBroker, kind: Kind
) -> None:
    here, there = await nodes(serve, make_broker)
    publisher = await WebSocket.open(here)
    subscribers = [await kind.open(node) for node in (here, there)]
    for subscriber in subscribers:
        await tell(subscriber, "sub news", "sub other")
    await tell(publisher, "pub news \u2603 %41 </script> \U0001f600")
    for subscriber in subscribers:
        assert await subscriber.messages(1) == ["\u2603 %41 </script> \U0001f600"]


async def test_messages_of_one_publisher_come_in_order_and_once(
    serve: Serve, make_broker: MakeBroker
) -> None:
    here, there = await nodes(serve, make_broker)
    subscribers = [await WebSocket.open(node) for node in (here, there)]
    for subscriber in subscribers:
        await tell(subscriber, "sub a", "sub b")
    for number in range(300):
        channel = "ab"[number % 2]
        await here.router.publish(channel, f"{channel}{number}")
    # calls that wait at the same time are in the order of their beginning
    await asyncio.gather(*(here.router.publish("a", f"a{x}") for x in range(300, 600)))
    for subscriber in subscribers:
        got = await subscriber.messages(600)
        for channel in "ab":
            sent = [x for x in range(300) if channel == "ab"[x % 2]]
            sent += range(300, 600) if channel == "a" else []
            assert [x for x in got if x[0] == channel] == [f"{channel}{x}" for x in sent]


async def test_only_subscribers_get_it(serve: Serve, make_broker: MakeBroker) -> None:
    here, there = await nodes(serve, make_broker)
    publisher, former, other, never = [await WebSocket.open(node) for node in (here, there) * 2]
    await tell(former, "sub news", "unsub news", "unsub news")
    await tell(other, "sub gnus", "unsub never")
    await tell(publisher, "pub news 1", "pub gnus 2")
    assert await other.messages(1) == ["2"]
    for nobody in (former, never):
        await tell(nobody, "pub nowhere to hear the answer")


async def test_key_comes_with_the_message(serve: Serve, make_broker: MakeBroker) -> None:
    class Subscribed(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await self.subscribe("prices")
            await super().on_open(info)

    here, there = await nodes(serve, make_broker, Subscribed)
    # polls: what is published between two of them waits
    await here.poll("/0/near")
    await there.poll("/0/far")
    await Subscribed.until("open", 2)
    for number in range(100):
        await here.router.publish("prices", f"{number}", key="h\u00e9")
    await here.router.publish("prices", "end")
    machines = [connection.session._machine for connection in Subscribed.connections]
    async with async_timeout.timeout(20):
        while min(len(machine._outbox or ()) for machine in machines) < 2:
            await asyncio.sleep(0.001)
    for node, session in ((here, "/0/near"), (there, "/0/far")):
        assert await node.poll(session) == b'a["99","end"]'


async def test_publisher_is_a_subscriber_like_others_unless_excluded(
    serve: Serve, make_broker: MakeBroker
) -> None:
    here, there = await nodes(serve, make_broker)
    publisher, neighbour, far = [await WebSocket.open(node) for node in (here, here, there)]
    for client in (publisher, neighbour, far):
        await tell(client, "sub news")
    await publisher.send("pub news 1")
    assert await publisher.messages(2) == ["1", "done"]
    await tell(publisher, "others news 2")
    me = here.router.subscribers("news")[0]
    await here.router.publish("news", "3", exclude=[me])
    await here.router.publish("news", "4")
    assert await publisher.messages(1) == ["4"]
    for client in (neighbour, far):
        assert await client.messages(4) == ["1", "2", "3", "4"]


async def test_everything_comes_that_is_published_after_subscribe(
    serve: Serve, make_broker: MakeBroker
) -> None:
    begun = 0
    marks: dict[int, int] = {}

    class Late(SockJSConnection):
        async def on_open(self, info: ConnectionInfo) -> None:
            await self.subscribe("numbers")
            self.send(f"from {begun}")

    here, there = await nodes(serve, make_broker, Late)
    is_over = False

    async def publish() -> None:
        nonlocal begun
        while not is_over:
            begun += 1
            await here.router.publish("numbers", str(begun - 1))
            if begun % 3 == 0:
                await asyncio.sleep(0)

    publishing = asyncio.ensure_future(publish())
    async with async_timeout.timeout(10):
        latecomers = [await WebSocket.open(node) for node in (here, there) * 5]
        received: dict[Any, list[str]] = {client: [] for client in latecomers}
        for client in latecomers:
            while not any(text.startswith("from") for text in received[client]):
                received[client] += await client.messages(1)
            start = next(int(text[5:]) for text in received[client] if text.startswith("from"))
            while str(start + 20) not in received[client]:
                received[client] += await client.messages(1)
            marks[id(client)] = start
    is_over = True
    await publishing
    for client, texts in received.items():
        numbers = [int(text) for text in texts if not text.startswith("from")]
        assert numbers[0] <= marks[id(client)]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))


async def test_client_that_does_not_read_delays_nobody(
    serve: Serve, make_broker: MakeBroker
) -> None:
    settings = {"send_queue_limit": 100_000}
    here, there = [await serve(Talker, settings=settings, broker=make_broker()) for _ in range(2)]
    reader, sleeper = await WebSocket.open(there), await WebSocket.open(there)
    await tell(reader, "sub news")
    await tell(sleeper, "sub news")
    sleeper.stop_reading()
    text = "x" * 50_000
    async with async_timeout.timeout(20):
        for number in range(400):
            await here.router.publish("news", f"{number} {text}")
            assert await reader.messages(1) == [f"{number} {text}"]
            if len(there.router.subscribers("news")) == 1:
                break
        else:
            raise AssertionError("the one that does not read was not closed")
    sleeper.abort()


# Subscriptions.


@ALL
@pytest.mark.parametrize("way", ["leave", "abort", "close"])
async def test_subscriptions_end_with_the_session(
    serve: Serve, make_broker: MakeBroker, kind: Kind, way: str
) -> None:
    class Noted(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await super().on_open(info)
            await self.subscribe("news", member="ann")
            await self.subscribe("more")

        async def on_close(self) -> None:
            assert not served.router.subscribers("news")
            assert await served.router.members("news") == set()
            await self.subscribe("news")  # does nothing any more
            await super().on_close()

    broker = make_broker()
    served = await serve(Noted, settings=BRIEF, broker=broker)
    client = await kind.open(served)
    await Noted.until("open")
    async with async_timeout.timeout(5):
        while await served.router.members("news") != {"ann"}:
            await asyncio.sleep(0.001)
    assert served.router.subscribers("news") == Noted.connections
    if way == "close":
        Noted.connections[0].close()
        while (await client.frame())[:1] not in (b"c", b""):
            pass
    await client.leave() if way != "abort" else client.abort()
    await Noted.until("close")
    await served.until_empty()
    assert repr(served.router._registry.channels) == "<Channels: 0 sessions in 0 channels>"
    assert not broker.channels and not broker.populated


async def test_nothing_is_kept_of_sessions_that_are_over(
    serve: Serve, make_broker: MakeBroker
) -> None:
    class Noted(Talker):
        references: list[Any] = []  # noqa: RUF012

        async def on_open(self, info: ConnectionInfo) -> None:
            self.references += [weakref.ref(self), weakref.ref(self.session)]

    served = await serve(Noted, settings=BRIEF, broker=make_broker())
    for number in range(5):
        client = await WebSocket.open(served)
        await tell(client, "sub news", f"sub news {number}", "sub more")
        await client.leave()
    await served.until_empty()
    await asyncio.sleep(0.02)
    gc.collect()
    assert len(Noted.references) == 10
    assert not any(reference() for reference in Noted.references)


async def test_subscribe_while_the_client_leaves_leaves_nothing_behind(
    serve: Serve, make_broker: MakeBroker
) -> None:
    class Slow(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            first = asyncio.ensure_future(self.subscribe("news", member="ann"))
            await asyncio.sleep(0)
            self.close()  # before that is confirmed
            await first
            await self.subscribe("more", member="ann")
            await super().on_open(info)

    broker = make_broker()
    served = await serve(Slow, settings=BRIEF, broker=broker)
    client = await WebSocket.open(served)
    await Slow.until("close")
    await client.leave()
    assert not broker.channels and not broker.populated
    assert await served.router.members("news") == set()


async def test_session_may_have_so_many_channels_and_no_more(
    serve: Serve, make_broker: MakeBroker
) -> None:
    class Greedy(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            for number in range(3):
                await self.subscribe(f"channel {number}")
                await self.subscribe(f"channel {number}")
            with pytest.raises(TooManyChannelsError, match="to max_channels=3"):
                await self.subscribe("one more")
            self.unsubscribe("channel 1")
            await self.subscribe("one more")
            await super().on_message(message)

    served = await serve(Greedy, broker=make_broker(max_channels=3))
    client = await WebSocket.open(served)
    await client.send("go")
    await Greedy.until("go")
    assert len(served.router.subscribers("one more")) == 1
    assert not served.router.subscribers("channel 1")


@pytest.mark.parametrize("way", ["uns", "leave"])
async def test_channel_of_a_multiplexed_session_subscribes_for_itself(
    serve: Serve, make_broker: MakeBroker, way: str
) -> None:
    class Noted(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await self.subscribe("news", member="ann")
            await super().on_open(info)

    here, there = await nodes(serve, make_broker, MultiplexConnection.get(ann=Noted))
    client = await WebSocket.open(here)
    await client.send("sub,ann")
    await Noted.until("open")
    await there.router.publish("news", "hello")
    assert await client.messages(1) == ["msg,ann,hello"]
    assert here.router.subscribers("news") == Noted.connections
    await (client.send("uns,ann") if way == "uns" else client.leave())
    await Noted.until("close")
    assert not here.router.subscribers("news")
    assert await there.router.members("news") == set()


async def test_routers_that_share_a_broker_share_its_channels(
    serve: Serve, make_broker: MakeBroker
) -> None:
    broker = make_broker()
    first, second = [await serve(Talker, broker=broker) for _ in range(2)]
    one, two = await WebSocket.open(first), await WebSocket.open(second)
    await tell(one, "sub news ann")
    await tell(two, "sub news ann")
    await tell(one, "others news 1")
    assert await two.messages(1) == ["1"]
    assert [len(x.router.subscribers("news")) for x in (first, second)] == [1, 1]
    await one.leave()
    await first.runner.cleanup()
    # the other goes on
    assert await second.router.members("news") == {"ann"}
    await second.router.publish("news", "2")
    assert await two.messages(1) == ["2"]


async def test_last_words_at_shutdown_are_heard(serve: Serve, make_broker: MakeBroker) -> None:
    class Polite(Talker):
        async def on_close(self) -> None:
            await self.publish("news", "goodbye")

    here, there = await nodes(serve, make_broker, Polite)
    leaving, staying = await WebSocket.open(here), await WebSocket.open(there)
    await tell(leaving, "sub news ann")
    await tell(staying, "sub news")
    await here.runner.cleanup()
    assert await staying.messages(1) == ["goodbye"]
    assert await there.router.members("news") == set()
    await here.router.publish("news", "from the grave")
    assert await staying.messages(1) == ["from the grave"]


# Members.


async def test_members_of_all_nodes_are_told(serve: Serve, make_broker: MakeBroker) -> None:
    here, there = await nodes(serve, make_broker)
    ann, bob, nobody = [await WebSocket.open(node) for node in (here, there, there)]
    await tell(ann, "sub news ann")
    await tell(bob, "sub news b\u00f6b", "sub other b\u00f6b")
    await tell(nobody, "sub news")
    for node in (here, there):
        assert await node.router.members("news") == {"ann", "b\u00f6b"}
        assert await node.router.members("other") == {"b\u00f6b"}
        assert await node.router.members("nowhere") == set()


async def test_member_that_is_there_twice_is_told_once_and_until_the_last_has_left(
    serve: Serve, make_broker: MakeBroker
) -> None:
    here, there = await nodes(serve, make_broker)
    tabs = [await WebSocket.open(node) for node in (here, here, there)]
    for tab in tabs:
        await tell(tab, "sub news ann")
    for tab in tabs:
        assert await there.router.members("news") == {"ann"}
        await tell(tab, "unsub news")
        await here.router.members("news")  # a turn of each node's commands
    assert await there.router.members("news") == set()


async def test_member_can_be_changed_and_taken_off(serve: Serve, make_broker: MakeBroker) -> None:
    here, there = await nodes(serve, make_broker)
    client = await WebSocket.open(here)
    for command, members in [
        ("sub news ann", {"ann"}),
        ("sub news anna", {"anna"}),
        ("sub news", set()),
        ("sub news ann", {"ann"}),
    ]:
        await tell(client, command)
        await here.router.members("news")  # a turn of each node's commands
        assert await there.router.members("news") == members
    await there.router.publish("news", "once")
    assert await client.messages(1) == ["once"]
    await tell(client, "unsub news")


# What is refused.

BAD_NAMES = ["", "x" * 201, "\u2603" * 67, "a\nb", "a\0", "\x7f", "\x85", "\ud800"]
GOOD_NAMES = ["x" * 200, "\u2603" * 66, "a b", "*", "[?", ":", "\U0001f600", "{x}"]


@pytest.mark.parametrize("name", [*BAD_NAMES, None, b"news", 7], ids=ascii)
async def test_impossible_names_are_refused(
    serve: Serve, make_broker: MakeBroker, name: Any
) -> None:
    errors: list[type[Exception]] = []

    class Mistaken(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            for call in (self.subscribe(name), self.publish(name, "x")):
                try:
                    await call
                except (TypeError, ValueError) as error:
                    errors.append(type(error))
            try:
                self.unsubscribe(name)
            except (TypeError, ValueError) as error:
                errors.append(type(error))
            await super().on_open(info)

    served = await serve(Mistaken, broker=make_broker())
    await WebSocket.open(served)
    await Mistaken.until("open")
    router = served.router
    expected = ValueError if isinstance(name, str) else TypeError
    assert errors == [expected] * 3
    for call in (router.publish(name, "x"), router.members(name)):
        with pytest.raises(expected, match="channel"):
            await call
    with pytest.raises(expected, match="channel"):
        router.subscribers(name)


@pytest.mark.parametrize("name", GOOD_NAMES, ids=ascii)
async def test_strange_names_are_names(serve: Serve, make_broker: MakeBroker, name: str) -> None:
    class Subscriber(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await self.subscribe(name, member=name)
            await super().on_open(info)

    here, there = await nodes(serve, make_broker, Subscriber)
    client = await WebSocket.open(here)
    await Subscriber.until("open")
    await there.router.publish("x", "not this")
    await there.router.publish(name, "this")
    assert await client.messages(1) == ["this"]
    assert await there.router.members(name) == {name}


@pytest.mark.parametrize("message", [b"bytes", None, 7, ["text"]], ids=repr)
async def test_only_text_is_published(serve: Serve, make_broker: MakeBroker, message: Any) -> None:
    served = await serve(Talker, broker=make_broker())
    with pytest.raises(TypeError, match="takes a str"):
        await served.router.publish("news", message)


@pytest.mark.parametrize("text", ["", "\0", "\0\0x", "\ud800 half a pair", "a" * 1000])
async def test_strange_texts_arrive_as_they_are(
    serve: Serve, make_broker: MakeBroker, text: str
) -> None:
    here, there = await nodes(serve, make_broker)
    subscribers = [await WebSocket.open(node) for node in (here, there)]
    for subscriber in subscribers:
        await tell(subscriber, "sub news")
    await here.router.publish("news", text)
    for subscriber in subscribers:
        assert await subscriber.messages(1) == [text]


async def test_message_may_be_so_long_and_no_longer(serve: Serve, make_broker: MakeBroker) -> None:
    broker = make_broker(max_message_size=30)
    served = await serve(Talker, broker=broker)
    client = await WebSocket.open(served)
    await tell(client, "sub news")
    for text in ("x" * 31, "\u2603" * 11, "\U0001f600" * 8):
        with pytest.raises(ValueError, match="max_message_size=30 bytes"):
            await served.router.publish("news", text)
    for text in ("x" * 30, "\u2603" * 10, "\U0001f600" * 7):
        await served.router.publish("news", text)
        assert await client.messages(1) == [text]


@pytest.mark.parametrize("member", ["", "x" * 1001, "\ud800", b"ann", 7], ids=ascii)
async def test_impossible_members_are_refused(
    serve: Serve, make_broker: MakeBroker, member: Any
) -> None:
    class Mistaken(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            expected = ValueError if isinstance(member, str) else TypeError
            with pytest.raises(expected, match="member"):
                await self.subscribe("news", member=member)
            await super().on_open(info)

    served = await serve(Mistaken, broker=make_broker())
    await WebSocket.open(served)
    await Mistaken.until("open")
    assert not served.router.subscribers("news")


async def test_broker_has_to_be_one() -> None:
    with pytest.raises(TypeError, match=r"Broker such as RedisBroker\(url\), not 'redis://'"):
        SockJSRouter(Talker, broker="redis://")  # type: ignore[arg-type]
