"""Each row of what sockjs-tornado's applications rely on, on the adapter."""

import asyncio
import functools
import gc
import json
import logging
import sys
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar

import async_timeout
import pytest
from aiohttp import web

import sockjs_aio.tornado
from sockjs_aio.tornado import SockJSConnection, SockJSRouter, migrate, proto, session, stats
from sockjs_aio.tornado.transports import base
from tests import clients
from tests.conftest import Serve, Served
from tests.process import PATIENCE

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
sockjs = pytest.mark.parametrize("kind", clients.SOCKJS, ids=lambda kind: kind.name)
Kind = type[clients.Client]
SHORT = {"disconnect_delay": 0.1, "session_check_interval": 0.02}


class ServedByTornado(Served):
    """A server whose router is the adapter's, below ``/tornado``."""

    tornado: SockJSRouter


Start = Callable[..., Awaitable[ServedByTornado]]


@pytest.fixture
async def start(serve: Serve) -> AsyncIterator[Start]:
    """Serve a connection class: ``await start(Chat, {"jsessionid": False})``."""

    async def run(
        connection: Any,
        settings: Any = None,
        *,
        urls_only: bool = False,
        app: web.Application | None = None,
        cancellation: bool = True,
        **options: Any,
    ) -> Any:
        router = SockJSRouter(connection, "/tornado", settings or {}, **options)
        app = app or web.Application()
        if urls_only:
            app.add_routes(router.urls)
        else:
            router.attach(app)
        served = await serve(
            prefix="/other", app=app, shutdown_timeout=0.5, handler_cancellation=cancellation
        )
        served.prefix = "/tornado"
        served.tornado = router  # type: ignore[attr-defined]
        return served

    yield run


class Old(SockJSConnection):
    """Notes its hooks; each test derives a class of its own."""

    seen: list[Any]
    all: list[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.seen = []
        cls.all = []

    def on_open(self, info: Any) -> Any:
        self.all.append(self)
        self.seen.append("open")

    def on_message(self, message: str) -> Any:
        self.seen.append(message)

    def on_close(self) -> Any:
        self.seen.append("close")

    @classmethod
    async def until(cls, what: Any, count: int = 1) -> None:
        for _ in range(2500):
            if cls.seen.count(what) >= count:
                return
            await asyncio.sleep(0.002)
        raise AssertionError(f"{what!r} is not in {cls.seen}")


# Names that applications import.


def test_names_are_there() -> None:
    from sockjs_aio.tornado import conn, router

    assert sockjs_aio.tornado.SockJSRouter is router.SockJSRouter
    assert sockjs_aio.tornado.SockJSConnection is conn.SockJSConnection
    for module, names in (
        (session, ("BaseSession", "Session", "ConnectionInfo")),
        (stats, ("StatsCollector", "MovingAverage")),
        (base, ("BaseTransportMixin",)),
        (migrate, ("WebsocketHandler",)),
    ):
        assert all(isinstance(getattr(module, name), type) for name in names)
    assert [session.CONNECTING, session.OPEN, session.CLOSING, session.CLOSED] == [0, 1, 2, 3]


@pytest.mark.programs
async def test_tornado_is_not_imported() -> None:
    code = "import sys, sockjs_aio.tornado; assert 'tornado' not in sys.modules"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


def test_proto() -> None:
    assert tuple("ocmh") == (proto.CONNECT, proto.DISCONNECT, proto.MESSAGE, proto.HEARTBEAT)
    assert proto.json_encode({"a": [1, "x"]}) == '{"a":[1,"x"]}'
    assert proto.json_decode('{"a":1}') == {"a": 1}
    assert proto.disconnect(3000, 'Go "away"!') == 'c[3000,"Go \\"away\\"!"]'


async def test_websocket_handler_of_migrate(start: Start) -> None:
    class Handler(migrate.WebsocketHandler):
        def open(self) -> None:
            self.write_message(f"{self.ip} {self.request.path}")

        def on_message(self, message: str) -> None:
            self.write_message(message.upper())

    client = await clients.Xhr.open(await start(Handler))
    assert (await client.messages(1))[0].startswith("127.0.0.1 /tornado/000/")
    await client.send("a")
    assert await client.messages(1) == ["A"]
    await client.leave()


# SockJSRouter.


async def test_urls_alone_serve_everything(start: Start) -> None:
    class Echo(Old):
        def on_message(self, message: str) -> None:
            self.send(message)

    settings = {**SHORT, "heartbeat_delay": 0.1}
    served = await start(Echo, settings, urls_only=True)
    for kind in clients.ALL:
        client = await kind.open(served)
        await client.send("a")
        assert await client.messages(1) == ["a"]
        if kind in clients.SOCKJS:
            assert await client.frame() == b"h"
        client.abort()
    await Echo.until("close", len(clients.ALL))


async def test_other_expectations_are_417_and_not_repeated(start: Start) -> None:
    served = await start(Old)
    for method, url in (("POST", "/0/1/xhr"), ("GET", "/info"), ("GET", "")):
        body = b"" if method == "POST" else None
        reply = await served.request(method, url, body, headers={"Expect": "<dance>"})
        assert (reply.status, reply.body) == (417, b"417: Expectation Failed"), url


async def greet(request: web.Request) -> web.Response:
    return web.Response()


def test_urls_are_a_plain_list() -> None:
    first, second = SockJSRouter(Old, "/a"), SockJSRouter(Old, "/b")
    assert type(first.urls) is list
    routes: list[Any] = [web.get("/", greet)]
    assert first.apply_routes(routes) is routes
    app = web.Application()
    app.add_routes(routes + second.urls)
    paths = {resource.canonical for resource in app.router.resources()}
    assert {"/", "/a/info", "/b/info"} <= paths


def test_attributes_of_the_router() -> None:
    router = SockJSRouter(Old, "/a", {"disabled_transports": ["websocket"]}, io_loop="loop")
    assert router.get_connection_class() is Old
    assert router.websockets_enabled is False and router.cookie_needed is True
    assert router.settings["disconnect_delay"] == 5 and router.io_loop == "loop"
    assert isinstance(router.stats, stats.StatsCollector)
    made = router.create_session("abc")
    assert router.get_session("abc") is made and router.get_session("x") is None
    assert router.create_session("y", register=False).session_id == "y"
    assert router.get_session("y") is None


DEFAULTS = {
    "session_check_interval": 1,
    "disconnect_delay": 5,
    "heartbeat_delay": 25,
    "disabled_transports": [],
    "response_limit": 131072,
    "jsessionid": True,
    "immediate_flush": True,
    "disable_nagle": True,
    "verify_ip": True,
    "websocket_allow_origin": "*",
}


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items())
def test_defaults_of_settings(name: str, value: Any) -> None:
    assert SockJSRouter(Old).settings[name] == value


