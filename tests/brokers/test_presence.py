"""`on_presence`: who has joined a channel and who has left, in any process, told without asking."""

import asyncio
import json
import logging
import signal
from typing import Any

import async_timeout
import pytest

from sockjs_aio import BrokerUnavailableError, MemoryBroker, SockJSRouter
from sockjs_aio.brokers.base import State
from sockjs_aio.core.presence import RETRY, ROUND
from sockjs_aio.multiplex import MultiplexConnection
from sockjs_aio.testing import linked_brokers
from tests import clients
from tests.brokers.redis_server import RedisServer
from tests.brokers.talker import Talker, tell
from tests.conftest import Serve, Served
from tests.counting import count_calls
from tests.ports import free_port
from tests.process import PATIENCE, ServerProcess

WebSocket = clients.WebSocket
LINGER = 5
SOON = 2 * ROUND
"""In virtual time, seconds after which everything was told that does not linger."""


def virtual(test: Any) -> Any:
    """Run a test on virtual time, and not on uvloop, where it would take minutes."""
    return pytest.mark.virtual_time(pytest.mark.not_over("uvloop")(test))


class Told:
    """What `on_presence` was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str], list[str]]] = []

    async def __call__(self, channel: str, joined: list[str], left: list[str]) -> None:
        self.calls.append((channel, joined, left))

    def take(self) -> list[tuple[str, list[str], list[str]]]:
        calls, self.calls = self.calls, []
        return calls


def changes(calls: list[tuple[str, list[str], list[str]]]) -> tuple[list[str], list[str]]:
    """Return who has joined in all these calls, and who has left."""
    joined = [name for _, names, _ in calls for name in names]
    return sorted(joined), sorted(name for _, _, names in calls for name in names)


async def watched(serve: Serve, told: Any, broker: Any = None, linger: float = LINGER) -> Served:
    settings = {"presence_linger": linger, "heartbeat_delay": 1000}
    return await serve(Talker, settings=settings, broker=broker, on_presence=told)


async def entered(served: Served, *members: str, channel: str = "room") -> list[Any]:
    """Open a session for each member, and let them enter the room together."""
    people = [await WebSocket.open(served) for _ in members]
    for person, member in zip(people, members, strict=True):
        await person.send(f"watch {channel} {member}")
    for person in people:
        assert await person.messages(1) == ["done"]
    return people


# One process, in virtual time.


@virtual
async def test_many_who_come_and_go_together_are_told_in_one_call_each(serve: Serve) -> None:
    served = await watched(serve, told := Told())
    (ann,) = await entered(served, "ann")
    await asyncio.sleep(SOON)
    assert told.take() == [("room", ["ann"], [])]
    names = [f"member {number:02}" for number in range(50)]
    await entered(served, *names)
    await asyncio.sleep(SOON)
    calls = told.take()
    assert len(calls) <= 2, "one for those in the first turn, one for those in the round after it"
    assert changes(calls) == (names, [])
    for connection in served.router.subscribers("room")[1:]:
        connection.close()
    await asyncio.sleep(LINGER - ROUND)
    assert told.take() == []
    await asyncio.sleep(SOON)
    assert told.take() == [("room", [], names)]
    await tell(ann, "unsub room")
    await asyncio.sleep(LINGER + SOON)
    assert told.take() == [("room", [], ["ann"])], "also when nobody is left who watches"


@virtual
async def test_who_comes_back_in_time_has_never_been_away(serve: Serve) -> None:
    served = await watched(serve, told := Told())
    for _ in range(3):  # also when nobody else is there meanwhile
        (ann,) = await entered(served, "ann")
        await ann.leave()
        await asyncio.sleep(LINGER - SOON)
    assert told.take() == [("room", ["ann"], [])]
    assert await served.router.members("room") == {"ann"}, "those who linger are listed"
    await asyncio.sleep(2 * SOON)
    assert told.take() == [("room", [], ["ann"])]
    assert await served.router.members("room") == set()


class Counting(MemoryBroker):
    """Counts how often it is asked who is there."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def remote_members(self, channel: str) -> set[str]:
        self.asked += 1
        return await super().remote_members(channel)


