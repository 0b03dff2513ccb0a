"""`message_rate`: a client that sends too fast is slowed down or closed, and others are served."""

import asyncio
import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

import async_timeout
import pytest

from sockjs_aio import ConnectionInfo, Settings
from sockjs_aio.core.message_rate import Pace
from tests import clients
from tests.conftest import SHORT, Echo, Recorder, Serve, Served
from tests.counting import count_calls
from tests.lanes import answered as answered
from tests.websocket_wire import frame, handshake, masked

Kind = type[clients.Client]
ALL = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
HTTP = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
WEBSOCKETS = pytest.mark.parametrize("path", ["/0/1/websocket", "/websocket"])

NEVER = {"message_rate": 0.0001, "message_burst": 2}
"""After two messages, no test waits for the next one."""


def noted() -> Any:
    class Noted(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            await super().on_message(message)
            self.send(message)

    return Noted


def run_out(steps: Iterator[None]) -> None:
    for _ in steps:
        pass


def pace(rate: float, burst: int) -> Pace:
    return Pace(rate, Settings(message_burst=burst))


# The bucket.


def test_burst_may_come_at_once_and_then_one_after_the_other() -> None:
    bucket = pace(10, 3)
    for _ in range(3):
        assert bucket.delay(1, 100) <= 0
        bucket.spend(1, 100)
    assert bucket.delay(1, 100) == pytest.approx(0.1)
    assert bucket.delay(2, 100) == pytest.approx(0.2)
    assert bucket.delay(1, 100.1) <= 1e-9
    bucket.spend(1, 100.2)
    assert bucket.delay(1, 100.2) <= 1e-9
    assert bucket.delay(3, 1000) <= 0, "silence fills the bucket, and no more than that"
    assert bucket.delay(4, 1000) <= 0


@pytest.mark.parametrize("rate", [0.0001, 0.3, 7, 1000])
def test_burst_in_one_moment_of_a_coarse_clock_is_not_late_by_rounding(rate: float) -> None:
    for moment in range(2000):
        bucket, now = pace(rate, 3), 12345.678 + moment / 1000
        for _ in range(3):
            assert bucket.delay(1, now) <= 0
            bucket.spend(1, now)
        assert bucket.delay(1, now) > 0


def test_burst_may_be_any_number() -> None:
    assert pace(10, 10**400).delay(1000, 0) == 0


def test_more_than_a_burst_waits_for_a_full_bucket_and_is_paid_later() -> None:
    bucket = pace(10, 3)
    bucket.spend(1, 100)
    assert bucket.delay(50, 100) == pytest.approx(0.1)
    bucket.spend(50, 100.1)
    assert bucket.delay(1, 100.1) == pytest.approx(4.8)
    assert bucket.delay(0, 100.1) == 0, "a request without messages does not wait"


# Waiting.


@pytest.mark.virtual_time
@ALL
async def test_messages_are_handled_at_the_rate_and_in_order(serve: Serve, kind: Kind) -> None:
    class Timed(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            times.append(asyncio.get_running_loop().time())
            await super().on_message(message)

    times: list[float] = []
    settings = {"message_rate": 10, "message_burst": 3}
    client = await kind.open(await serve(Timed, settings=settings))
    for number in range(10):
        await client.send(str(number), str(number) + "b")
    await Timed.until("9b")
    assert Timed.seen == ["open", *(f"{number}{end}" for number in range(10) for end in ("", "b"))]
    for first in range(20):
        for last in range(first, 20):
            # the messages of one request are accepted together, a little after they were counted
            assert last - first + 1 <= 3 + 10 * (times[last] - times[first]) + 1
    await client.leave()


@pytest.mark.virtual_time
@ALL
async def test_others_are_served_while_a_flood_is_held_back(serve: Serve, kind: Kind) -> None:
    made = noted()
    served = await serve(made, settings=NEVER)
    flooding, other = await kind.open(served), await kind.open(served)
    flood = asyncio.ensure_future(sends(flooding, 20))
    assert await flooding.messages(2) == ["0", "1"]
    await other.send("a")
    assert await other.messages(1) == ["a"]
    assert [message for message in made.seen if message != "open"] == ["0", "1", "a"]
    assert flood.done() != kind.is_http, "the 204 of a send waits"
    flood.cancel()
    for connection in made.connections:
        connection.close()
    await made.until("close", 2)


async def sends(client: Any, count: int) -> None:
    for number in range(count):
        await client.send(str(number))


@pytest.mark.virtual_time
@HTTP
async def test_end_of_the_session_ends_the_wait(serve: Serve, kind: Kind) -> None:
    made = noted()
    client = await kind.open(await serve(made, settings=NEVER))
    await client.send("a", "b")
    waiting = [asyncio.ensure_future(client.send_payload('["c"]')) for _ in range(3)]
    session = made.connections[0].session
    async with async_timeout.timeout(clients.TIMEOUT):
        while not (session.pace.is_holding and session.hooks.inbox.turn.waiting == 2):
            await asyncio.sleep(0.001)
    made.connections[0].close()
    assert set(await asyncio.gather(*waiting)) <= {200, 204, 404}, "as after any end"
    await made.until("close")
    assert made.seen == ["open", "a", "b", "close"]
    assert not session.pace.is_holding
    await client.leave()


@WEBSOCKETS
async def test_client_that_leaves_while_it_is_held_back_is_noticed(serve: Serve, path: str) -> None:
    made = noted()
    served = await serve(made, settings=NEVER)
    wire = await handshake(served, path)
    for text in (b'"a"', b'"b"', b'"c"', b'"d"'):
        wire.writer.write(masked(1, text))
    await until_held(made)
    wire.abort()
    await made.until("close")
    assert len(made.seen) == 4, "what was held back counts as unread"
    await served.until_empty()


@WEBSOCKETS
async def test_websocket_that_is_held_back_can_be_closed(serve: Serve, path: str) -> None:
    made = noted()
    served = await serve(made, settings=NEVER)
    wire = await handshake(served, path)
    for text in (b'"a"', b'"b"', b'"c"'):
        wire.writer.write(masked(1, text))
    await until_held(made)
    made.connections[0].close(4000, "bye")
    await made.until("close")
    while (await frame(wire))[0] != 8:
        pass
    wire.writer.write(masked(8, b"\x0f\xa0"))
    await served.until_empty()
    assert made.connections[0].close_info.code == 4000


@pytest.mark.parametrize("end", ["expiry", "shutdown"])
async def test_send_that_waits_while_its_session_is_forgotten_is_answered(
    serve: Serve, end: str
) -> None:
    limits = SHORT if end == "expiry" else {"shutdown_timeout": 0}
    served = await serve(Echo, settings={**NEVER, **limits})
    assert await served.poll("/000/1") == b"o"
    assert await served.post("/000/1", '["a","b"]') == 204
    waiting = [asyncio.ensure_future(served.post("/000/1", '["c"]')) for _ in range(3)]
    session = served.router._registry.get("1")
    assert session is not None and session.pace is not None
    async with async_timeout.timeout(clients.TIMEOUT):
        while session.is_open and not session.pace.is_holding:
            await asyncio.sleep(0.001)
    if end == "shutdown":
        await served.router.shutdown()
    assert set(await asyncio.gather(*waiting)) <= {204, 404}


async def until_held(made: Any) -> None:
    await made.until("open")
    async with async_timeout.timeout(clients.TIMEOUT):
        while not made.connections[0].session.pace.is_holding:
            await asyncio.sleep(0.001)


@WEBSOCKETS
async def test_websocket_is_not_read_while_it_is_held_back(serve: Serve, path: str) -> None:
    made = noted()
    served = await serve(made, settings=NEVER)
    wire = await handshake(served, path)
    flood = masked(1, b'"' + b"x" * 65534 + b'"') * 640  # 40 MB, more than sockets hold
    wire.writer.write(flood)
    await until_held(made)
    unsent: float = math.inf
    async with async_timeout.timeout(clients.TIMEOUT):
        while wire.unsent < unsent:  # until nothing is taken any more
            unsent = wire.unsent
            await asyncio.sleep(0.2)
    assert unsent > len(flood) / 2
    registry = served.router._registry
    beats = itertools.count(1)
    for beat in itertools.islice(beats, 4):  # the answer to the pings is behind the flood
        run_out(registry._clock.steps(registry.now() + beat * 26))
    assert not made.connections[0].is_closed
    wire.abort()
    async with async_timeout.timeout(clients.TIMEOUT):
        while "close" not in made.seen:  # noticed when the next ping is due
            run_out(registry._clock.steps(registry.now() + next(beats) * 26))
            await asyncio.sleep(0.001)
    assert made.connections[0].close_info.initiator == "network"
    await served.until_empty()


# Closing.


@ALL
async def test_policy_close_closes_the_session(serve: Serve, kind: Kind) -> None:
    made = noted()
    settings = {**NEVER, "message_rate_policy": "close"}
    served = await serve(made, settings=settings)
    client, other = await kind.open(served), await kind.open(served)
    await sends(client, 3)
    assert await client.messages(2) == ["0", "1"]
    assert (await client.frame()) == b'c[1008,"Too many messages"]' or kind is clients.RawWebSocket
    await made.until("close")
    (closed,) = [each for each in made.connections if each.is_closed]
    assert str(closed.close_info).startswith("overflow, 1008 'Too many messages'")
    assert closed.close_info.status == "too_many_messages"
    await other.send("a")
    assert await other.messages(1) == ["a"]
    await other.leave()


@ALL
async def test_policy_close_closes_a_session_that_sends_more_than_a_burst_at_once(
    serve: Serve, kind: Kind
) -> None:
    made = noted()
    settings = {"message_rate": 1, "message_burst": 2, "message_rate_policy": "close"}
    client = await kind.open(await serve(made, settings=settings))
    await client.send("a", "b", "c")  # over HTTP in one request
    await made.until("close")
    assert made.seen == ["open", *([] if kind in clients.HTTP else ["a", "b"]), "close"]
    assert made.connections[0].close_info.status == "too_many_messages"


# The lane, and costs.


@pytest.mark.not_over("lane-off", "replacing")
async def test_send_that_must_wait_leaves_the_direct_lane(
    serve: Serve, answered: list[str]
) -> None:
    made = noted()
    served: Served = await serve(made, settings={"message_rate": 0.0001, "message_burst": 5})
    wire = await served.wire()
    await wire.request("POST", "/echo/0/1/xhr", b"")
    await made.until("open")
    await wire.request("POST", "/echo/0/1/xhr_send", b"[]")
    answered.clear()
    with count_calls() as calls:
        for number in range(5):
            body = json.dumps([str(number)]).encode()
            assert (await wire.request("POST", "/echo/0/1/xhr_send", body)).status == 204
    assert answered == ["xhr_send"] * 5
    assert calls["timers"] == 0
    wire.send("POST", "/echo/0/1/xhr_send", b'["5"]')
    await until_held(made)
    assert answered == ["xhr_send"] * 5
    made.connections[0].close()
    assert (await wire.reply()).status == 204
    assert made.seen[:6] == ["open", *"01234"]


async def test_message_within_the_rate_costs_no_timer_and_one_above_it_a_single_one(
    serve: Serve,
) -> None:
    made = noted()
    wire = await handshake(await serve(made, settings={**NEVER, "message_burst": 10}))
    assert await frame(wire) == (1, b"o")
    with count_calls() as calls:
        for _ in range(10):
            wire.writer.write(masked(1, b'["x"]'))
            assert await frame(wire) == (1, b'a["x"]')
    assert calls["tasks"] == calls["timers"] == calls["own_call_soon"] == 0
    with count_calls() as calls:
        for _ in range(10):
            wire.writer.write(masked(1, b'["x"]'))
            await asyncio.sleep(0)
        while not made.connections[0].session.pace.is_holding:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
    assert calls["timers"] == 1


async def test_without_the_setting_sessions_have_no_pace(serve: Serve) -> None:
    class Looking(Recorder):
        async def on_open(self, info: ConnectionInfo) -> Any:
            self.seen.append(self.session.pace)

    served = await serve(Looking)
    await handshake(served)
    await Looking.until(None)
