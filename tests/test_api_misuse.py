"""An application that uses the interface wrongly is told what to do instead."""

import asyncio
import functools
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import (
    ConnectionInfo,
    Observer,
    SettingsError,
    SockJSConnection,
    SockJSRouter,
    broadcast,
    run_app,
)
from sockjs_aio.multiplex import MultiplexConnection
from sockjs_aio.testing.brokers import linked_brokers
from tests import clients
from tests.brokers.test_gaps import interrupt
from tests.conftest import SHORT, Echo, Recorder, Serve


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((Echo(None), "/x"), TypeError, "not an instance"),  # type: ignore[arg-type]
        ((int, "/x"), TypeError, "must be a subclass of SockJSConnection"),
        ((5, "/x"), TypeError, "must be a subclass of SockJSConnection"),
        (("/x", Echo), TypeError, "must be a subclass of SockJSConnection"),
        ((Echo, None), TypeError, "prefix must be a str such as '/chat', not None"),
        ((Echo, "/x", 5), SettingsError, "a Settings or a mapping"),
    ],
)
def test_wrong_arguments(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        SockJSRouter(*arguments)


def test_authorize_that_cannot_be_called() -> None:
    with pytest.raises(TypeError, match="authorize must be a coroutine function"):
        SockJSRouter(Echo, "/x", authorize="x")  # type: ignore[arg-type]


def test_attaching_twice() -> None:
    app = web.Application()
    router = SockJSRouter(Echo, "/x")
    router.attach(app)
    with pytest.raises(RuntimeError, match="already attached"):
        router.attach(web.Application())
    with pytest.raises(RuntimeError, match="another SockJSRouter serves the prefix '/x'"):
        SockJSRouter(Echo, "/x/").attach(app)


def test_what_is_no_application_is_refused() -> None:
    router = SockJSRouter(Echo)
    app: Any = web.Application().router
    with pytest.raises(
        TypeError, match=r"attach\(app\) needs the web.Application, not <aiohttp.web"
    ):
        router.attach(app)
    wrong: Any = router
    with pytest.raises(TypeError, match=r"run_app\(app\) needs a web.Application, not "):
        run_app(wrong)


def test_single_observer_is_refused() -> None:
    single: Any = Observer()
    with pytest.raises(TypeError, match="observers must be a list of observers"):
        SockJSRouter(Echo, observers=single)


async def test_attaching_too_late(serve: Serve) -> None:
    served = await serve()
    with pytest.raises(RuntimeError, match="before the application starts"):
        SockJSRouter(Echo, "/x").attach(served.app)


@pytest.mark.logs("write async def on_message")
async def test_hook_that_is_no_coroutine(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    class Sync(Recorder):
        def on_message(self, message: str | bytes) -> None:  # type: ignore[override]
            pass

    for kind in clients.ALL:
        client = await kind.open(await serve(Sync))
        await client.send("a")
        assert await client.frame() == b'c[1011,"Internal error"]'
        await client.leave()
    assert "Sync.on_message failed" in caplog.text
    assert "write async def on_message" in caplog.text


@pytest.mark.logs("StopIteration")
async def test_plain_hook_that_ends_an_iterator(serve: Serve) -> None:
    class Empty(Recorder):
        def on_message(self, message: str | bytes) -> Any:
            return next(iter(()))

    for kind in clients.ALL:
        client = await kind.open(await serve(Empty))
        await client.send("a")
        assert await client.frame() == b'c[1011,"Internal error"]'
        await client.leave()


@pytest.mark.parametrize("of", ["instance", "class"])
@pytest.mark.parametrize("how", ["ends an iterator", "is a property that fails"])
@pytest.mark.logs("StopIteration|no hook")
async def test_on_message_that_is_replaced_while_a_session_is_open(
    serve: Serve, of: str, how: str
) -> None:
    class Replaced(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            def end_iterator(*_: Any) -> Any:
                return next(iter(()))

            def fail(_self: Any) -> Any:
                raise LookupError("no hook")

            if how == "is a property that fails":
                type(self).on_message = property(fail)  # type: ignore[assignment,method-assign]
            else:
                owner: Any = self if of == "instance" else type(self)
                owner.on_message = end_iterator
            self.send("replaced")

    first = Replaced.on_message
    for kind in clients.ALL:
        Replaced.on_message = first  # type: ignore[method-assign]
        client = await kind.open(await serve(Replaced))
        await client.send("a")
        assert await client.messages(1) == ["replaced"]
        await client.send("b")
        assert await client.frame() == b'c[1011,"Internal error"]'
        await client.leave()


def failing(_self: object) -> Any:
    raise LookupError("no hook")


@pytest.mark.parametrize("hook", ["on_open", "on_close"])
@pytest.mark.parametrize("is_channel", [False, True], ids=["session", "channel"])
@pytest.mark.logs("no hook")
async def test_hook_that_is_a_property_that_fails(
    serve: Serve, hook: str, is_channel: bool, caplog: pytest.LogCaptureFixture
) -> None:
    Failing = type("Failing", (Recorder,), {hook: property(failing)})
    for kind in clients.ALL:
        caplog.clear()
        served = await serve(MultiplexConnection.get(ann=Failing) if is_channel else Failing)
        client = await kind.open(served)
        if is_channel:
            await client.send("sub,ann", "uns,ann", "sub,nothing")
        if is_channel and hook == "on_open":
            assert await client.messages(1) == ["uns,ann"]
        elif hook == "on_open":
            assert await client.frame() == b'c[1011,"Internal error"]'
        elif not is_channel:
            for session in served.router._registry._sessions:
                session.close(4000, "over")
            assert await client.frame() == b'c[4000,"over"]'
        await client.leave()
        await served.router.shutdown()
        assert served.router.session_count == 0
        assert f"Failing.{hook} failed" in caplog.text


@pytest.mark.logs("no hook")
async def test_on_gap_that_is_a_property_that_fails_ends_only_its_session(serve: Serve) -> None:
    class Subscribed(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await self.subscribe("news")
            await super().on_open(info)

        async def on_gap(self, channel: str) -> None:
            self.send("told")

    class Failing(Subscribed):
        on_gap = property(failing)

    (broker,) = linked_brokers(1)
    kinds = iter([Failing, Subscribed])
    served = await serve(lambda session: next(kinds)(session), broker=broker)
    first, second = [await clients.WebSocket.open(served) for _ in range(2)]
    await Failing.until("open")
    await Subscribed.until("open")
    interrupt(broker)
    assert await first.frame() == b'c[1011,"Internal error"]'
    assert await second.messages(1) == ["told"]
    await first.leave()
    await second.leave()


@pytest.mark.parametrize("base", ["forgotten", "none"])
@pytest.mark.logs("TypeError: (Forgetful|None)")
async def test_constructor_that_forgets_its_base(
    serve: Serve, caplog: pytest.LogCaptureFixture, base: str
) -> None:
    class Forgetful(SockJSConnection):
        def __init__(self, session: Any) -> None:
            pass

    served = await serve(Forgetful if base == "forgotten" else lambda session: None)
    assert (await served.request("POST", "/0/1/xhr", b"")).status == 500
    expected = "call super().__init__(session)" if base == "forgotten" else "None is not a SockJSC"
    assert expected in caplog.text
    assert served.router.session_count == 0


async def test_sending_in_the_constructor(serve: Serve) -> None:
    class Eager(Recorder):
        def __init__(self, session: Any) -> None:
            super().__init__(session)
            self.send("hello")

    served = await serve(Eager)
    for kind in clients.ALL:
        client = await kind.open(served)
        assert await client.messages(1) == ["hello"]
        await client.leave()


async def test_authorize_that_returns_false(serve: Serve) -> None:
    async def authorize(request: web.Request) -> bool:
        return False

    served = await serve(authorize=authorize)
    assert (await served.request("POST", "/0/1/xhr", b"")).status == 403
    assert served.router.session_count == 0


async def test_wrong_close_and_broadcast(serve: Serve) -> None:
    class Wrong(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            with pytest.raises(TypeError, match=r"close\(code: int, reason: str\)"):
                self.close("bye")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match=r"broadcast\(clients, message\)"):
                self.broadcast("x", [self])  # type: ignore[arg-type]
            self.send("fine")

    client = await clients.WebSocket.open(await serve(Wrong))
    await client.send("a")
    assert await client.messages(1) == ["fine"]
    await client.leave()
    with pytest.raises(TypeError, match="encode it first"):
        broadcast([], {"a": 1})  # type: ignore[arg-type]


@pytest.mark.logs("TypeError: on_open must be a coroutine function: write async def on_open")
async def test_hook_that_is_no_coroutine_and_returns_something(serve: Serve) -> None:
    class Sync(Recorder):
        def on_open(self, info: object) -> bool:  # type: ignore[override]
            return True

    served = await serve(Sync)
    assert await served.poll("/0/1") == b"o"
    assert await served.poll("/0/1") == b'c[1011,"Internal error"]'


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("on_messsage", "on_message"),
        ("on_mesage", "on_message"),
        ("onmessage", "on_message"),
        ("onOpen", "on_open"),
        ("on_opened", "on_open"),
        ("on_connect", "on_open"),
        ("on_clsoe", "on_close"),
        ("on_disconnect", "on_close"),
    ],
)
def test_name_that_is_nearly_a_hooks(
    name: str, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def method(self: SockJSConnection) -> None:
        pass

    type("Chat", (SockJSConnection,), {name: method})
    assert f"Chat.{name} is not a hook: did you mean {hook}?" in caplog.text
    caplog.clear()
    type("Chat", (SockJSConnection,), {name: method, hook: method})  # it knows what it does
    assert not caplog.records


@pytest.mark.parametrize(
    "name",
    ["on_open_door", "on_message_sent", "on_error", "on_user_message", "once_closed", "online"],
)
def test_names_of_ones_own(name: str, caplog: pytest.LogCaptureFixture) -> None:
    async def method(self: SockJSConnection) -> None:
        pass

    type("Chat", (SockJSConnection,), {name: method, "on_closed": False})
    assert not caplog.records


async def test_bytes_reach_raw_websockets_up_to_the_first_client_of_sockjs(serve: Serve) -> None:
    class Mixed(Recorder):
        pass

    served = await serve(Mixed)
    first = await clients.RawWebSocket.open(served)
    polling = await clients.Xhr.open(served)
    last = await clients.RawWebSocket.open(served)
    await Mixed.until("open", 3)
    with pytest.raises(TypeError, match="only raw WebSockets carry bytes"):
        broadcast(Mixed.connections, b"\x00")
    raw = [each for each in Mixed.connections if each.info.transport == "rawwebsocket"]
    broadcast(raw, b"\x01")
    broadcast(Mixed.connections, "text")
    assert await polling.messages(1) == ["text"]
    for client, expected in ((first, [b"\x00", b"\x01", "text"]), (last, [b"\x01", "text"])):
        assert [(await client.socket.receive(5)).data for _ in expected] == expected
    for client in (first, polling, last):
        await client.leave()


@pytest.mark.parametrize("way", ["class", "partial", "channel"])
def test_plain_hooks_are_told_when_the_router_is_made(
    caplog: pytest.LogCaptureFixture, way: str
) -> None:
    class Sync(SockJSConnection):
        def on_open(self, info: object) -> bool:  # type: ignore[override]
            return True

        async def on_message(self, message: str) -> None:
            pass

        async def on_close(self) -> Any:
            yield  # no coroutine either

    if way == "channel":
        MultiplexConnection.get(sync=Sync)
    else:
        SockJSRouter(Sync if way == "class" else functools.partial(Sync), "/x")
    name = Sync.__qualname__
    assert caplog.messages == [
        f"{name}.on_open is a plain function: write async def on_open "
        "(unless it returns an awaitable)",
        f"{name}.on_close is a generator: write async def on_close without yield",
    ]


def test_hooks_with_other_parameters_are_told_when_the_router_is_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Wrong(SockJSConnection):
        async def on_open(self) -> None:  # type: ignore[override]
            pass

        async def on_message(self, message: str, sender: str) -> None:  # type: ignore[override]
            pass

        async def on_close(self, code: int) -> None:  # type: ignore[override]
            pass

    class Right(SockJSConnection):
        async def on_open(self, *_: object) -> None:
            pass

        async def on_message(self, text: str, sender: str = "") -> None:
            pass

        async def on_close(self, **_: object) -> None:
            pass

    SockJSRouter(Right, "/right")
    assert not caplog.messages
    SockJSRouter(Wrong, "/wrong")
    name = Wrong.__qualname__
    assert caplog.messages == [
        f"{name}.on_open takes other arguments than it gets: write async def on_open(self, info)",
        f"{name}.on_message takes other arguments than it gets: "
        "write async def on_message(self, message)",
        f"{name}.on_close takes other arguments than it gets: write async def on_close(self)",
    ]


def test_decorated_and_inherited_hooks_are_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    def traced(hook: Any) -> Any:
        @functools.wraps(hook)
        def call(*arguments: Any) -> Any:
            return hook(*arguments)

        return call

    class Base(SockJSConnection):
        async def on_open(self, info: object) -> None:
            pass

    class Traced(Base):
        @traced
        async def on_message(self, message: str) -> None:
            pass

    SockJSRouter(Traced, "/x")
    SockJSRouter(lambda session: Traced(session), "/y")
    assert caplog.messages == []


@pytest.mark.parametrize("what", ["send", "broadcast", "close", "unsubscribe", "extend"])
@pytest.mark.parametrize("hook", ["on_open", "on_message", "on_close"])
@pytest.mark.logs("TypeError: .*NoneType.*await")
async def test_awaiting_what_is_a_plain_function_is_explained(
    serve: Serve, caplog: pytest.LogCaptureFixture, what: str, hook: str
) -> None:
    class Awaiting(Recorder):
        async def on_open(self, info: object) -> None:
            await self.fail_in("on_open")

        async def on_message(self, message: str | bytes) -> None:
            await self.fail_in("on_message")

        async def on_close(self) -> None:
            self.seen.append("close")
            await self.fail_in("on_close")

        async def fail_in(self, name: str) -> None:
            if name == hook:
                arguments: dict[str, list[Any]]
                arguments = {"send": ["x"], "broadcast": [[self], "x"], "unsubscribe": ["x"]}
                arguments |= {"extend": [None], "close": []}
                await getattr(self, what)(*arguments[what])

    served = await serve(Awaiting, settings=SHORT)
    for kind in (clients.WebSocket, clients.Xhr):
        client = await kind.open(served)
        if hook != "on_open":
            await client.send("a")
        await client.leave()
    await Awaiting.until("close", 2)
    await served.until_empty()
    hints = [x for x in caplog.messages if "plain functions, do not await them" in x]
    assert len(hints) == 2
    assert all(f"Awaiting.{hook} failed: send, broadcast, close, " in x for x in hints)


@pytest.mark.logs("TypeError: a coroutine was expected")
async def test_task_of_what_is_a_plain_function_is_explained(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Recorder):
        async def on_message(self, message: Any) -> None:
            await asyncio.create_task(self.send("x"))  # type: ignore[func-returns-value, arg-type]

    client = await clients.WebSocket.open(await serve(Failing))
    await client.send("a")
    await Failing.until("close")
    assert "send, broadcast, close, unsubscribe and extend are plain functions" in caplog.text


@pytest.mark.logs("TypeError: 'int' object", "KeyError: ")
async def test_other_mistakes_get_no_hint(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Recorder):
        async def on_message(self, message: Any) -> None:
            if message == "a":
                message = 1 + 1
                message()
            raise KeyError("NoneType await")

    served = await serve(Failing)
    for text in ("a", "b"):
        client = await clients.WebSocket.open(served)
        await client.send(text)
        await client.leave()
    await Failing.until("close", 2)
    assert "do not await" not in caplog.text