def test_unknown_settings_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    SockJSRouter(Old, "/a", {"heartbeat_check_delay": 10, "hearbeat_delay": 1})
    assert "ignores the setting 'heartbeat_check_delay'" in caplog.text
    assert "ignores the setting 'hearbeat_delay'" in caplog.text


@pytest.mark.parametrize("immediate", [True, False])
async def test_immediate_flush(start: Start, immediate: bool) -> None:
    class Twice(Old):
        def on_message(self, message: str) -> None:
            self.send("a")
            self.send("b")

    client = await clients.WebSocket.open(await start(Twice, {"immediate_flush": immediate}))
    await client.send("go")
    frames = [await client.frame() for _ in range(2 if immediate else 1)]
    assert frames == ([b'a["a"]', b'a["b"]'] if immediate else [b'a["a","b"]'])
    await client.leave()


async def test_jsessionid_and_verify_ip_are_on(start: Start) -> None:
    class Noted(Old):
        pass

    served = await start(Noted)
    reply = await served.request("POST", "/0/1/xhr", b"")
    assert reply.header("Set-Cookie") == "JSESSIONID=dummy; Path=/"
    wire = await served.wire(local_addr=("127.0.0.2", 0))
    assert (await wire.request("POST", "/tornado/0/1/xhr_send", '["a"]')).status == 403
    wire.close()


