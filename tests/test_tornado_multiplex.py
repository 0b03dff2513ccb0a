"""Channels with synchronous hooks, over one session."""

import asyncio
import time
from typing import Any

import pytest

from sockjs_aio.tornado.multiplex import MultiplexConnection
from tests import clients
from tests.test_tornado import Old, Start, start

__all__ = ["start"]  # the fixture
both = pytest.mark.parametrize("kind", [clients.WebSocket, clients.Xhr], ids=lambda kind: kind.name)
Kind = type[clients.Client]
SHORT = {"disconnect_delay": 0.1, "session_check_interval": 0.02}


def channel(base: type[Old] = Old) -> type[Old]:
    class Channel(base):  # type: ignore[valid-type,misc]
        def on_open(self, info: Any) -> Any:
            self.ip = info.ip
            return super().on_open(info)

        def on_message(self, message: str) -> Any:
            super().on_message(message)
            self.send(f"<{message}>")

    return Channel


@both
async def test_channels_are_apart(start: Start, kind: Kind) -> None:
    Ann, Bob = channel(), channel()
    served = await start(MultiplexConnection.get(ann=Ann, bob=Bob), SHORT)
    client = await kind.open(served)
    await client.send("sub,ann", "sub,bob", "msg,ann,a,b", "msg,bob,", "uns,ann", "msg,ann,late")
    assert await client.messages(2) == ["msg,ann,<a,b>", "msg,bob,<>"]
    await Ann.until("close")
    assert Ann.seen == ["open", "a,b", "close"]
    assert Ann.all[0].ip == "127.0.0.1" and Ann.all[0].is_closed
    client.abort()
    await Bob.until("close")
    assert Bob.seen == ["open", "", "close"]


@both
async def test_channel_sends_the_latest_of_a_key_and_extends_its_carrier(
    start: Start, kind: Kind
) -> None:
    class Prices(Old):
        def on_message(self, message: str) -> Any:
            for price in range(10):
                self.send(f"{price}", key="AAPL")
                self.broadcast(self.all, f"all {price}", key="all")
            self.session.extend(time.time() - 1)

    client = await kind.open(await start(MultiplexConnection.get(one=Prices, two=Prices), SHORT))
    await client.send("sub,one", "sub,two", "msg,one,go")
    expected = ["msg,one,9", "msg,one,all 9", "msg,two,all 9"]
    assert await client.messages(3) == expected
    assert await client.frame() == b'c[4401,"Authorization expired"]'


@both
async def test_nonsense_is_ignored(start: Start, kind: Kind) -> None:
    Ann = channel()
    client = await kind.open(await start(MultiplexConnection.get(ann=Ann)))
    await client.send(
        "", ",", "sub", "sub,", "sub,zed", "msg,ann,x", "uns,ann", "xyz,ann", "sub,ann"
    )
    await client.send("sub,ann", "msg,ann", "msg,ann,fine")
    assert await client.messages(1) == ["msg,ann,<fine>"]
    assert Ann.seen == ["open", "fine"]
    await client.leave()


async def test_close_sends_uns_and_calls_on_close_once(start: Start) -> None:
    Ann = channel()
    client = await clients.WebSocket.open(await start(MultiplexConnection.get(ann=Ann)))
    await client.send("sub,ann", "msg,ann,x")
    assert await client.messages(1) == ["msg,ann,<x>"]
    Ann.all[0].close()
    Ann.all[0].close()
    Ann.all[0].send("late")
    assert await client.messages(1) == ["uns,ann"]
    await client.send("sub,ann", "msg,ann,again")
    assert await client.messages(1) == ["msg,ann,<again>"]
    assert Ann.seen == ["open", "x", "close", "open", "again"]
    await client.leave()
    await Ann.until("close", 2)


class Outcome(BaseException):
    """As pytest's, of `pytest.fail()`."""


failures = pytest.mark.parametrize("failure", [ZeroDivisionError, asyncio.CancelledError, Outcome])
RAISES = pytest.mark.logs(r"on_\w+ \(channel bad\) failed")


