"""Channels over one session: each like a session of its own."""

import asyncio
import functools
import gc
import json
import logging
import time
import weakref
from typing import Any

import async_timeout
import pytest

from sockjs_aio import ConnectionInfo, Session, SockJSConnection, broadcast
from sockjs_aio.multiplex import MultiplexConnection, escaped
from sockjs_aio.protocol import framing, json_text
from tests import clients
from tests.conftest import Echo, Recorder, Serve

Kind = type[clients.Client]
KINDS = pytest.mark.parametrize(
    "kind",
    [clients.WebSocket, clients.RawWebSocket, clients.Xhr, clients.XhrStreaming],
    ids=lambda kind: kind.name,
)
SHORT = {"disconnect_delay": 0.1, "session_check_interval": 0.02, "shutdown_timeout": 0.1}


def recorder() -> Any:
    """Make a class whose connections note their hooks and send messages back."""

    class Noted(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            await super().on_message(message)
            self.send(message)

    return Noted


# The protocol.


@KINDS
async def test_channels_are_apart(serve: Serve, kind: Kind) -> None:
    ann, bob = recorder(), recorder()
    client = await kind.open(await serve(MultiplexConnection.get(ann=ann, bob=bob)))
    await client.send("sub,ann", "msg,ann,1", "sub,bob", "msg,bob,2,,3,", "msg,ann,")
    assert await client.messages(3) == ["msg,ann,1", "msg,bob,2,,3,", "msg,ann,"]
    assert (ann.seen, bob.seen) == (["open", "1", ""], ["open", "2,,3,"])
    await client.send("uns,ann", "msg,ann,x", "msg,bob,4")
    assert await client.messages(1) == ["msg,bob,4"]
    assert (ann.seen[2:], bob.seen[2:]) == (["", "close"], ["4"])
    await client.leave()


@KINDS
async def test_what_is_malformed_is_ignored(
    serve: Serve, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    ann, other = recorder(), recorder()
    client = await kind.open(await serve(MultiplexConnection.get(ann=ann, other=other)))
    malformed = ["", ",", "sub", "msg", "uns", "sub,", "sub,nobody", "msg,nobody,x", "uns,nobody"]
    malformed += ["SUB,ann", "sub ,ann", "sub, ann", "x,ann", ",ann", "\0", "uns,other", "{}"]
    malformed += ["msg,other,x", "sub," + "a" * 100_000, "x" * 100_000, "," * 100_000]
    await client.send(*malformed)
    await client.send("sub,ann", "msg,ann", "sub,ann", "sub,ann", "msg,ann," + "y" * 100_000)
    assert await client.messages(1) == ["msg,ann," + "y" * 100_000]
    assert ann.seen == ["open", "y" * 100_000]
    assert other.seen == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    await client.leave()


async def test_binary_is_ignored(serve: Serve) -> None:
    client = await clients.RawWebSocket.open(await serve(MultiplexConnection.get(ann=Echo)))
    await client.socket.send_bytes(b"sub,ann")
    await client.send("msg,ann,1", "sub,ann", "msg,ann,2")
    assert await client.messages(1) == ["msg,ann,2"]
    await client.leave()


@KINDS
async def test_another_subscription_is_another_connection(serve: Serve, kind: Kind) -> None:
    ann = recorder()
    client = await kind.open(await serve(MultiplexConnection.get(ann=ann)))
    await client.send("sub,ann", "uns,ann", "uns,ann", "sub,ann", "msg,ann,x")
    assert await client.messages(1) == ["msg,ann,x"]
    first, second = ann.connections
    assert first is not second
    assert (first.is_closed, second.is_closed) == (True, False)
    first.send("nobody hears that")
    first.close()
    first.session.close()
    second.send("y")
    assert await client.messages(1) == ["msg,ann,y"]
    assert ann.seen == ["open", "close", "open", "x"]
    await client.leave()


@pytest.mark.parametrize(
    ("name", "on_the_wire"),
    [
        ("a b", "a%20b"),
        ("ann@example.com/x*y_z+1-2.3", "ann@example.com/x*y_z+1-2.3"),
        ("100%", "100%25"),
        ("\xe9\u2603\U0001f600\n", "%E9%u2603%uD83D%uDE00%0A"),
        ("cls", "cls"),
        ("", ""),
    ],
)
async def test_odd_names(serve: Serve, name: str, on_the_wire: str) -> None:
    assert escaped(name) == on_the_wire
    client = await clients.WebSocket.open(await serve(MultiplexConnection.get(**{name: Echo})))
    for spelling in {name, on_the_wire}:
        await client.send(f"sub,{spelling}", f"msg,{spelling},x", f"uns,{spelling}")
        assert await client.messages(1) == [f"msg,{spelling},x"]
    await client.leave()


def test_mistakes_are_answered_at_once() -> None:
    with pytest.raises(ValueError, match="'a,b' is not valid: its name has a comma"):
        MultiplexConnection.get(**{"a,b": Echo})
    for wrong in (None, dict, "Echo"):
        with pytest.raises(TypeError, match=r"channel 'ann': .* must be a SockJSConnection class"):
            MultiplexConnection.get(ann=wrong)  # type: ignore[arg-type]


# How a channel ends.


@KINDS
async def test_server_closes_a_channel(serve: Serve, kind: Kind) -> None:
    class Ann(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send("bye")
            self.close(4000, "no place for it")
            self.close()
            self.send("too late")
            self.seen.append(message)

    client = await kind.open(await serve(MultiplexConnection.get(ann=Ann, bob=Echo)))
    await client.send("sub,ann", "sub,bob", "msg,ann,1", "msg,ann,2", "msg,bob,3")
    assert await client.messages(3) == ["msg,ann,bye", "uns,ann", "msg,bob,3"]
    assert Ann.seen == ["open", "1", "close"]
    await client.leave()


async def test_close_is_checked_as_for_a_session(serve: Serve) -> None:
    ann = recorder()
    client = await clients.WebSocket.open(await serve(MultiplexConnection.get(ann=ann)))
    await client.send("sub,ann")
    await ann.until("open")
    with pytest.raises(ValueError, match="999"):
        ann.connections[0].close(999)
    assert not ann.connections[0].is_closed
    await client.leave()


@KINDS
async def test_server_closes_a_channel_from_outside(serve: Serve, kind: Kind) -> None:
    ann = recorder()
    client = await kind.open(await serve(MultiplexConnection.get(ann=ann)))
    await client.send("sub,ann")
    await ann.until("open")
    ann.connections[0].close()
    assert await client.messages(1) == ["uns,ann"]
    await ann.until("close")
    await client.send("msg,ann,1", "sub,ann", "msg,ann,2")
    assert await client.messages(1) == ["msg,ann,2"]
    assert ann.seen == ["open", "close", "open", "2"]
    await client.leave()


async def test_new_subscription_waits_for_the_old_one(serve: Serve) -> None:
    ann = recorder()

    class SlowToClose(ann):  # type: ignore[misc,valid-type]
        async def on_close(self) -> None:
            await asyncio.sleep(0.02)
            self.seen.append("close")

    class Killer(SockJSConnection):
        async def on_message(self, message: str) -> None:
            SlowToClose.connections[-1].close()

    carrier = MultiplexConnection.get(ann=SlowToClose, killer=Killer)
    client = await clients.WebSocket.open(await serve(carrier))
    await client.send("sub,ann", "sub,killer", "msg,killer,", "msg,ann,1", "sub,ann", "msg,ann,2")
    assert await client.messages(2) == ["uns,ann", "msg,ann,2"]
    assert SlowToClose.seen == ["open", "close", "open", "2"]
    await client.leave()


@KINDS
@pytest.mark.parametrize("way", ["leave", "abort", "server"])
async def test_carrier_goes(serve: Serve, kind: Kind, way: str) -> None:
    ann, bob = recorder(), recorder()
    served = await serve(MultiplexConnection.get(ann=ann, bob=bob), settings=SHORT)
    client = await kind.open(served)
    await client.send("sub,ann", "sub,bob", "sub,ann")
    await bob.until("open")
    if way == "server":
        await served.router.shutdown()
        assert (await client.frame())[:5] == b"c[101"
    else:
        client.abort() if way == "abort" else await client.leave()
    await asyncio.gather(ann.until("close"), bob.until("close"))
    await asyncio.sleep(0.05)
    assert ann.seen == bob.seen == ["open", "close"]
    for noted in (ann, bob):
        assert noted.connections[0].is_closed
        noted.connections[0].send("x")
        noted.connections[0].close()
        await noted.connections[0].drain()


@KINDS
@pytest.mark.parametrize("hook", ["on_open", "on_message", "on_close"])
@pytest.mark.logs("channel ann: Noted.on_.* failed")
async def test_hook_that_raises_closes_its_channel(
    serve: Serve, kind: Kind, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    ann = recorder()

    async def fail(self: Any, *_: object) -> None:
        self.seen.append(hook)
        raise ZeroDivisionError("mistake")

    setattr(ann, hook, fail)
    client = await kind.open(await serve(MultiplexConnection.get(ann=ann, bob=Echo)))
    messages = ["sub,bob", "sub,ann", "msg,ann,1", "msg,ann,2", "uns,ann", "msg,bob,x"]
    await client.send(*messages)
    expected = {
        "on_open": (["uns,ann"], ["on_open", "close"]),
        "on_message": (["uns,ann"], ["open", "on_message", "close"]),
        "on_close": (["msg,ann,1", "msg,ann,2"], ["open", "1", "2", "on_close"]),
    }
    sent, seen = expected[hook]
    assert await client.messages(len(sent) + 1) == [*sent, "msg,bob,x"]
    assert ann.seen == seen
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.exc_info and record.exc_info[0] is ZeroDivisionError
    assert f"channel ann: Noted.{hook} failed" in record.getMessage()
    await client.leave()


@KINDS
async def test_channel_turns_a_client_away(serve: Serve, kind: Kind) -> None:
    class Ann(Recorder):
        async def on_open(self, info: ConnectionInfo) -> bool:
            await super().on_open(info)
            return False

    client = await kind.open(await serve(MultiplexConnection.get(ann=Ann, bob=Echo)))
    await client.send("sub,ann", "msg,ann,1", "sub,bob", "msg,bob,2")
    assert await client.messages(2) == ["uns,ann", "msg,bob,2"]
    assert Ann.seen == ["open", "close"]
    await client.leave()


@pytest.mark.parametrize("way", ["raises", "is cancelled", "makes nothing", "does not call super"])
@pytest.mark.logs("its connection could not be made")
async def test_connection_that_cannot_be_made(
    serve: Serve, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Forgetful(SockJSConnection):
        def __init__(self, session: Session) -> None:
            pass

    def make(session: Session) -> Any:
        if way == "raises":
            raise ZeroDivisionError("mistake")
        if way == "is cancelled":
            raise asyncio.CancelledError
        return Forgetful(session) if way == "does not call super" else None

    client = await clients.WebSocket.open(await serve(MultiplexConnection.get(ann=make, bob=Echo)))
    await client.send("sub,ann", "msg,ann,1", "sub,bob", "msg,bob,2")
    assert await client.messages(2) == ["uns,ann", "msg,bob,2"]
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage().endswith("channel ann: its connection could not be made")
    await client.leave()


# Order.


@KINDS
async def test_hooks_of_one_carrier_take_turns(serve: Serve, kind: Kind) -> None:
    running: list[str] = []
    seen: list[str] = []

    class Slow(SockJSConnection):
        async def note(self, what: str) -> None:
            assert running == []
            running.append(what)
            await asyncio.sleep(0.005)
            running.remove(what)
            seen.append(f"{self.session.name}: {what}")  # type: ignore[attr-defined]

        async def on_open(self, info: ConnectionInfo) -> None:
            await self.note("open")

        async def on_message(self, message: str) -> None:
            await self.note(message)
            if message == "last":
                self.send("done")

        async def on_close(self) -> None:
            await self.note("close")

    client = await kind.open(await serve(MultiplexConnection.get(ann=Slow, bob=Slow)))
    await client.send("sub,ann", "sub,bob", "msg,ann,1", "msg,bob,2", "msg,ann,3", "uns,ann")
    await client.send("msg,bob,last")
    assert await client.messages(1) == ["msg,bob,done"]
    assert seen == [
        *("ann: open", "bob: open", "ann: 1", "bob: 2", "ann: 3", "ann: close", "bob: last")
    ]
    await client.leave()
    async with async_timeout.timeout(10):
        while seen[-1] != "bob: close":
            await asyncio.sleep(0.01)


async def test_accepted_messages_are_handled_though_the_client_left(serve: Serve) -> None:
    ann = recorder()

    class Slow(ann):  # type: ignore[misc,valid-type]
        async def on_open(self, info: ConnectionInfo) -> None:
            await super().on_open(info)
            await asyncio.sleep(0.2)

    client = await clients.Xhr.open(await serve(MultiplexConnection.get(ann=Slow), settings=SHORT))
    await client.send("sub,ann", "msg,ann,1", "uns,ann", "sub,ann", "msg,ann,2")
    client.abort()
    await Slow.until("close", 2)
    assert Slow.seen == ["open", "1", "close", "open", "2", "close"]


# What a channel's connection can do.


async def test_info_and_session(serve: Serve) -> None:
    class Ann(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await super().on_open(info)
            assert info is self.info is self.session.info

    served = await serve(MultiplexConnection.get(ann=Ann, bob=functools.partial(Ann)))
    client = await clients.WebSocket.open(served)
    await client.send("sub,ann", "sub,bob")
    await Ann.until("open", 2)
    ann, bob = Ann.connections
    assert ann.session is not bob.session
    assert ann.session.id == bob.session.id == client.path.rpartition("/")[2]
    assert ann.session.transport == ann.info.transport == "websocket"
    assert ann.session.is_open and not ann.session.is_closed
    assert str(ann.session) == f"{ann.session.id[:4]}… (websocket), channel ann"
    assert repr(ann.session).startswith("<Channel ann of <Session ")
    await client.leave()


@KINDS
async def test_send(serve: Serve, kind: Kind) -> None:
    ann = recorder()
    client = await kind.open(await serve(MultiplexConnection.get(ann=ann)))
    await client.send("sub,ann")
    await ann.until("open")
    (connection,) = ann.connections
    for wrong in (b"x", None, 1, {"a": 1}):
        with pytest.raises(TypeError, match="a channel's message is a str, not"):
            connection.send(wrong)
    with pytest.raises(TypeError):
        connection.broadcast([connection], b"x")
    connection.send("\u2603,\ud800" if kind.is_http else "\u2603,")
    connection.session.send_json('{"a": 1}')
    await connection.drain()
    sent = await client.messages(2)
    assert sent[0].startswith("msg,ann,\u2603,")
    assert sent[1] == 'msg,ann,{"a": 1}'
    await client.leave()


async def test_broadcast_to_channels_and_others(serve: Serve) -> None:
    ann, bob, plain = recorder(), recorder(), recorder()
    served = await serve(MultiplexConnection.get(ann=ann, bob=bob))
    others = await serve(plain)
    members = [await kind.open(served) for kind in (clients.WebSocket, clients.RawWebSocket)]
    for member in members:
        await member.send("sub,ann", "sub,bob")
    await bob.until("open", 2)
    members.append(await clients.Xhr.open(others))
    await plain.until("open")
    ann.connections[0].close()
    connections = [*ann.connections, *bob.connections, *plain.connections]
    broadcast(connections, "\u2603,")
    received = [
        await member.messages(count) for member, count in zip(members, (2, 2, 1), strict=True)
    ]
    assert received == [
        ["uns,ann", "msg,bob,\u2603,"],
        ["msg,ann,\u2603,", "msg,bob,\u2603,"],
        ["\u2603,"],
    ]
    for member in members:
        await member.leave()


async def test_broadcast_is_encoded_once_for_all_channel_names(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = recorder(), recorder()
    served = await serve(MultiplexConnection.get(ann=ann, bob=bob))
    members = [await clients.WebSocket.open(served) for _ in range(5)]
    for member in members:
        await member.send("sub,ann", "sub,bob")
    await bob.until("open", 5)
    quoted: list[str] = []

    def quote(message: str) -> bytes:
        quoted.append(message)
        return original(message)

    original = json_text.quote
    monkeypatch.setattr(json_text, "quote", quote)
    monkeypatch.setattr(framing.SOCKJS, "encode", quote)
    broadcast([*ann.connections, *bob.connections], "x")
    assert sorted(quoted) == ["msg,ann,", "msg,bob,", "x"]
    broadcast(ann.connections, "x")
    for member in members:
        assert await member.messages(3) == ["msg,ann,x", "msg,bob,x", "msg,ann,x"]
        await member.leave()


async def test_carrier_can_have_hooks_of_its_own(serve: Serve) -> None:
    seen = []

    class Carrier(MultiplexConnection):
        async def on_open(self, info: ConnectionInfo) -> None:
            seen.append("open")

        async def on_message(self, message: str) -> None:
            seen.append(message)
            await super().on_message(message)

        async def on_close(self) -> None:
            await super().on_close()
            seen.append("close")

    ann = recorder()
    connection = Carrier.get(ann=ann)
    assert issubclass(connection, Carrier) and connection.__name__ == "Carrier"
    client = await clients.WebSocket.open(await serve(connection))
    await client.send("sub,ann", "msg,ann,1")
    await client.messages(1)
    await client.leave()
    async with async_timeout.timeout(5):
        while seen[-1] != "close":
            await asyncio.sleep(0.001)
    assert seen == ["open", "sub,ann", "msg,ann,1", "close"]
    assert ann.seen == ["open", "1", "close"]


# The end.


@pytest.mark.parametrize("kind", [clients.WebSocket, clients.Xhr], ids=lambda kind: kind.name)
@pytest.mark.parametrize("hook", ["on_message", "on_close"])
async def test_shutdown_cuts_hooks_that_hang(
    serve: Serve, kind: Kind, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    ann, bob = recorder(), recorder()

    async def hang(self: Any, *_: object) -> None:
        self.seen.append(hook)
        await asyncio.Event().wait()

    setattr(ann, hook, hang)
    setattr(bob, hook, hang)
    served = await serve(MultiplexConnection.get(ann=ann, bob=bob), settings=SHORT)
    client = await kind.open(served)
    await client.send("sub,ann", "sub,bob", "msg,ann,1")
    await ann.until("on_message" if hook == "on_message" else "1")
    before = time.monotonic()
    await served.router.shutdown()
    assert time.monotonic() - before < 1.5
    ends = {"on_message": "close", "on_close": "on_close"}
    assert (ann.seen.count(ends[hook]), bob.seen.count(ends[hook])) == (1, 1)
    assert all(record.exc_info is None for record in caplog.records)
    assert f"channel ann: Noted.{hook} took too long and was cancelled" in caplog.text
    assert [task for task in asyncio.all_tasks() if "Hooks" in repr(task)] == []
    await client.leave()


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", [clients.WebSocket, clients.Xhr], ids=lambda kind: kind.name)
@pytest.mark.parametrize("swallows", [False, True])
async def test_shutdown_cancels_all_channels_at_once(
    serve: Serve, kind: Kind, swallows: bool
) -> None:
    ends: list[float] = []

    class Hanging(SockJSConnection):
        async def on_close(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not swallows:
                    raise
            finally:
                ends.append(asyncio.get_running_loop().time())

    channels = {"ann": Hanging, "bob": Hanging, "carl": Hanging}
    served = await serve(MultiplexConnection.get(**channels), settings={"shutdown_timeout": 5})
    client = await kind.open(served)
    await client.send(*(f"sub,{name}" for name in channels), "sub,dave")
    await asyncio.sleep(0.1)
    begin = asyncio.get_running_loop().time()
    await served.router.shutdown()
    assert [round(end - begin, 1) for end in ends] == [5.0] * 3
    await client.leave()


@KINDS
async def test_closed_things_are_let_go(serve: Serve, kind: Kind) -> None:
    references: list[weakref.ref[object]] = []

    class Ann(SockJSConnection):
        async def on_open(self, info: ConnectionInfo) -> None:
            references.extend(map(weakref.ref, (self, self.session)))

        async def on_message(self, message: str) -> None:
            if message == "close":
                self.close()
            else:
                self.send(message)

    carriers: list[weakref.ref[object]] = []

    class Carrier(MultiplexConnection):
        async def on_open(self, info: ConnectionInfo) -> None:
            carriers.append(weakref.ref(self))

    served = await serve(Carrier.get(ann=Ann), settings=SHORT)
    client = await kind.open(served)
    gc.disable()
    try:
        await client.send("sub,ann", "uns,ann", "sub,ann", "msg,ann,close", "sub,ann", "msg,ann,x")
        assert await client.messages(2) == ["uns,ann", "msg,ann,x"]
        alive = [reference() is not None for reference in references]
        assert alive == [False, False, False, False, True, True]
        await client.leave()
        async with async_timeout.timeout(5):
            while served.router.session_count or any(reference() for reference in carriers):
                await asyncio.sleep(0.01)
        assert not any(reference() for reference in references)
    finally:
        gc.enable()


async def test_many_messages_over_three_channels(serve: Serve) -> None:
    names = ("ann", "bob", "carl")
    client = await clients.WebSocket.open(
        await serve(MultiplexConnection.get(**dict.fromkeys(names, Echo)))
    )
    sent = [f"msg,{names[number % 3]},{json.dumps([number])}" for number in range(3000)]
    await client.send(*(f"sub,{name}" for name in names), *sent)
    assert await client.messages(len(sent)) == sent
    await client.leave()


async def test_channel_can_close_its_carrier(serve: Serve) -> None:
    bob = recorder()

    class Ann(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.session.carrier.close(4001, "All of it")  # type: ignore[attr-defined]
            assert self.is_closed and bob.connections[0].is_closed

    client = await clients.WebSocket.open(await serve(MultiplexConnection.get(ann=Ann, bob=bob)))
    await client.send("sub,ann", "sub,bob", "msg,ann,1", "msg,bob,2")
    assert await client.frame() == b'c[4001,"All of it"]'
    await asyncio.gather(Ann.until("close"), bob.until("close"))
    assert (Ann.seen, bob.seen) == (["open", "close"], ["open", "close"])
    await client.leave()