@virtual
async def test_who_goes_and_comes_back_all_the_time_leaves_nothing_to_do(serve: Serve) -> None:
    linger = 60
    served = await watched(serve, told := Told(), broker := Counting(), linger=linger)
    ann, _ = await entered(served, "ann", "bob")
    rounds = 40
    for _ in range(rounds):
        await tell(ann, "unsub room")
        await asyncio.sleep(SOON)
        await tell(ann, "watch room ann")
        await asyncio.sleep(SOON)
    assert broker.asked >= 2 * rounds, "each was noticed"
    broker.asked = 0
    await asyncio.sleep(linger + SOON)
    assert broker.asked <= 2, "and not each of them has to be looked at once more"
    await tell(ann, "unsub room")
    await asyncio.sleep(linger + SOON)
    assert changes(told.take()) == (["ann", "bob"], ["ann"])


@virtual
async def test_without_linger_a_round_is_all_that_is_late(serve: Serve) -> None:
    served = await watched(serve, told := Told(), linger=0)
    ann, _ = await entered(served, "ann", "bob")
    await asyncio.sleep(SOON)
    await tell(ann, "watch room Ann")
    await asyncio.sleep(SOON)
    await ann.leave()
    await asyncio.sleep(SOON)
    changes = [(joined, left) for _, joined, left in told.take()]
    assert changes[-2:] == [(["Ann"], ["ann"]), ([], ["Ann"])]


@virtual
async def test_all_have_joined_when_the_first_one_watches_and_left_after_the_last(
    serve: Serve,
) -> None:
    served = await watched(serve, told := Told())
    ann = await WebSocket.open(served)
    await tell(ann, "sub room ann", "sub other ann")
    await asyncio.sleep(SOON)
    assert told.take() == []
    for _ in range(2):
        guest = await WebSocket.open(served)
        await tell(guest, "watch room")
        await asyncio.sleep(SOON)
        assert told.take() == [("room", ["ann"], [])]
        await tell(guest, "sub room")
        await asyncio.sleep(LINGER - SOON)
        assert told.take() == []
        await asyncio.sleep(2 * SOON)
        assert told.take() == [("room", [], ["ann"])]
    assert served.router._registry.channels.presence._task.done()  # type: ignore[union-attr]


@virtual
@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
async def test_sessions_of_every_transport_tell_of_others_and_of_their_end(
    serve: Serve, kind: type[clients.Client]
) -> None:
    async def show(channel: str, joined: list[str], left: list[str]) -> None:
        router = served.router
        router.broadcast(router.subscribers(channel), json.dumps([joined, left]))

    served = await watched(serve, show)
    ann, bob = await kind.open(served), await kind.open(served)
    await tell(ann, "watch room ann")
    assert json.loads(*await ann.messages(1)) == [["ann"], []]
    await tell(bob, "watch room bob")
    for person in (bob, ann):
        assert json.loads(*await person.messages(1)) == [["bob"], []]
    await bob.leave()
    assert json.loads(*await ann.messages(1)) == [[], ["bob"]]
    await ann.leave()


@virtual
async def test_a_multiplexed_channel_can_watch(serve: Serve) -> None:
    told = Told()
    served = await serve(MultiplexConnection.get(one=Talker), on_presence=told)
    client = await WebSocket.open(served)
    await client.send("sub,one", "msg,one,watch room ann")
    assert await client.messages(1) == ["msg,one,done"]
    await client.send("uns,one")
    await asyncio.sleep(LINGER + SOON)
    assert told.take() == [("room", ["ann"], []), ("room", [], ["ann"])]