@failures
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    "way",
    [
        "open false",
        pytest.param("open raises", marks=RAISES),
        pytest.param("message raises", marks=RAISES),
    ],
)
async def test_failing_channel_closes_alone(
    start: Start,
    caplog: pytest.LogCaptureFixture,
    way: str,
    is_async: bool,
    failure: type[BaseException],
) -> None:
    class Failing(Old):
        def on_open(self, info: Any) -> Any:
            super().on_open(info)
            return self.outcome("open")

        def on_message(self, message: str) -> Any:
            return self.outcome("message")

        def outcome(self, hook: str) -> Any:
            async def later() -> Any:
                await asyncio.sleep(0)
                return self.now(hook)

            return later() if is_async else self.now(hook)

        def now(self, hook: str) -> Any:
            if way == f"{hook} raises":
                raise failure("mistake")
            return way != f"{hook} false"

    Ann = channel()
    client = await clients.WebSocket.open(
        await start(MultiplexConnection.get(ann=Ann, bad=Failing))
    )
    await client.send("sub,ann", "sub,bad", "msg,bad,x", "msg,ann,x")
    assert sorted(await client.messages(2)) == ["msg,ann,<x>", "uns,bad"]
    assert Failing.seen == ["open", "close"] and Ann.seen == ["open", "x"]
    assert caplog.text.count(f"{failure.__name__}: mistake") == ("raises" in way)
    await client.leave()


async def test_values_and_broadcasts(start: Start) -> None:
    class Ann(Old):
        def on_message(self, message: str) -> None:
            self.send({"k": 1})
            self.send(b"bytes")
            self.broadcast(self.all, [1])

    client = await clients.WebSocket.open(await start(MultiplexConnection.get(ann=Ann)))
    await client.send("sub,ann", "msg,ann,x")
    assert await client.messages(3) == ['msg,ann,{"k":1}', "msg,ann,bytes", "msg,ann,[1]"]
    await client.leave()


async def test_awaitable_on_close_of_channels(start: Start) -> None:
    class Ann(Old):
        async def on_close(self) -> None:
            await asyncio.sleep(0.01)
            self.seen.append("closed")

    client = await clients.WebSocket.open(await start(MultiplexConnection.get(ann=Ann)))
    await client.send("sub,ann")
    await Ann.until("open")
    await client.leave()
    await Ann.until("closed")
    assert Ann.seen == ["open", "closed"]


@pytest.mark.parametrize(
    ("way", "is_async"),
    [
        ("closes itself", False),
        ("closes itself", True),
        ("closes the other", False),
        ("closes the carrier", False),
        ("closes the carrier", True),
        ("false", False),
        ("false", True),
        pytest.param("raises", False, marks=RAISES),
        pytest.param("raises", True, marks=RAISES),
    ],
)
async def test_awaitable_on_close_runs_however_the_server_closes_the_channel(
    start: Start, way: str, is_async: bool
) -> None:
    class Bad(Old):
        def on_open(self, info: Any) -> Any:
            super().on_open(info)
            return self.later() if is_async else self.now()

        async def later(self) -> Any:
            await asyncio.sleep(0)
            result = self.now()
            await asyncio.sleep(0)
            self.seen.append("opened")
            return result

        def now(self) -> Any:
            if way == "closes the carrier":
                self.session.carrier.close()  # type: ignore[attr-defined]
            elif way == "closes the other":
                Other.all[0].close()
            elif way == "closes itself":
                self.close()
            elif way == "raises":
                raise ZeroDivisionError("mistake")
            return way != "false"

        async def on_close(self) -> None:
            self.seen.append("close")
            await asyncio.sleep(0.01)
            self.seen.append("closed")

    class Other(Bad):
        def on_open(self, info: Any) -> Any:
            Old.on_open(self, info)

        def on_message(self, message: str) -> Any:
            self.send(message)

    served = await start(MultiplexConnection.get(bad=Bad, other=Other))
    client = await clients.WebSocket.open(served)
    await client.send("sub,other", "sub,bad", "msg,other,x")
    closed = Other if way == "closes the other" else Bad
    if way == "closes the carrier":
        assert await client.frame() == b'c[3000,"Go away!"]'
        await Other.until("closed")
    elif closed is Bad:
        assert await client.messages(2) == ["uns,bad", "msg,other,x"]
        assert Bad.seen[-1] == "closed"  # the next message came after it
    else:
        assert await client.messages(1) == ["uns,other"]
    await closed.until("closed")
    opened = ["opened"] if is_async and way != "raises" else []
    assert closed.seen == ["open", *opened, "close", "closed"]
    await client.leave()
    await Other.until("closed")
    assert Other.seen == ["open", "close", "closed"]


