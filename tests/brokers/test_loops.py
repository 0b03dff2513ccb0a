"""A broker that is started belongs to one event loop: others are told so instead of waiting."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

import async_timeout
import pytest

from sockjs_aio import Broker, MemoryBroker, Session
from sockjs_aio.protocol.framing import PreparedMessage
from tests.brokers.conftest import MakeBroker
from tests.clients import WebSocket
from tests.conftest import Recorder, Serve


class Ear:
    """Someone who listens without a session."""

    def __init__(self) -> None:
        self.texts: list[str | bytes] = []

    def deliver(
        self, channel: str, message: PreparedMessage, exclude: Collection[Session] = ()
    ) -> None:
        self.texts.append(message.message)


CALLS: dict[str, Callable[[Broker, Ear], Any]] = {
    "publish": lambda broker, ear: broker.publish("news", "x"),
    "close_channel": lambda broker, ear: broker.close_channel("news"),
    "send_close": lambda broker, ear: broker.send_close("news", 4001, "", []),
    "members": lambda broker, ear: broker.members("news"),
    "ready": lambda broker, ear: broker.ready("news"),
    "send": lambda broker, ear: broker.send("news", "x", None),
    "remote_members": lambda broker, ear: broker.remote_members("news"),
    "start": lambda broker, ear: broker.start(2),
    "stop": lambda broker, ear: broker.stop(1),
    "stop a stranger": lambda broker, ear: broker.stop(2),
    "subscribe": lambda broker, ear: broker.subscribe("other", ear),
    "unsubscribe": lambda broker, ear: broker.unsubscribe("news", ear),
    "join": lambda broker, ear: broker.join("news", "bob"),
    "leave": lambda broker, ear: broker.leave("news", "ann"),
    "close_sessions": lambda broker, ear: broker.close_sessions("news", 4001, ""),
    "deliver": lambda broker, ear: broker.deliver("news", "x"),
    "end_gap": lambda broker, ear: broker.end_gap("news"),
}
"""All that a started broker can be asked for."""

HARMLESS = ("ready", "send", "send_close", "remote_members")
"""What does nothing in a broker that carries nothing."""


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("place", ["loop of another thread", "thread without a loop"])
async def test_started_broker_refuses_calls_from_another_loop(
    make_broker: MakeBroker, name: str, place: str
) -> None:
    broker, ear = make_broker(), Ear()
    broker.start(1)
    broker.subscribe("news", ear)
    broker.join("news", "ann")
    await broker.ready("news")

    async def call() -> None:
        done = CALLS[name](broker, ear)
        if done is not None:
            await done

    def elsewhere() -> None:
        if place == "thread without a loop":
            done = CALLS[name](broker, ear)
            if done is not None:
                done.send(None)
        else:
            asyncio.run(call())

    if isinstance(broker, MemoryBroker) and name in HARMLESS:
        await call()
    else:
        with pytest.raises(RuntimeError, match="started in another event loop"):
            async with async_timeout.timeout(10):
                await asyncio.to_thread(elsewhere)
    # nothing has changed
    assert await broker.members("news") == {"ann"}
    assert set(broker.channels) == {"news"}
    await broker.publish("news", "still here")
    assert ear.texts == ["still here"]
    await broker.stop(1)


async def test_calls_from_other_threads_are_those_of_a_contract() -> None:
    contract = {name for name in vars(Broker) if not name.startswith("_")}
    readable = {
        "state",
        "is_local",
        "gaps",
        "member_expiry",
        "channels",
        "populated",
        "local_members",
        "check_loop",
    }
    theirs = {"connect", "disconnect", "listen", "unlisten", "announce", "withdraw"}
    assert contract - readable - theirs == set(CALLS) - {"stop a stranger"}


async def test_hook_that_publishes_from_a_pool_is_told(
    serve: Serve, make_broker: MakeBroker
) -> None:
    broker = make_broker()
    errors: list[str] = []

    class Threaded(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            for publish in (broker.publish, served.router.publish):
                with pytest.raises(RuntimeError) as error:
                    await asyncio.to_thread(asyncio.run, publish("news", "x"))
                errors.append(str(error.value))
            self.send("told")

    served = await serve(Threaded, broker=broker)
    client = await WebSocket.open(served)
    await client.send("go")
    assert await client.messages(1) == ["told"]
    assert all("run_coroutine_threadsafe(broker.publish" in error for error in errors)


async def test_broker_of_a_loop_that_has_ended_is_told_and_can_be_started(
    make_broker: MakeBroker,
) -> None:
    broker = make_broker()

    async def start() -> None:
        broker.start(1)

    await asyncio.to_thread(asyncio.run, start())
    with pytest.raises(RuntimeError, match="started in another event loop"):
        await broker.publish("news", "x")
    broker.start(2)
    await broker.publish("news", "x")
    await broker.stop(2)


async def test_broker_belongs_to_one_loop(make_broker: MakeBroker) -> None:
    broker = make_broker()
    broker.start(1)

    async def start() -> None:
        broker.start(2)

    with pytest.raises(RuntimeError, match="started in another event loop"):
        await asyncio.to_thread(asyncio.run, start())
    await broker.stop(1)
    await asyncio.to_thread(asyncio.run, _start_and_stop(broker))


async def _start_and_stop(broker: Any) -> None:
    broker.start(2)
    await broker.publish("news", "x")
    await broker.stop(2)
    await broker.stop(2)
