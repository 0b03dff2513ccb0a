"""What `SockJSConnection` promises, on every transport: order, exactly one close, no cancelling."""

import asyncio
import gc
import json
import logging
import re
import time
import weakref
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo
from sockjs_aio.core.session import Session
from sockjs_aio.protocol import framing
from sockjs_aio.turns import TURN
from tests import clients
from tests.conftest import SHORT, Echo, Recorder, Serve

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
sockjs = pytest.mark.parametrize("kind", clients.SOCKJS, ids=lambda kind: kind.name)
http = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
Kind = type[clients.Client]

AWKWARD = [
    "",
    "%41 %25 %",
    "</script><!--<script>",
    "\"'\\/",
    "".join(map(chr, range(0x20))),
    "".join(map(chr, range(0x7F, 0xA1))),
    "\u200c\u200f\u2028\u2029\u202f\u2060\u206f\ufeff\ufff0\uffff",
    "äöü 漢字 😀",
]
SURROGATES = ["\ud800", "\udfff\ud800", "x\udc00y"]


@every
async def test_echo_keeps_every_character(serve: Serve, kind: Kind) -> None:
    client = await kind.open(await serve(Echo))
    await client.send(*AWKWARD)
    assert await client.messages(len(AWKWARD)) == AWKWARD
    await client.leave()


@sockjs
async def test_lone_surrogates_survive(serve: Serve, kind: Kind) -> None:
    client = await kind.open(await serve(Echo))
    await client.send(*SURROGATES)
    assert await client.messages(len(SURROGATES)) == SURROGATES
    await client.leave()