async def test_awaitable_on_close_runs_when_no_hook_does(start: Start) -> None:
    class Ann(Old):
        async def on_close(self) -> None:
            await asyncio.sleep(0.01)
            self.seen.append("closed")

    client = await clients.WebSocket.open(await start(MultiplexConnection.get(ann=Ann)))
    await client.send("sub,ann")
    await Ann.until("open")
    Ann.all[0].close()
    assert await client.messages(1) == ["uns,ann"]
    await Ann.until("closed")
    await client.leave()
    assert Ann.seen == ["open", "closed"]


@failures
@pytest.mark.logs(r"on_close \(channel bad\) failed")
async def test_awaitable_on_close_that_fails_closes_its_channel_only(
    start: Start, failure: type[BaseException]
) -> None:
    class Bad(Old):
        async def on_close(self) -> None:
            raise failure("mistake")

    served = await start(MultiplexConnection.get(ann=channel(), bad=Bad))
    client = await clients.WebSocket.open(served)
    await client.send("sub,ann", "sub,bad", "uns,bad", "msg,ann,x")
    assert await client.messages(1) == ["msg,ann,<x>"]
    await client.leave()


@both
@failures
@pytest.mark.logs(r"on_close \(channel bad\) failed")
async def test_plain_on_close_that_fails_does_not_keep_other_channels_from_theirs(
    start: Start, kind: Kind, failure: type[BaseException]
) -> None:
    class Bad(Old):
        def on_close(self) -> None:
            raise failure("mistake")

    Ann = channel()
    served = await start(MultiplexConnection.get(ann=Ann, bad=Bad), SHORT)
    client = await kind.open(served)
    await client.send("sub,bad", "sub,ann", "msg,ann,x")
    assert await client.messages(1) == ["msg,ann,<x>"]
    await client.leave()
    await Ann.until("close")
    assert served.tornado.stats.sess_active == 0


@pytest.mark.parametrize("ends", ["channel", "client"])
async def test_awaitable_on_close_that_cancels_its_own_task_harms_no_other_channel(
    start: Start, ends: str
) -> None:
    class Bad(Old):
        async def on_close(self) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    class Ann(Leaving):
        pass

    served = await start(MultiplexConnection.get(ann=Ann, bad=Bad))
    client = await clients.WebSocket.open(served)
    await client.send("sub,ann", "sub,bad")
    if ends == "channel":
        await client.send("uns,bad", "msg,ann,x")
    await Ann.until("x" if ends == "channel" else "open")
    await client.leave()
    await Ann.until("closed")


@failures
@pytest.mark.logs("creating the connection of channel bad failed")
async def test_channel_whose_constructor_raises_closes_alone(
    start: Start, caplog: pytest.LogCaptureFixture, failure: type[BaseException]
) -> None:
    class Bad(Old):
        def __init__(self, session: Any) -> None:
            raise failure("mistake")

    served = await start(MultiplexConnection.get(ann=channel(), bad=Bad))
    client = await clients.WebSocket.open(served)
    await client.send("sub,ann", "sub,bad", "msg,bad,x", "msg,ann,x", "sub,bad")
    assert await client.messages(3) == ["uns,bad", "msg,ann,<x>", "uns,bad"]
    assert caplog.text.count(f"{failure.__name__}: mistake") == 2
    assert served.tornado.stats.sess_active == 2
    await client.leave()