async def test_session_kls_makes_the_sessions(start: Start) -> None:
    made = []

    class Mine(session.Session):
        def __init__(self, *arguments: Any) -> None:
            made.append(arguments)
            super().__init__(*arguments)

        def send_message(self, msg: Any, stats: bool = True, binary: bool = False) -> None:
            super().send_message(f"<{msg}>", stats)

    class Echo(Old):
        def on_message(self, message: str) -> None:
            self.send(message)
            self.broadcast([self], message)

    served = await start(Echo, session_kls=Mine)
    client = await clients.Xhr.open(served)
    await client.send("a")
    assert await client.messages(2) == ["<a>", "a"]
    assert made == [(Echo, served.tornado, client.path.split("/")[2], 5)]
    await client.leave()


async def test_polls_during_on_open_find_the_session(start: Start) -> None:
    finish = asyncio.Event()

    class Slow(Old):
        async def on_open(self, info: Any) -> None:
            super().on_open(info)
            await finish.wait()

    served = await start(Slow)
    client = await clients.Xhr.open(served)
    await Slow.until("open")
    session_id = client.path.split("/")[2]
    assert served.tornado.get_session(session_id) is Slow.all[0].session
    await client.send("a")
    finish.set()
    await Slow.until("a")
    await client.leave()


@pytest.mark.parametrize("cancellation", [False, True])
async def test_streams_that_are_lost_before_their_handler_runs_leave_nothing(
    start: Start, cancellation: bool
) -> None:
    arrived, handled = asyncio.Event(), asyncio.Event()

    class Noted(Old):
        pass

    @web.middleware
    async def wait_for_loss(request: web.Request, handler: Any) -> Any:
        arrived.set()
        try:
            while request.transport is not None:
                await asyncio.sleep(0.002)
            return await handler(request)
        finally:
            handled.set()

    app = web.Application(middlewares=[wait_for_loss])
    served = await start(Noted, SHORT, app=app, cancellation=cancellation)
    wire = await served.wire()
    wire.send("POST", "/tornado/0/lost/xhr_streaming", b"")
    await asyncio.wait_for(arrived.wait(), 5)
    wire.abort()
    await asyncio.wait_for(handled.wait(), 5)
    served.router = served.tornado._router
    await served.until_empty()
    assert served.tornado.get_session("lost") is None
    assert served.tornado.stats.sess_active == 0


# SockJSConnection.


@every
async def test_hooks_in_order(start: Start, kind: Kind) -> None:
    class Noted(Old):
        pass

    client = await kind.open(await start(Noted, SHORT))
    await client.send("a", "b")
    await client.send("c")
    await Noted.until("c")
    client.abort()
    await Noted.until("close")
    assert Noted.seen == ["open", "a", "b", "c", "close"]


@every
async def test_awaitable_hooks_are_awaited(start: Start, kind: Kind) -> None:
    class Slow(Old):
        async def on_open(self, info: Any) -> None:
            await asyncio.sleep(0.01)
            self.seen.append("opened")

        async def on_message(self, message: str) -> None:
            await asyncio.sleep(0.01)
            self.seen.append(message)

        async def on_close(self) -> None:
            await asyncio.sleep(0.01)
            self.seen.append("closed")

    client = await kind.open(await start(Slow, SHORT))
    await client.send("a", "b")
    await Slow.until("b")
    client.abort()
    await Slow.until("closed")
    assert Slow.seen == ["opened", "a", "b", "closed"]


@every
async def test_on_open_returning_false_rejects(start: Start, kind: Kind) -> None:
    class Picky(Old):
        def on_open(self, info: Any) -> bool:
            super().on_open(info)
            return False

    client = await kind.open(await start(Picky))
    assert await client.frame() == b'c[3000,"Go away!"]'
    await Picky.until("close")
    assert Picky.seen == ["open", "close"]
    await client.leave()


@every
async def test_closing_in_the_constructor_rejects(start: Start, kind: Kind) -> None:
    class Picky(Old):
        def __init__(self, session: Any) -> None:
            session.close(4001, "Full")

    served = await start(Picky)
    client = await kind.open(served)
    assert await client.frame() == b'c[4001,"Full"]'
    await client.leave()
    assert Picky.seen == []  # neither opened nor closed
    assert served.tornado.stats.sess_active == 0


class HTTPError(Exception):
    """As Tornado's."""

    status_code = 403