@virtual
async def test_a_slow_function_gets_one_call_at_a_time_and_holds_up_no_other_channel(
    serve: Serve,
) -> None:
    calls: list[Any] = []
    gate = asyncio.Event()

    async def on_presence(channel: str, joined: list[str], left: list[str]) -> None:
        calls.append((channel, joined))
        if channel == "room":
            await gate.wait()

    served = await watched(serve, on_presence)
    await entered(served, "ann")
    await asyncio.sleep(SOON)
    for name in ("bob", "cid"):
        await entered(served, name)
        await asyncio.sleep(SOON)
    await entered(served, "dan", channel="hall")
    await asyncio.sleep(SOON)
    assert calls == [("room", ["ann"]), ("hall", ["dan"])]
    gate.set()
    await asyncio.sleep(SOON)
    assert calls[2:] == [("room", ["bob", "cid"])]
    gate.clear()
    await entered(served, "eve")
    await asyncio.sleep(SOON)
    await served.router.shutdown()  # it does not wait for a call that never returns


@virtual
@pytest.mark.logs("on_presence failed")
async def test_a_function_that_fails_is_logged_and_called_again(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def on_presence(channel: str, joined: list[str], left: list[str]) -> None:
        calls.append(joined)
        raise ZeroDivisionError

    calls: list[Any] = []
    served = await watched(serve, on_presence)
    with caplog.at_level(logging.ERROR, "sockjs_aio.hooks"):
        for name in ("ann", "bob"):
            await entered(served, name)
            await asyncio.sleep(SOON)
    assert calls == [["ann"], ["bob"]]
    assert caplog.text.count("on_presence failed for channel 'room'") == 2


async def test_it_costs_nothing_where_nobody_watches(serve: Serve) -> None:
    served = await serve(Talker, on_presence=Told())
    client = await WebSocket.open(served)
    with count_calls() as calls:
        await tell(client, "sub room ann", "unsub room")
    assert calls["tasks"] == 0
    broker = served.router._registry.channels.broker
    await tell(client, "sub room ann")
    assert list(broker.channels) == ["room"]


async def test_wrong_use_is_explained(serve: Serve) -> None:
    def plain(channel: str, joined: list[str], left: list[str]) -> None: ...

    with pytest.raises(TypeError, match="write `async def on_presence"):
        SockJSRouter(Talker, on_presence=plain)  # type: ignore[arg-type]

    class Watching(Talker):
        async def on_open(self, info: Any) -> None:
            with pytest.raises(RuntimeError, match="on_presence=function"):
                await self.subscribe("room", presence=True)
            self.send("refused")

    client = await WebSocket.open(await serve(Watching))
    assert await client.messages(1) == ["refused"]


# Two processes, in virtual time.


@virtual
async def test_both_processes_are_told_and_a_member_of_both_once(serve: Serve) -> None:
    told = [Told(), Told()]
    brokers = linked_brokers()
    here, there = [await watched(serve, *pair) for pair in zip(told, brokers, strict=True)]
    await tell(await WebSocket.open(here), "watch room")
    (ann,) = await entered(here, "ann")
    await asyncio.sleep(SOON)
    (bob,) = await entered(there, "bob")
    (too,) = await entered(there, "ann")
    await asyncio.sleep(2 * SOON)
    for one in told:
        assert changes(one.take()) == (["ann", "bob"], [])
    await ann.leave()  # and is still there, at the other process
    await asyncio.sleep(LINGER + SOON)
    assert told[0].take() == told[1].take() == []
    (ann,) = await entered(here, "ann")
    await asyncio.sleep(SOON)
    await too.leave()
    await bob.leave()
    await asyncio.sleep(LINGER + 2 * SOON)
    assert told[0].take() == [("room", [], ["bob"])]


@virtual
async def test_difference_is_told_when_the_broker_is_back(serve: Serve) -> None:
    told = [Told(), Told()]
    brokers = linked_brokers()
    here, there = [await watched(serve, *pair) for pair in zip(told, brokers, strict=True)]
    (ann,) = await entered(here, "ann")
    (bob,) = await entered(there, "bob")
    await asyncio.sleep(2 * SOON)
    told[0].take()
    brokers[0].cut()
    await bob.leave()
    await entered(there, "cid")
    await entered(here, "dan")
    await tell(ann, "watch room Ann")
    await asyncio.sleep(4 * LINGER)
    assert changes(told[0].take()) == (["Ann", "dan"], ["ann"]), "what it knows"
    brokers[0].mend()
    await asyncio.sleep(RETRY + SOON)
    assert told[0].take() == [("room", ["cid"], [])]
    await asyncio.sleep(LINGER)
    assert told[0].take() == [("room", [], ["bob"])]
    everybody = {"Ann", "cid", "dan"}
    assert [await node.router.members("room") for node in (here, there)] == [everybody] * 2


@virtual
async def test_hints_that_a_broker_has_dropped_are_made_good_when_it_is_back(serve: Serve) -> None:
    told = [Told(), Told()]
    brokers = linked_brokers()
    here, there = [await watched(serve, *pair) for pair in zip(told, brokers, strict=True)]
    await entered(here, "ann")
    await entered(there, "bob")
    await asyncio.sleep(2 * SOON)
    told[0].take()
    brokers[1].cut()
    await entered(there, "cid")
    await asyncio.sleep(SOON)
    brokers[1].mend()
    await asyncio.sleep(SOON)
    assert told[0].take() == [("room", ["cid"], [])]


@virtual
async def test_nothing_is_told_any_more_while_the_server_stops(serve: Serve) -> None:
    class Slow(Told):
        async def __call__(self, channel: str, joined: list[str], left: list[str]) -> None:
            await super().__call__(channel, joined, left)
            try:
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(0.5)

    here_told, brokers = Slow(), linked_brokers()
    here = await watched(serve, here_told, brokers[0])
    there = await watched(serve, Told(), brokers[1])
    await entered(here, "ann", channel="room")
    await tell(await WebSocket.open(here), "watch hall")
    await asyncio.sleep(SOON)
    assert here_told.take() == [("room", ["ann"], [])]
    stopping = asyncio.ensure_future(here.router.shutdown())
    await asyncio.sleep(0.1)
    await entered(there, "bob", channel="hall")  # which `here` is given a hint of
    await stopping
    await asyncio.sleep(SOON)
    assert here_told.take() == []


class Faulty(MemoryBroker):
    """A broker of an application's own that is away, or that fails as nobody has expected."""

    error: Exception | None = BrokerUnavailableError("away")
    asked = 0

    @property
    def state(self) -> State:
        is_away = isinstance(self.error, BrokerUnavailableError)
        return "reconnecting" if is_away else "connected"

    async def remote_members(self, channel: str) -> set[str]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return {"far away"}


@virtual
@pytest.mark.logs("ZeroDivisionError")
async def test_while_the_broker_is_away_little_is_asked(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = await watched(serve, told := Told(), broker := Faulty())
    client = await WebSocket.open(served)
    for number in range(20):
        await client.send(f"watch room{number}")
    await client.messages(20)
    await asyncio.sleep(1000)
    assert broker.asked < 100
    broker.error = ZeroDivisionError()
    await asyncio.sleep(RETRY + SOON)
    assert told.take() == []
    assert caplog.text.count("cannot find out the members") in (1, 2), "not for each channel"
    broker.error = None
    await asyncio.sleep(RETRY + SOON)
    assert sorted(told.take())[0] == ("room0", ["far away"], [])


@virtual
async def test_broker_that_refuses_to_say_who_is_there_is_logged_once_a_minute(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing(Faulty):
        @property
        def state(self) -> State:
            return "connected"

    served = await watched(serve, told := Told(), broker := Refusing())
    broker.error = BrokerUnavailableError("Redis refuses: no permission")
    client = await WebSocket.open(served)
    await tell(client, "watch room", "watch more")
    await asyncio.sleep(100)
    assert caplog.text.count("Redis refuses: no permission") == 2
    broker.error = None
    await asyncio.sleep(RETRY + SOON)
    assert sorted(told.take())[0] == ("more", ["far away"], [])


@virtual
async def test_two_routers_of_one_broker_are_both_told(serve: Serve) -> None:
    told, broker = [Told(), Told()], MemoryBroker()
    here, there = [await watched(serve, one, broker, linger=0) for one in told]
    await entered(here, "ann")
    await entered(there, "bob")
    await asyncio.sleep(SOON)
    for one in told:
        assert changes(one.take()) == (["ann", "bob"], [])


# Nodes that are processes of their own, on a real Redis.


async def start_nodes(url: str, **options: Any) -> list[ServerProcess]:
    options = {"redis": url, "max_retry_delay": 0.2, **options}
    starting = [
        ServerProcess.start(free_port(), options, module="tests.brokers.node", is_fork=True)
        for _ in range(3)
    ]
    started = await asyncio.gather(*starting, return_exceptions=True)
    nodes = [node for node in started if isinstance(node, ServerProcess)]
    if len(nodes) < len(started):
        await asyncio.gather(*(node.stop() for node in nodes))
        raise AssertionError(started)
    return nodes


async def told_at(node: ServerProcess) -> tuple[list[str], list[str]]:
    """Return who was told as joined, and who as left, as often as that was told."""
    return changes(json.loads((await node.request_root("GET", "/told")).body))


async def until_told(nodes: list[ServerProcess], joined: set[str], left: set[str]) -> None:
    """Wait until all of `nodes` were told that, each name once."""
    for node in nodes:
        async with async_timeout.timeout(PATIENCE):
            while await told_at(node) != (sorted(joined), sorted(left)):
                await asyncio.sleep(0.02)


@pytest.mark.redis
async def test_members_of_nodes_that_die_or_stop_are_told_as_left(
    redis_server: RedisServer, prefix: str
) -> None:
    nodes = await start_nodes(
        redis_server.url, prefix=prefix, presence_linger=0.2, member_expiry=0.9
    )
    try:
        names = [("ann", "dan"), ("bob", "dan"), ("cid", "dan")]
        for node, members in zip(nodes, names, strict=True):
            for name in members:
                await tell(await WebSocket.open(node), f"watch room {name}")
        everybody = {"ann", "bob", "cid", "dan"}
        await until_told(nodes, everybody, set())
        nodes[0].send_signal(signal.SIGKILL)
        await nodes[0].process.wait()
        await until_told(nodes[1:], everybody, {"ann"})
        assert await nodes[1].stop() == 0
        await until_told(nodes[2:], everybody, {"ann", "bob"})
    finally:
        await asyncio.gather(*(node.stop() for node in nodes))


@pytest.mark.redis
async def test_nobody_is_told_that_redis_was_restarted(own_redis: RedisServer) -> None:
    nodes = await start_nodes(own_redis.url, presence_linger=4, member_expiry=600)
    try:
        people = [await WebSocket.open(node) for node in nodes]
        for person, name in zip(people, ("ann", "bob", "cid"), strict=True):
            await tell(person, f"watch room {name}")
        everybody = {"ann", "bob", "cid"}
        await until_told(nodes, everybody, set())
        own_redis.kill()
        await tell(people[1], "watch room Bob")
        own_redis.start()
        await until_told(nodes, everybody | {"Bob"}, {"bob"})
        assert {name async for name in members_everywhere(nodes)} == {"ann", "Bob", "cid"}
    finally:
        await asyncio.gather(*(node.stop() for node in nodes))


async def members_everywhere(nodes: list[ServerProcess]) -> Any:
    for node in nodes:
        for name in json.loads((await node.request_root("GET", "/members?channel=room")).body):
            yield name