@pytest.mark.parametrize("is_async", [False, True])
async def test_message_hook_that_returns_false_closes_nothing(start: Start, is_async: bool) -> None:
    class Answering(Old):
        def on_message(self, message: str) -> Any:
            self.send(message)
            return self.later() if is_async else False

        async def later(self) -> bool:
            return False

    alone = await start(Answering)
    client = await clients.WebSocket.open(alone)
    await client.send("a", "b")
    assert await client.messages(2) == ["a", "b"]
    await client.leave()

    client = await clients.WebSocket.open(await start(MultiplexConnection.get(ann=Answering)))
    await client.send("sub,ann", "msg,ann,a", "msg,ann,b")
    assert await client.messages(2) == ["msg,ann,a", "msg,ann,b"]
    await client.leave()


async def test_channel_that_closes_in_its_constructor_can_be_subscribed_again(
    start: Start,
) -> None:
    class Picky(Old):
        def __init__(self, session: Any) -> None:
            self.seen.append("made")
            if len(self.seen) < 3:
                self.close()

    served = await start(MultiplexConnection.get(ann=channel(), picky=Picky))
    client = await clients.WebSocket.open(served)
    await client.send("sub,picky", "msg,picky,x", "sub,picky", "sub,picky", "msg,picky,x")
    await client.send("sub,ann", "msg,ann,x")
    assert await client.messages(3) == ["uns,picky", "uns,picky", "msg,ann,<x>"]
    assert Picky.seen == ["made", "made", "made", "open", "x"]
    assert served.tornado.stats.sess_active == 3
    await client.leave()
    await Picky.until("close")


class Slow(Old):
    """Has an `on_close` that ends when it is told to."""

    may_end: asyncio.Event

    async def on_close(self) -> None:
        self.seen.append("close")
        await self.may_end.wait()
        self.seen.append("closed")


@both
async def test_channel_whose_constructor_closes_the_client_is_not_opened(
    start: Start, kind: Kind
) -> None:
    """What is not opened is not closed either."""

    class Closing(Old):
        def __init__(self, session: Any) -> None:
            self.seen.append("made")
            session.carrier.close()

    class Carrier(MultiplexConnection):
        def on_close(self) -> Any:
            Closing.seen.append("carrier closed")
            return super().on_close()

    client = await kind.open(await start(Carrier.get(ann=Closing), SHORT))
    await client.send("sub,ann", "msg,ann,a", "sub,ann")
    assert await client.frame() == b'c[3000,"Go away!"]'
    await client.leave()
    assert Closing.seen == ["made", "carrier closed"]


@both
async def test_new_connection_of_a_channel_waits_for_on_close_of_the_one_before(
    start: Start, kind: Kind
) -> None:
    class Ann(Slow):
        may_end = asyncio.Event()

        def on_message(self, message: str) -> None:
            super().on_message(message)
            self.send(message)

    client = await kind.open(await start(MultiplexConnection.get(ann=Ann)))
    await client.send("sub,ann")
    await Ann.until("open")
    Ann.all[0].close()
    assert await client.messages(1) == ["uns,ann"]
    await client.send("sub,ann", "msg,ann,x")
    await asyncio.sleep(0.02)  # it has come, or will be seen out of its turn below
    Ann.may_end.set()
    assert await client.messages(1) == ["msg,ann,x"]
    assert Ann.seen == ["open", "close", "closed", "open", "x"]
    await client.leave()
    await Ann.until("closed", 2)


async def test_client_that_leaves_meanwhile_is_not_subscribed_again(start: Start) -> None:
    class Ann(Slow):
        may_end = asyncio.Event()

    served = await start(MultiplexConnection.get(ann=Ann))
    client = await clients.WebSocket.open(served)
    await client.send("sub,ann")
    await Ann.until("open")
    Ann.all[0].close()
    assert await client.messages(1) == ["uns,ann"]
    await client.send("sub,ann")
    await asyncio.sleep(0.02)
    Ann.all[0].session.carrier.close()
    Ann.may_end.set()
    await Ann.until("closed")
    await client.leave()
    assert Ann.seen == ["open", "close", "closed"]
    assert served.tornado.stats.sess_active == 0