@every
@pytest.mark.parametrize("error", [HTTPError, web.HTTPForbidden])
async def test_http_error_in_on_open_rejects(
    start: Start, kind: Kind, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sockjs_aio")

    class Picky(Old):
        def on_open(self, info: Any) -> None:
            super().on_open(info)
            raise error

    client = await kind.open(await start(Picky))
    assert await client.frame() == b'c[3000,"Go away!"]'
    await Picky.until("close")
    (record,) = [record for record in caplog.records if "refused" in record.getMessage()]
    assert record.levelno == logging.INFO and not record.exc_info
    await client.leave()


@pytest.mark.logs("Mute must override on_message")
async def test_base_class_has_no_on_message(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    class Mute(SockJSConnection):
        pass

    client = await clients.WebSocket.open(await start(Mute))
    await client.send("a")
    assert await client.frame() == b'c[1011,"Internal error"]'
    assert "Mute.on_message failed" in caplog.text  # not in a class of ours
    assert "Mute must override on_message" in caplog.text
    await client.leave()


@sockjs
async def test_values_arrive_as_what_they_are(start: Start, kind: Kind) -> None:
    values = [{"k": 1}, [1, "\u2028</script>"], 1.5, None, True]

    class Values(Old):
        def on_message(self, message: str) -> None:
            for value in values:
                self.send(value)
            self.send("bytes \u00e4".encode())
            self.broadcast(self.all, {"k": "\u2028"})

    client = await kind.open(await start(Values))
    await client.send("go")
    assert await client.messages(7) == [*values, "bytes \u00e4", {"k": "\u2028"}]
    await client.leave()


async def test_values_over_the_raw_websocket(start: Start) -> None:
    class Values(Old):
        def on_message(self, message: str) -> None:
            self.send({"k": 1})
            self.send(b"text")
            self.send(b"\xff", binary=True)
            self.broadcast(self.all, [1])

    served = await start(Values)
    async with served.session.ws_connect(served.url("/websocket")) as socket:
        await socket.send_str("go")
        received = [(await socket.receive()).data for _ in range(4)]
    assert received == ['{"k":1}', "text", b"\xff", "[1]"]


async def test_broadcast_encodes_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    class Noted(Old):
        pass

    served = await start(Noted)
    members = [await kind.open(served) for kind in clients.SOCKJS * 2]
    await Noted.until("open", len(members))
    calls: list[Any] = []
    encode = proto.json_encode

    def counted(data: Any) -> str:
        calls.append(data)
        return encode(data)

    monkeypatch.setattr(proto, "json_encode", counted)
    Noted.all[0].close()
    served.tornado.broadcast(iter(Noted.all), {"k": 1})
    assert calls == [{"k": 1}]
    for member in members[1:]:
        assert await member.messages(1) == [{"k": 1}]
    for member in members:
        await member.leave()


@every
async def test_message_replaces_the_queued_one_of_its_key(start: Start, kind: Kind) -> None:
    class Prices(Old):
        def on_message(self, message: str) -> None:
            for price in range(100):
                self.send(f"AAPL {price}", key="AAPL")
                self.broadcast(self.all, f"MSFT {price}".encode(), key="MSFT")
            self.send("last")

    client = await kind.open(await start(Prices))
    await client.send("go")
    assert await client.messages(3) == ["AAPL 99", "MSFT 99", "last"]
    await client.leave()


async def test_values_and_bytes_may_have_keys(start: Start) -> None:
    class Values(Old):
        def on_message(self, message: str) -> None:
            for number in range(3):
                self.send({"n": number}, key="value")
                self.send(b"%d" % number, binary=True, key="bytes")
            with pytest.raises(ValueError, match="key"):
                self.send("x", key="")

    served = await start(Values)
    async with served.session.ws_connect(served.url("/websocket")) as socket:
        await socket.send_str("go")
        assert [(await socket.receive()).data for _ in range(2)] == ['{"n":2}', b"2"]
    client = await clients.Xhr.open(served)
    await client.send("go")
    assert await client.messages(2) == [{"n": 2}, "2"]


async def test_session_class_that_overrides_how_to_send_sees_messages_with_keys(
    start: Start,
) -> None:
    class Loud(session.Session):
        def send_message(self, msg: Any, stats: bool = True, binary: bool = False) -> None:
            super().send_message(msg.upper(), stats, binary)

    class Keyed(Old):
        def on_message(self, message: str) -> None:
            self.send(message, key="k")

    client = await clients.Xhr.open(await start(Keyed, session_kls=Loud))
    await client.send("a", "b")
    assert await client.messages(2) == ["A", "B"]


@pytest.mark.parametrize("kind", [clients.WebSocket, clients.Xhr], ids=lambda kind: kind.name)
async def test_session_is_closed_when_its_time_is_over(start: Start, kind: Kind) -> None:
    class LoggedIn(Old):
        def on_open(self, info: Any) -> Any:
            self.session.extend(time.time() + 3600)

        def on_message(self, message: str) -> Any:
            self.send("last")
            self.session.extend(time.time() - 1)

    client = await kind.open(await start(LoggedIn, SHORT))
    await client.send("log out")
    assert await client.messages(1) == ["last"]
    assert await client.frame() == b'c[4401,"Authorization expired"]'
    await LoggedIn.until("close")


@every
async def test_close_calls_on_close_at_once_and_once(start: Start, kind: Kind) -> None:
    class Closing(Old):
        def on_message(self, message: str) -> None:
            self.send("last words")
            self.close()
            self.seen.append("behind close()")
            assert self.is_closed
            self.send("too late")
            self.close()

    client = await kind.open(await start(Closing))
    await client.send("a", "b")
    assert await client.messages(1) == ["last words"]
    assert await client.frame() == b'c[3000,"Go away!"]'
    await client.leave()
    await asyncio.sleep(0.02)
    assert Closing.seen == ["open", "close", "behind close()"]


async def test_session_close_with_another_code(start: Start) -> None:
    class Closing(Old):
        def on_message(self, message: str) -> None:
            self.session.close(3456, "Enough")
            self.seen.append(self.session.get_close_reason())

    client = await clients.XhrStreaming.open(await start(Closing))
    await client.send("a")
    assert await client.frame() == b'c[3456,"Enough"]'
    assert Closing.seen == ["open", "close", (3456, "Enough")]
    await client.leave()


@every
@pytest.mark.logs("on_message failed")
async def test_session_that_is_closed_with_a_wrong_type_fails_as_by_any_other_mistake(
    start: Start, kind: Kind
) -> None:
    class Closing(Old):
        def on_message(self, message: str) -> None:
            self.session.close(3456, None)  # type: ignore[arg-type]

    served = await start(Closing)
    client = await kind.open(served)
    await client.send("a")
    assert await client.frame() == b'c[1011,"Internal error"]'
    await Closing.until("close")
    assert served.tornado.stats.sess_active == 0
    await client.leave()


@pytest.mark.parametrize("failure", [ZeroDivisionError, asyncio.CancelledError])
@pytest.mark.logs("on_close failed")
async def test_exception_in_on_close_is_logged_and_swallowed(
    start: Start, caplog: pytest.LogCaptureFixture, failure: type[BaseException]
) -> None:
    class Failing(Old):
        def on_close(self) -> None:
            super().on_close()
            raise failure("mistake")

    served = await start(Failing, SHORT)
    for kind in clients.ALL:
        (await kind.open(served)).abort()
    await Failing.until("close", len(clients.ALL))
    await asyncio.sleep(0.05)
    assert caplog.text.count(f"{failure.__name__}: mistake") == len(clients.ALL)
    assert served.tornado.stats.sess_active == 0


async def test_applications_use_names_of_their_own(start: Start) -> None:
    class Own(Old):
        def __init__(self, session: Any) -> None:  # does not call the base class
            self._session = self._machine = self.state = self.id = "mine"
            self.target = self.info = self.hooks = "mine"
            self.on_message = self.rebound  # type: ignore[method-assign]

        def rebound(self, message: str) -> None:
            self.send(message + self._session)

        def send(self, message: Any, binary: bool = False) -> None:  # type: ignore[override]
            super().send(f"[{message}]")

    client = await clients.Xhr.open(await start(Own))
    await client.send("a ")
    assert await client.messages(1) == ["[a mine]"]
    await client.leave()


async def test_partials_and_class_level_state(start: Start) -> None:
    class Chat(Old):
        participants: ClassVar[set[Any]] = set()

        def __init__(self, session: Any, greeting: str = "") -> None:
            super().__init__(session)
            self.greeting = greeting

        def on_open(self, info: Any) -> None:
            self.broadcast(self.participants, self.greeting)
            self.participants.add(self)

        def on_message(self, message: str) -> None:
            self.broadcast(self.participants, message)

        def on_close(self) -> None:
            self.participants.remove(self)
            self.broadcast(self.participants, "Someone left.")

    served = await start(functools.partial(Chat, greeting="Someone joined."), SHORT)
    first = await clients.WebSocket.open(served)
    second = await clients.Xhr.open(served)
    assert await first.messages(1) == ["Someone joined."]
    await second.send("hello")
    assert await first.messages(1) == await second.messages(1) == ["hello"]
    second.abort()
    assert await first.messages(1) == ["Someone left."]
    await first.leave()


async def test_weak_sets_lose_what_has_gone(start: Start) -> None:
    known: weakref.WeakSet[Any] = weakref.WeakSet()

    class Noted(Old):
        def on_open(self, info: Any) -> None:
            known.add(self)
            self.seen.append("open")

    served = await start(Noted, SHORT)
    members = [await kind.open(served) for kind in clients.ALL]
    await Noted.until("open", len(members))
    assert len(known) == len(members)
    for member in members:
        member.abort()
    await Noted.until("close", len(members))
    await asyncio.sleep(0.1)
    gc.disable()
    try:
        # the last request's objects stay with their connection until aiohttp lets go of it
        assert len(known) <= 1
    finally:
        gc.enable()
    gc.collect()
    assert len(known) == 0


# ConnectionInfo and session.


async def test_session_as_seen_by_a_connection(start: Start) -> None:
    class Noted(Old):
        pass

    served = await start(Noted)
    client = await clients.Xhr.open(served)
    await Noted.until("open")
    (connection,) = Noted.all
    seen = connection.session
    assert seen.session_id == client.path.split("/")[2]
    assert seen.state == session.OPEN and not seen.is_closed
    assert seen.conn is connection and seen.server is served.tornado
    assert seen.stats is served.tornado.stats
    assert seen.conn_info.path.endswith("/xhr") and seen.transport_name == "xhr"
    assert seen.send_expects_json
    assert served.tornado.get_session(seen.session_id) is seen
    seen.send_message("a", stats=False)
    seen.send_jsonified('{"k":1}')
    seen.broadcast([connection], "b")
    assert await client.messages(3) == ["a", {"k": 1}, "b"]
    seen.delayed_close()
    assert seen.state == session.CLOSING and seen.is_closed and Noted.seen == ["open"]
    assert await client.frame() == b'c[3000,"Go away!"]'
    assert seen.state == session.CLOSED and Noted.seen == ["open", "close"]
    await client.leave()


async def test_sessions_of_multiplexing_code(start: Start) -> None:
    """A channel as sockjs-tornado's multiplex example makes it, deriving from BaseSession."""

    class ChannelSession(session.BaseSession):
        def __init__(self, conn: Any, server: Any, carrier: Any, name: str) -> None:
            super().__init__(conn, server)
            self.carrier = carrier
            self.name = name

        def send_message(self, msg: Any, stats: bool = True, binary: bool = False) -> None:
            self.carrier.send(f"msg,{self.name},{msg}")

    class DummyHandler(base.BaseTransportMixin):
        name = "multiplex"

        def __init__(self, conn_info: Any) -> None:
            self.conn_info = conn_info

        def get_conn_info(self) -> Any:
            return self.conn_info

    class Channel(Old):
        def on_open(self, info: Any) -> None:
            super().on_open(info)
            self.send("welcome")

    class Carrier(Old):
        def on_open(self, info: Any) -> None:
            self.channel = ChannelSession(Channel, self.session.server, self, "ann")
            self.channel.set_handler(DummyHandler(self.session.conn_info))
            self.channel.verify_state()
            self.broadcast([self.channel.conn], "all")

        def on_close(self) -> None:
            self.channel.close()

    served = await start(Carrier, SHORT)
    client = await clients.WebSocket.open(served)
    assert await client.messages(2) == ["msg,ann,welcome", "msg,ann,all"]
    assert served.tornado.stats.dump()["transp_multiplex"] == 1
    await client.leave()
    await Channel.until("close")
    assert Channel.seen == ["open", "close"]
    assert served.tornado.stats.dump()["sessions_active"] == 0


# Stats.


async def test_stats(start: Start) -> None:
    class Echo(Old):
        def on_message(self, message: str) -> None:
            self.send(message)

    served = await start(Echo, SHORT)
    counts = served.tornado.stats
    assert counts.dump() == {
        "sessions_active": 0,
        "connections_active": 0,
        "connections_ps": 0,
        "packets_sent_ps": 0,
        "packets_recv_ps": 0,
    }
    socket = await clients.WebSocket.open(served)
    poll = await clients.Xhr.open(served)
    await socket.send(*"abcde")
    await socket.messages(5)
    assert (counts.pack_recv_ps.accumulator, counts.pack_sent_ps.accumulator) == (5, 5)
    counts._tell_second()
    dump = counts.dump()
    assert dump["sessions_active"] == dump["connections_active"] == 2
    assert dump["transp_websocket"] == dump["transp_xhr"] == 1
    assert dump["packets_recv_ps"] == dump["packets_sent_ps"] == 5
    assert dump["connections_ps"] >= 2
    await socket.leave()
    await poll.leave()
    await Echo.until("close", 2)
    await asyncio.sleep(0.02)
    assert counts.dump()["sessions_active"] == counts.dump()["connections_active"] == 0
    assert counts.dump()["transp_websocket"] == counts.dump()["transp_xhr"] == 0


async def test_every_request_is_counted_without_the_direct_lane(start: Start) -> None:
    """The lane only answers if `jsessionid` and `verify_ip` are off."""

    class Echo(Old):
        def on_message(self, message: str) -> None:
            self.send(message)

    others = {"jsessionid": False, "verify_ip": False}
    served = await start(Echo, {**others, "direct_requests": False})
    counts = served.tornado.stats
    wire = await served.wire()

    async def ask(transport: str, body: bytes) -> tuple[int, bytes]:
        wire.send("POST", f"{served.prefix}/0/counted/{transport}", body)
        reply = await wire.reply()
        return reply.status, reply.body

    assert await ask("xhr", b"") == (200, b"o\n")
    for _ in range(3):
        assert await ask("xhr_send", b'["x"]') == (204, b"")
        assert await ask("xhr", b"") == (200, b'a["x"]\n')
    sockets = [await clients.WebSocket.open(served) for _ in range(3)]
    wire.send("POST", f"{served.prefix}/0/counted/xhr", b"")
    async with async_timeout.timeout(PATIENCE):
        while counts.dump()["connections_active"] != 4:
            await asyncio.sleep(0.01)
    counts._tell_second()
    assert counts.conn_ps.sum == 1 + 6 + 3 + 1
    for socket in sockets:
        await socket.leave()
    wire.close()
    await Echo.until("close", 3)
    async with async_timeout.timeout(PATIENCE):
        while counts.dump()["connections_active"]:
            await asyncio.sleep(0.01)


def test_moving_average_is_over_ten_seconds() -> None:
    average = stats.MovingAverage()
    for count in range(1, 21):
        average.add(count)
        average.flush()
    assert average.last_average == sum(range(11, 21)) / 10
    for _ in range(10):
        average.flush()
    assert average.last_average == 0


async def test_timer_of_the_stats_ends_with_the_last_figure(start: Start) -> None:
    class Noted(Old):
        pass

    served = await start(Noted, SHORT)
    counts = served.tornado.stats
    assert counts._timer is None
    await served.request("GET", "/info")
    assert counts._timer is not None
    for _ in range(11):
        counts._timer.cancel()
        counts._tell_second()
        if counts._timer is None:
            break
    assert counts._timer is None


async def test_session_ends_at_its_age(start: Start) -> None:
    class Aging(Old):
        pass

    client = await clients.Xhr.open(await start(Aging, settings={"max_session_age": 0.1}))
    assert await client.frame() == b'c[1012,"Session too old"]'
    await Aging.until("close")
    assert Aging.seen == ["open", "close"]


async def test_attach_ends_sessions_at_shutdown(start: Start) -> None:
    class Noted(Old):
        pass

    served = await start(Noted)
    client = await clients.WebSocket.open(served)
    await Noted.until("open")
    await served.runner.cleanup()
    assert await client.frame() == b'c[1012,"Service restart"]'
    assert Noted.seen == ["open", "close"]
    await client.leave()


def test_json_of_a_disconnect_is_json() -> None:
    assert json.loads(proto.disconnect(3000, "x\u2028")[1:]) == [3000, "x\u2028"]
