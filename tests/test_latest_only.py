"""Messages with a key: a slow client gets the latest of each, in its place in the queue."""

import json
import re
from typing import Any, cast

import async_timeout
import pytest

from sockjs_aio import MemoryBroker, broadcast
from sockjs_aio.multiplex import MultiplexConnection
from sockjs_aio.protocol.session_machine import MESSAGE_OVERHEAD
from tests import clients
from tests.conftest import Recorder, Serve

Kind = type[clients.Client]
ALL = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
ATTACHED = [kind for kind in clients.ALL if kind not in clients.POLLS]


def noted() -> Any:
    class Noted(Recorder):
        pass

    return Noted


def resume(client: Any) -> None:
    """Let `client` read again after `stop_reading`."""
    if isinstance(client, clients.WebSocket):
        cast(Any, client.socket)._writer.transport.resume_reading()
    else:
        client.wire.writer.transport.resume_reading()


@ALL
async def test_message_replaces_the_queued_one_of_its_key_in_its_place(
    serve: Serve, kind: Kind
) -> None:
    made = noted()
    client = await kind.open(await serve(made))
    await made.until("open")
    (connection,) = made.connections
    connection.send("first")
    for price in range(1000):
        connection.send(f"AAPL {price}", key="AAPL")
        connection.send(f"MSFT {price}", key="MSFT")
    connection.send("last")
    assert await client.messages(4) == ["first", "AAPL 999", "MSFT 999", "last"]
    connection.send("AAPL 1000", key="AAPL")  # nothing is queued now
    assert await client.messages(1) == ["AAPL 1000"]
    await client.leave()


@pytest.mark.parametrize("kind", clients.POLLS, ids=lambda kind: kind.name)
async def test_client_that_reads_one_message_of_a_thousand_gets_the_newest(
    serve: Serve, kind: Kind
) -> None:
    made = noted()
    served = await serve(made)
    method, url = kind(served, {})._request()  # type: ignore[attr-defined]
    body = b"" if method == "POST" else None
    assert (await served.request(method, "/0/1" + url, body)).status == 200
    await made.until("open")
    (connection,) = made.connections
    for reading in range(10):
        for number in range(1000):
            connection.send(f"{reading * 1000 + number:05}", key="AAPL")
            assert connection.session._machine.queued == len('"00000"') + MESSAGE_OVERHEAD
        reply = await served.request(method, "/0/1" + url, body)
        assert re.findall(rb"\d{5}", reply.body) == [b"%05d" % (reading * 1000 + 999)]


@pytest.mark.parametrize("kind", ATTACHED, ids=lambda kind: kind.name)
async def test_client_that_takes_no_data_for_a_while_gets_the_newest_and_stays(
    serve: Serve, kind: Kind
) -> None:
    made = noted()
    settings = {"send_queue_limit": 1 << 24, "response_limit": 1 << 30}
    client: Any = await kind.open(await serve(made, settings=settings))
    await made.until("open")
    (connection,) = made.connections
    client.stop_reading()
    machine = connection.session._machine
    fillers = 0
    while not machine.queued:  # the buffers of the kernel are full, and then the transport's
        connection.send("x" * 65536)
        connection.session.flush()
        fillers += 1
    connection.send("AAPL 000000", key="AAPL")
    queued = machine.queued
    for number in range(100_000):
        connection.send(f"AAPL {number:06}", key="AAPL")
    assert machine.queued == queued
    resume(client)
    async with async_timeout.timeout(clients.TIMEOUT):
        assert (await client.messages(fillers + 1))[-1] == "AAPL 099999"
    assert not connection.is_closed
    await client.leave()


@ALL
async def test_broadcast_replaces_what_is_queued_for_each_client(serve: Serve, kind: Kind) -> None:
    made = noted()
    served = await serve(made)
    members = [await kind.open(served) for _ in range(3)]
    await made.until("open", 3)
    made.connections[0].send("mine", key="k")  # keys are the same, whoever sends
    for number in range(100):
        broadcast(made.connections, f"{number}", key="k")
    made.connections[0].broadcast(made.connections, "100", key="k")
    served.router.broadcast(made.connections, "101", key="k")
    for member in members:
        assert await member.messages(1) == ["101"]
        await member.leave()


@ALL
async def test_publish_replaces_what_is_queued_for_each_subscriber(
    serve: Serve, kind: Kind
) -> None:
    class Subscribed(Recorder):
        async def on_open(self, info: object) -> None:
            await self.subscribe("prices")
            self.connections.append(self)
            self.seen.append("open")

    broker = MemoryBroker()
    served = await serve(Subscribed, broker=broker)
    members = [await kind.open(served) for _ in range(2)]
    await Subscribed.until("open", 2)
    for number in range(100):
        await served.router.publish("prices", f"{number}", key="k")
    await Subscribed.connections[0].publish("prices", "100", key="k")
    await broker.publish("prices", "101", key="k")
    for member in members:
        assert await member.messages(1) == ["101"]
        await member.leave()


async def test_channels_of_multiplex_have_keys_of_their_own(serve: Serve) -> None:
    ann, bob = noted(), noted()
    served = await serve(MultiplexConnection.get(ann=ann, bob=bob))
    client = await clients.WebSocket.open(served)
    await client.send("sub,ann", "sub,bob")
    await ann.until("open")
    await bob.until("open")
    for number in range(3):
        ann.connections[0].send(f"{number}", key="k")
        broadcast([*ann.connections, *bob.connections], f"all {number}", key="k")
    assert await client.messages(2) == ["msg,ann,all 2", "msg,bob,all 2"]
    await client.leave()


@pytest.mark.parametrize("key", ["", "k" * 201, "a\nb", "\ud800"], ids=ascii)
async def test_key_that_is_not_valid_is_refused(serve: Serve, key: str) -> None:
    made = noted()
    served = await serve(made)
    client = await clients.WebSocket.open(served)
    await made.until("open")
    (connection,) = made.connections
    with pytest.raises(ValueError, match="is not valid: it must be 1 to 200 bytes"):
        connection.send("x", key=key)
    with pytest.raises(ValueError, match="key"):
        broadcast([connection], "x", key=key)
    with pytest.raises(ValueError, match="key"):
        await served.router.publish("prices", "x", key=key)
    with pytest.raises(TypeError, match="a message's key must be a str, not 5"):
        connection.send("x", key=cast(str, 5))
    connection.send(json.dumps("goes on"))
    assert await client.messages(1) == ['"goes on"']
    await client.leave()