def test_names_have_no_commas() -> None:
    with pytest.raises(ValueError, match="comma"):
        MultiplexConnection.get(**{"a,b": Old})
    assert "a%20b" in MultiplexConnection.get(**{"a b": Old}).channels


@both
async def test_on_close_of_a_channel_begins_although_the_server_cancels_it_at_once(
    start: Start, kind: Kind
) -> None:
    class Ending(Old):
        def on_close(self) -> Any:
            super().on_close()
            asyncio.get_running_loop().call_soon(abort)
            return self.finish()

        async def finish(self) -> None:
            self.seen.append("finished")

    served = await start(MultiplexConnection.get(one=Ending, two=Ending), SHORT)

    def abort() -> None:
        for session in list(served.tornado._router._registry._sessions):
            session.abort()

    client = await kind.open(served)
    await client.send("sub,one", "sub,two")
    await Ending.until("open", 2)
    client.abort()
    await Ending.until("finished", 2)
    assert Ending.seen == ["open"] * 2 + ["close"] * 2 + ["finished"] * 2


class Hung(Old):
    """Both hooks hang; `on_message` ends its channel at once, or when it is cancelled."""

    async def on_message(self, message: str) -> None:
        if message == "at once":
            self.close()
        self.seen.append(message)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if message == "late":
                self.close()
            if message == "fail":
                raise ValueError("on purpose") from None

    async def on_close(self) -> None:
        self.seen.append("close")
        await asyncio.Event().wait()


@both
@pytest.mark.parametrize("message", ["at once", "late", "fail"])
async def test_shutdown_ends_three_hooks_that_hang(start: Start, kind: Kind, message: str) -> None:
    class Ann(Hung):
        pass

    class Bob(Hung):
        pass

    served = await start(MultiplexConnection.get(ann=Ann, bob=Bob), {"shutdown_timeout": 0.1})
    client = await kind.open(served)
    await client.send("sub,ann", "sub,bob", f"msg,ann,{message}")
    await Ann.until(message)
    await Bob.until("open")
    await served.tornado._router.shutdown()
    assert (Ann.seen.count("close"), Bob.seen.count("close")) == (1, 1)
    assert [task for task in asyncio.all_tasks() if "ChannelSession" in repr(task)] == []
    assert served.tornado._router.session_count == 0
    await client.leave()


class Leaving(Old):
    """Its hook leaves the channel, and `on_close` takes a while."""

    async def on_message(self, message: str) -> None:
        self.close()
        if message == "all":
            carrier: MultiplexConnection = vars(self.session)["carrier"]
            carrier.close()
        self.seen.append(message)
        await asyncio.sleep(0.1)

    async def on_close(self) -> None:
        self.seen.append("close")
        await asyncio.sleep(0.1)
        self.seen.append("closed")


@both
@pytest.mark.parametrize("message", ["all", "this"])
async def test_on_close_behind_a_hook_that_has_left_ends_before_the_shutdown(
    start: Start, kind: Kind, message: str
) -> None:
    class Ann(Leaving):
        pass

    served = await start(MultiplexConnection.get(ann=Ann), {"shutdown_timeout": 3})
    client = await kind.open(served)
    await client.send("sub,ann", f"msg,ann,{message}")
    await Ann.until(message)
    await served.tornado._router.shutdown()
    assert Ann.seen[-2:] == ["close", "closed"]
    await client.leave()


@both
@pytest.mark.logs("CancelledError")
async def test_on_close_is_called_behind_a_plain_hook_that_raises_what_is_no_failure(
    start: Start, kind: Kind
) -> None:
    """As `sys.exit()` does."""

    class Ann(Leaving):
        def on_message(self, message: str) -> None:  # type: ignore[override]
            self.seen.append(message)
            raise asyncio.CancelledError

    served = await start(MultiplexConnection.get(ann=Ann), {"shutdown_timeout": 3})
    client = await kind.open(served)
    await client.send("sub,ann", "msg,ann,now")
    await Ann.until("now")
    await served.tornado._router.shutdown()
    assert Ann.seen[-2:] == ["close", "closed"]
    await client.leave()