async def test_lone_surrogates_reach_raw_websockets_as_browsers_write_them(serve: Serve) -> None:
    class Member(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            for text in SURROGATES:
                self.send(text)
            self.broadcast(self.connections, "<\ud800>")

    served = await serve(Member, settings={"websocket_compression": True})
    raw, other = await clients.RawWebSocket.open(served), await clients.Xhr.open(served)
    async with served.websocket("/websocket", compress=15) as packed:
        await Member.until("open", 3)
        await raw.send("a")
        replaced = [re.sub("[\ud800-\udfff]", "\ufffd", text) for text in SURROGATES]
        assert await raw.messages(len(SURROGATES) + 1) == [*replaced, "<\ufffd>"]
        assert await packed.receive_str() == "<\ufffd>"
    assert await other.messages(1) == ["<\ud800>"], "UTF-8 has no place for them, JSON does"
    await raw.leave()
    await other.leave()


@every
async def test_order_is_kept_over_many_messages(serve: Serve, kind: Kind) -> None:
    class Relay(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send(message)
            await asyncio.sleep(0)

    client = await kind.open(await serve(Relay))
    sent = [str(number) for number in range(500)]

    async def send() -> None:
        for start in range(0, 500, 7):
            await client.send(*sent[start : start + 7])

    sending = asyncio.ensure_future(send())
    assert await client.messages(500) == sent
    await sending
    await client.leave()


@every
async def test_open_frame_comes_before_on_open_has_returned(serve: Serve, kind: Kind) -> None:
    class Slow(Recorder):
        gate = asyncio.Event()

        async def on_open(self, info: ConnectionInfo) -> None:
            await super().on_open(info)
            await self.gate.wait()
            self.seen.append("opened")

    client = await kind.open(await serve(Slow))
    await client.send("a", "b")
    await Slow.until("open")
    Slow.gate.set()
    await Slow.until("b")
    assert Slow.seen == ["open", "opened", "a", "b"]
    await client.leave()


@every
async def test_messages_are_handled_one_at_a_time(serve: Serve, kind: Kind) -> None:
    class Slow(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.seen.append(f"{message!s} begins")
            await asyncio.sleep(0.002)
            self.seen.append(f"{message!s} ends")

    client = await kind.open(await serve(Slow))
    await client.send("a", "b")
    await client.send("c")
    await Slow.until("c ends")
    assert Slow.seen[1:] == [f"{x} {y}" for x in "abc" for y in ("begins", "ends")]
    await client.leave()


@every
async def test_sessions_do_not_wait_for_each_other(serve: Serve, kind: Kind) -> None:
    class Mixed(Recorder):
        gate = asyncio.Event()

        async def on_message(self, message: str | bytes) -> None:
            if message == "wait":
                await self.gate.wait()
            self.send(message)

    served = await serve(Mixed)
    slow, quick = await kind.open(served), await kind.open(served)
    await slow.send("wait")
    await quick.send("quick")
    assert await quick.messages(1) == ["quick"]
    Mixed.gate.set()
    assert await slow.messages(1) == ["wait"]
    await slow.leave()
    await quick.leave()


@every
async def test_close_sends_what_was_queued_and_calls_on_close_once(
    serve: Serve, kind: Kind
) -> None:
    class Closing(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send("last words")
            self.close(3456, "Done")
            self.close(3457, "Again")
            self.send("too late")
            assert self.is_closed
            self.seen.append("handled")

    served = await serve(Closing, settings=SHORT)
    client = await kind.open(served)
    await client.send("a", "dropped")
    assert await client.frame() == b'a["last words"]'
    assert await client.frame() == b'c[3456,"Done"]'
    await Closing.until("close")
    assert Closing.seen == ["open", "handled", "close"]
    await client.leave()


@every
async def test_close_from_outside_while_nothing_happens(serve: Serve, kind: Kind) -> None:
    class Closing(Recorder):
        pass

    client = await kind.open(await serve(Closing))
    await Closing.until("open")
    Closing.connections[0].close()
    assert await client.frame() == b'c[3000,"Go away!"]'
    await Closing.until("close")
    assert Closing.seen == ["open", "close"]
    await client.leave()


@every
async def test_close_in_on_close_is_harmless(serve: Serve, kind: Kind) -> None:
    class Closing(Recorder):
        async def on_close(self) -> None:
            self.close()
            self.send("x")
            await self.drain()
            await super().on_close()

    client = await kind.open(await serve(Closing, settings=SHORT))
    await Closing.until("open")
    client.abort()
    await Closing.until("close")
    assert Closing.seen == ["open", "close"]


@every
async def test_returning_false_rejects(serve: Serve, kind: Kind) -> None:
    class Picky(Recorder):
        async def on_open(self, info: ConnectionInfo) -> Any:
            await super().on_open(info)
            await asyncio.sleep(0.001)
            return False

    client = await kind.open(await serve(Picky))
    assert await client.frame() == b'c[3000,"Go away!"]'
    await Picky.until("close")
    assert Picky.seen == ["open", "close"]
    await client.leave()


@pytest.mark.virtual_time
@every
async def test_closing_in_the_constructor_calls_no_hook(serve: Serve, kind: Kind) -> None:
    class Never(Recorder):
        def __init__(self, session: Session) -> None:
            super().__init__(session)
            self.close(4000, "Never")

    served = await serve(Never, settings=SHORT)
    client = kind(served, {})
    await client.connect()
    frame = await client.frame()
    if kind is clients.RawWebSocket:
        assert frame == b"o"  # what stands for it
        frame = await client.frame()
    assert frame == b'c[4000,"Never"]'
    await client.leave()
    await served.until_empty()
    assert Never.seen == []


@pytest.mark.virtual_time
@every
async def test_on_close_is_not_called_without_on_open(serve: Serve, kind: Kind) -> None:
    class Brief(Recorder):
        def __init__(self, session: Session) -> None:
            super().__init__(session)
            # runs before a task that is made for the hooks does
            asyncio.get_running_loop().call_soon(self.close, 4000, "Brief")

    served = await serve(Brief, settings=SHORT)
    client = await kind.open(served)
    assert await client.frame() == b'c[4000,"Brief"]'
    await client.leave()
    await served.until_empty()
    assert Brief.seen in ([], ["open", "close"])


@pytest.mark.virtual_time
@every
@pytest.mark.parametrize("hook", ["on_open", "on_message", "on_close"])
@pytest.mark.logs("Failing.on_.* failed")
async def test_exception_in_a_hook_is_logged_once_and_closes(
    serve: Serve, kind: Kind, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await super().on_open(info)
            if hook == "on_open":
                raise ZeroDivisionError("mistake")

        async def on_message(self, message: str | bytes) -> None:
            await super().on_message(message)
            if hook == "on_message":
                raise ZeroDivisionError("mistake")
            self.close(1011, "Internal error")

        async def on_close(self) -> None:
            await super().on_close()
            if hook == "on_close":
                raise ZeroDivisionError("mistake")

    client = await kind.open(await serve(Failing))
    if hook != "on_open":
        await client.send("a", "b")
    assert await client.frame() == b'c[1011,"Internal error"]'
    await Failing.until("close")
    await client.leave()
    await asyncio.sleep(0)
    assert Failing.seen == (["open", "close"] if hook == "on_open" else ["open", "a", "close"])
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.exc_info and record.exc_info[0] is ZeroDivisionError
    assert hook in record.getMessage()
    assert client.path.split("/")[2] not in caplog.text, "session ids are not logged in full"


@every
@pytest.mark.logs("Failing.on_message failed")
async def test_hook_that_awaits_what_was_cancelled_fails_like_any_other(
    serve: Serve, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    client = await kind.open(await serve(Failing))
    await client.send("a")
    assert await client.frame() == b'c[1011,"Internal error"]'
    await Failing.until("close")
    assert "CancelledError" in caplog.text
    await client.leave()


@pytest.mark.virtual_time
@every
async def test_task_that_is_cancelled_after_its_hook_takes_no_hook_along(
    serve: Serve, kind: Kind
) -> None:
    class Timed(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.seen.append(message)
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)  # too late: the hook has returned
            if message == "2":
                self.close()
            end = time.perf_counter() + TURN
            while time.perf_counter() < end:
                pass  # so that others run before the next hook

    served = await serve(Timed)
    client = await kind.open(served)
    await client.send("0", "1", "2", "3")
    await Timed.until("close")
    await client.leave()
    await served.until_empty()
    assert Timed.seen == ["open", "0", "1", "2", "close"]


@pytest.mark.virtual_time
@every
@pytest.mark.parametrize("way", ["abort", "leave"])
@pytest.mark.parametrize("cancellation", [True, False])
async def test_client_that_goes_ends_its_session_once(
    serve: Serve, kind: Kind, way: str, cancellation: bool
) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings=SHORT, handler_cancellation=cancellation)
    client = await kind.open(served)
    await client.send("a")
    await Noted.until("a")
    await client.leave() if way == "leave" else client.abort()
    await Noted.until("close")
    await served.until_empty()
    assert Noted.seen == ["open", "a", "close"]


@pytest.mark.virtual_time
@every
@pytest.mark.parametrize("cancellation", [True, False])
async def test_running_hook_returns_before_on_close(
    serve: Serve, kind: Kind, cancellation: bool
) -> None:
    class Slow(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.seen.append("begins")
            await asyncio.sleep(0.05)
            await asyncio.sleep(0)
            self.seen.append("ends")

    served = await serve(Slow, settings=SHORT, handler_cancellation=cancellation)
    client = await kind.open(served)
    await client.send("a")
    await Slow.until("begins")
    client.abort()
    await Slow.until("close")
    assert Slow.seen == ["open", "begins", "ends", "close"]


@http
async def test_accepted_messages_of_a_client_that_left_are_handled(
    serve: Serve, kind: Kind
) -> None:
    class Slow(Recorder):
        gate = asyncio.Event()

        async def on_message(self, message: str | bytes) -> None:
            await self.gate.wait()
            await super().on_message(message)

    client = await kind.open(await serve(Slow, settings=SHORT))
    await client.send("a", "b")
    await client.send("c")
    client.abort()
    await asyncio.sleep(0.05)
    Slow.gate.set()
    await Slow.until("close")
    assert Slow.seen == ["open", "a", "b", "c", "close"]


@pytest.mark.virtual_time
@http
async def test_session_expires_after_disconnect_delay(serve: Serve, kind: Kind) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings=SHORT)
    await served.poll("/000/expiring")
    await Noted.until("close")
    await served.until_empty()
    assert Noted.seen == ["open", "close"]
    assert await served.poll("/000/expiring") == b'c[1002,"Session expired"]'


@sockjs
async def test_heartbeats_come_after_silence(serve: Serve, kind: Kind) -> None:
    client = await kind.open(await serve(Echo, settings=SHORT))
    for _ in range(3):
        assert await client.frame() == b"h"
    await client.leave()


@every
async def test_wrong_type_is_refused_with_advice(serve: Serve, kind: Kind) -> None:
    class Wrong(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            for value in (1, None, {"a": 1}, bytearray(b"x")):
                with pytest.raises(TypeError, match="json"):
                    self.send(value)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="1000 to 4999"):
                self.close(5000)
            self.send("fine")

    client = await kind.open(await serve(Wrong))
    await client.send("a")
    assert await client.messages(1) == ["fine"]
    await client.leave()


@sockjs
async def test_bytes_are_for_the_raw_websocket_only(serve: Serve, kind: Kind) -> None:
    class Wrong(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            with pytest.raises(TypeError, match="raw WebSocket"):
                self.send(b"x")
            self.send("fine")

    client = await kind.open(await serve(Wrong))
    await client.send("a")
    assert await client.messages(1) == ["fine"]
    await client.leave()


async def test_broadcast_reaches_all_transports_and_encodes_once(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Member(Recorder):
        pass

    served = await serve(Member)
    members = [await kind.open(served) for kind in clients.ALL * 2]
    await Member.until("open", len(members))
    closed = await clients.Xhr.open(served)
    Member.connections[-1].close()
    encoded = count_calls(monkeypatch, framing.SOCKJS, "encode")
    served.router.broadcast(Member.connections, "hello <all>")
    assert encoded == ["hello <all>"]
    for member in members:
        assert await member.messages(1) == ["hello <all>"]
        await member.leave()
    await closed.leave()


@pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")
async def test_info_is_a_snapshot_of_the_request(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    @web.middleware
    async def authenticate(request: web.Request, handler: Any) -> web.StreamResponse:
        request["user"] = request.headers.get("X-User")
        response: web.StreamResponse = await handler(request)
        return response

    app = web.Application(middlewares=[authenticate])
    served = await serve(Noted, app=app)
    headers = {"X-User": "ann", "Cookie": "colour=blue; size=3"}
    await served.request("POST", "/000/x%20y/xhr?a=1&b=%20", b"", headers=headers)
    await Noted.until("open")
    info = Noted.connections[0].info
    assert info.ip == "127.0.0.1"
    assert info.transport == "xhr"
    assert info.path == "/echo/000/x y/xhr"
    assert info.headers["x-user"] == "ann"
    assert info.cookies == {"colour": "blue", "size": "3"}
    assert dict(info.query) == {"a": "1", "b": " "}
    assert info.app is app
    assert info["user"] == "ann"
    assert info.get("nobody") is None
    assert json.dumps(dict(info)) == '{"user": "ann"}'


def count_calls(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> list[Any]:
    """Note the first argument of each call of a function, which is called all the same."""
    function = getattr(owner, name)
    calls = []

    def counting(*arguments: Any) -> Any:
        calls.append(arguments[0])
        return function(*arguments)

    monkeypatch.setattr(owner, name, counting)
    return calls


@pytest.mark.virtual_time
@every
async def test_hook_may_return_any_awaitable(serve: Serve, kind: Kind) -> None:
    class Relay(Recorder):
        def on_message(self, message: str | bytes) -> Any:
            return asyncio.ensure_future(self.answer(message))

        async def answer(self, message: str | bytes) -> None:
            await asyncio.sleep(0)
            self.send(message)

    client = await kind.open(await serve(Relay))
    await client.send("a", "b")
    assert await client.messages(2) == ["a", "b"]
    await client.leave()


@pytest.mark.virtual_time
@every
async def test_hooks_that_wait_and_others_run_one_after_the_other(serve: Serve, kind: Kind) -> None:
    """Of messages that come together."""

    class Echoing(Recorder):
        task: "asyncio.Task[Any] | None" = None

        async def on_message(self, message: str | bytes) -> None:
            assert self.task is None, "the last hook has returned"
            self.task = asyncio.current_task()
            for _ in range(int(message) % 3):
                await asyncio.sleep(0)
            assert asyncio.current_task() is self.task
            self.task = None
            self.send(message)

    messages = [str(number) for number in (0, 0, 1, 1, 0, 2, 0, 0)]
    client = await kind.open(await serve(Echoing))
    await client.send(*messages)
    assert await client.messages(len(messages)) == messages
    await client.leave()


@every
async def test_hook_may_replace_another_one_before_the_next_message(
    serve: Serve, kind: Kind
) -> None:
    class Noted(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.on_message = self.later  # type: ignore[method-assign]
            self.send(message)

        def later(self, message: str | bytes) -> Any:
            return asyncio.ensure_future(self.answer(message))

        async def answer(self, message: str | bytes) -> None:
            self.send(f"later {message!s}")

    client = await kind.open(await serve(Noted))
    await client.send("a", "b", "c")
    assert await client.messages(3) == ["a", "later b", "later c"]
    await client.leave()


@every
async def test_hook_may_replace_another_one(serve: Serve, kind: Kind) -> None:
    """With any function that could have been there from the beginning."""

    class Noted(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.on_message = self.later  # type: ignore[method-assign]
            self.send(message)

        def later(self, message: str | bytes) -> Any:
            return asyncio.ensure_future(self.answer(message))

        async def answer(self, message: str | bytes) -> None:
            self.send(f"later {message!s}")

    client = await kind.open(await serve(Noted))
    await client.send("a")
    assert await client.messages(1) == ["a"]
    await client.send("b", "c")
    assert await client.messages(2) == ["later b", "later c"]
    await client.leave()


@every
async def test_info_does_not_keep_the_request(serve: Serve, kind: Kind) -> None:
    requests: list[weakref.ref[web.BaseRequest]] = []

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        requests.append(weakref.ref(request))
        response: web.StreamResponse = await handler(request)
        return response

    class Noted(Recorder):
        pass

    served = await serve(Noted, settings=SHORT, app=web.Application(middlewares=[note]))
    client = await kind.open(served)
    await Noted.until("open")
    info = Noted.connections[0].info
    await client.leave()
    for wire in served.wires:
        wire.close()
    for _ in range(200):
        gc.collect()
        if requests[0]() is None:
            break
        await asyncio.sleep(0.01)
    assert requests[0]() is None
    assert info.headers["Host"] and info.transport == kind.name and bool(info)
    assert len(info) == 0 and info not in ({}, None)
    assert repr(info) == f"<ConnectionInfo {kind.name} from 127.0.0.1>"
