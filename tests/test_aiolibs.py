"""Handlers written for aio-libs' sockjs 0.13, on sockets: only their import has changed."""

import asyncio
import functools
import gc
import json
import re
import time
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import Grant, Observer, SettingsError, SockJSError, aiolibs
from sockjs_aio.aiolibs import (
    MsgType,
    Session,
    SessionIsAcquired,
    SessionIsClosed,
    SessionManager,
    SessionState,
    SockjsMessage,
    add_endpoint,
    get_manager,
)
from tests import clients
from tests.axes import Axes
from tests.target import Target

KINDS = [clients.WebSocket, clients.Xhr, clients.XhrStreaming]
every = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
Kind = type[clients.Client]


@dataclass
class Running(Target):
    """An application that is served."""

    runner: web.AppRunner


Run = Callable[..., Any]


@pytest.fixture
async def run(axes: Axes) -> AsyncIterator[Run]:
    """Serve an application whose endpoints were added: ``await run(app, "/sockjs")``."""
    servers: list[Running] = []

    async def start(app: web.Application, prefix: str = "/sockjs") -> Running:
        axes.add_middlewares(app)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=axes.server_tls).start()
        servers.append(Running(runner.addresses[0][1], prefix, runner, tls=axes.client_tls))
        return servers[-1]

    yield start
    for served in servers:
        await served.hang_up()
        await served.runner.cleanup()


class Seen(list[Any]):
    """What a handler was told."""

    async def until(self, what: Any, count: int = 1) -> None:
        async with async_timeout.timeout(5):
            while self.count(what) < count:
                await asyncio.sleep(0.001)


async def until(condition: Callable[[], object]) -> None:
    async with async_timeout.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def echo(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
    if msg.type == MsgType.MESSAGE:
        session.send(msg.data or "")


async def chat(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
    if msg.type == MsgType.OPEN:
        manager.broadcast("Someone has come.")
    elif msg.type == MsgType.MESSAGE:
        manager.broadcast(msg.data)
    elif msg.type == MsgType.CLOSED:
        manager.broadcast("Someone has gone.")


@every
async def test_echo(run: Run, kind: Kind) -> None:
    app = web.Application()
    routes = add_endpoint(app, prefix="/sockjs", handler=echo)
    assert routes and all(isinstance(route, web.AbstractRoute) for route in routes)
    assert routes == list(app.router.routes())
    client = await kind.open(await run(app))
    await client.send("a", "ä€𝄞")
    assert await client.messages(2) == ["a", "ä€𝄞"]
    await client.leave()


@every
async def test_chat(run: Run, kind: Kind) -> None:
    app = web.Application()
    add_endpoint(app, chat, name="chat", prefix="/sockjs/", disconnect_delay=0.1)
    served = await run(app)
    first = await kind.open(served)
    assert await first.messages(1) == ["Someone has come."]
    second = await kind.open(served)
    assert await first.messages(1) == await second.messages(1) == ["Someone has come."]
    await second.send("hello")
    assert await first.messages(1) == await second.messages(1) == ["hello"]
    await second.leave()
    assert await first.messages(1) == ["Someone has gone."]
    await first.leave()


@every
async def test_message_replaces_the_queued_one_of_its_key(run: Run, kind: Kind) -> None:
    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        if msg.type == MsgType.MESSAGE:
            for price in range(100):
                assert session.send(f"AAPL {price}", key="AAPL")
                manager.broadcast({"MSFT": price}, key="MSFT")
            session.send("last")

    app = web.Application()
    add_endpoint(app, handler, prefix="/sockjs")
    client = await kind.open(await run(app))
    await client.send("go")
    assert await client.messages(3) == ["AAPL 99", {"MSFT": 99}, "last"]
    await client.leave()


@every
async def test_session_ends_with_its_grant_and_handlers_move_that(run: Run, kind: Kind) -> None:
    async def authorize(request: web.Request) -> Grant:
        return Grant("ann", until=time.time() + 3600)

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        seen.append(msg.type)
        if msg.type == MsgType.MESSAGE:
            session.send("last")
            session.extend(time.time() - 1)

    app, seen = web.Application(), Seen()
    settings = {"session_check_interval": 0.02}
    add_endpoint(app, handler, prefix="/sockjs", authorize=authorize, settings=settings)
    client = await kind.open(await run(app))
    await client.send("go")
    assert await client.messages(1) == ["last"]
    assert await client.frame() == b'c[4401,"Authorization expired"]'
    await seen.until(MsgType.CLOSED)


@every
async def test_order_of_what_a_handler_is_told(run: Run, kind: Kind) -> None:
    seen, running = Seen(), 0

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.02)
        assert msg.tp is msg.type
        seen.append((msg.type.name, msg.data, session.state.name, session.expired))
        assert manager.get(session.id) is session
        running -= 1

    app = web.Application()
    add_endpoint(app, handler, name="n", disconnect_delay=0.1)
    client = await kind.open(await run(app))
    await client.send("1", "2")
    await client.send("3")
    await seen.until(("MESSAGE", "3", "OPEN", False))
    await client.leave()
    await seen.until(("CLOSED", None, "CLOSED", True))
    await until(lambda: not get_manager("n", app).sessions)
    assert seen == [
        ("OPEN", None, "OPEN", False),
        *[("MESSAGE", text, "OPEN", False) for text in "123"],
        ("CLOSE", None, "CLOSING", True),
        ("CLOSED", None, "CLOSED", True),
    ]


@every
async def test_close_says_closed_and_no_close(run: Run, kind: Kind) -> None:
    seen, sessions = Seen(), []

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        seen.append(msg.type)
        if msg.type == MsgType.OPEN:
            sessions.append(session)
        elif msg.type == MsgType.MESSAGE:
            assert session.send("last words") is True
            session.close(3001, "enough")
            session.close()
            assert session.state is SessionState.CLOSING
            assert session.send("too late") is False

    app = web.Application()
    add_endpoint(app, handler, name="n")
    client = await kind.open(await run(app))
    await client.send("a", "b")
    assert await client.messages(1) == ["last words"]
    assert await client.frame() == b'c[3001,"enough"]'
    await seen.until(MsgType.CLOSED)
    await until(lambda: not get_manager("n", app).sessions)
    assert seen == [MsgType.OPEN, MsgType.MESSAGE, MsgType.CLOSED]
    (session,) = sessions
    assert session.send("x") is False and session.state is SessionState.CLOSED
    session.close()
    assert session.request is None
    await client.leave()


async def test_close_has_the_defaults_of_sockjs(run: Run) -> None:
    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        if msg.type == MsgType.OPEN:
            session.close()

    app = web.Application()
    add_endpoint(app, handler)
    client = await clients.WebSocket.open(await run(app))
    assert await client.frame() == b'c[3000,"Go away!"]'
    await client.leave()


@every
async def test_broadcast_with_exclude(run: Run, kind: Kind) -> None:
    seen = Seen()

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        seen.append(msg.type)
        if msg.type == MsgType.MESSAGE:
            manager.broadcast("by id", exclude_session_ids={session.id})
            manager.broadcast("by position", {session.id})
            manager.broadcast("by session", exclude=[session])
            manager.broadcast("by ids", exclude=[session.id])
            session.send("only you")

    app = web.Application()
    add_endpoint(app, handler)
    served = await run(app)
    members = [await kind.open(served) for _ in range(3)]
    await seen.until(MsgType.OPEN, 3)
    await members[0].send("x")
    assert await members[0].messages(1) == ["only you"]
    for client in members[1:]:
        assert await client.messages(4) == ["by id", "by position", "by session", "by ids"]
    for client in members:
        await client.leave()


@every
async def test_broadcast_of_what_is_no_text(run: Run, kind: Kind) -> None:
    seen = Seen()

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        seen.append(msg.type)

    app = web.Application()
    add_endpoint(app, handler, name="n")
    client = await kind.open(await run(app))
    await seen.until(MsgType.OPEN)
    manager = get_manager("n", app)
    manager.broadcast({"set point": 1.5, "ä": [None, True]})
    manager.broadcast([1, 2])
    assert await client.messages(2) == [{"set point": 1.5, "ä": [None, True]}, [1, 2]]
    with pytest.raises(TypeError):
        manager.broadcast(b"bytes")
    with pytest.raises(ValueError):
        manager.broadcast({"x": float("nan")})
    await client.leave()


async def test_raw_websocket(run: Run) -> None:
    """Text is broadcast as it is, not in quotes; binary messages do not reach handlers."""
    seen = Seen()

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        seen.append((msg.type, msg.data))

    app = web.Application()
    add_endpoint(app, handler, name="n")
    served = await run(app)
    async with served.websocket("/websocket") as one, served.websocket("/websocket") as two:
        await seen.until((MsgType.OPEN, None), 2)
        assert len(get_manager("n", app).sessions) == 2
        get_manager("n", app).broadcast("text")
        assert await one.receive_str() == await two.receive_str() == "text"
        await one.send_bytes(b"binary")
        await one.send_str("hello")
        await seen.until((MsgType.MESSAGE, "hello"))
    assert not any(isinstance(data, bytes) for _, data in seen)


async def test_get_manager_and_several_endpoints(run: Run) -> None:
    app = web.Application()
    add_endpoint(app, echo, name="echo", prefix="/echo")
    add_endpoint(app, chat, name="chat", prefix="/chat")
    add_endpoint(app, chat, prefix="/unnamed")
    add_endpoint(app, chat, prefix="/unnamed_too")
    manager = get_manager("chat", app)
    assert (manager.name, manager.app, manager.handler) == ("chat", app, chat)
    assert get_manager("echo", app) is not manager
    with pytest.raises(KeyError):
        get_manager("other", app)
    with pytest.raises(KeyError):
        get_manager("echo", web.Application())

    client = await clients.WebSocket.open(await run(app, "/chat"))
    assert await client.messages(1) == ["Someone has come."]
    assert list(manager.sessions) == [client.path.rpartition("/")[2]]
    assert get_manager("echo", app).sessions == {}
    (session,) = manager.active_sessions()
    assert manager.get(session.id) is session and manager.is_acquired(session)
    assert manager.get("other", default=None) is None
    assert manager.get("other", False, 5) == 5  # type: ignore[call-overload]
    with pytest.raises(KeyError):
        manager.get("other")
    with pytest.raises(TypeError, match="clients' requests"):
        manager.get("other", create=True)
    assert repr(session) == "<Session sess… OPEN>"
    await client.leave()


async def test_websockets_that_share_an_id_are_told_apart(run: Run) -> None:
    app = web.Application()
    add_endpoint(app, echo, name="n")
    served, manager = await run(app), get_manager("n", app)
    async with served.websocket() as one, served.websocket() as two:
        for socket in (one, two):
            assert await socket.receive_str() == "o"
        await until(lambda: len(manager.sessions) == 2)
        first, second = manager.sessions
        assert first == "x" and second.startswith("x-")
        manager.sessions[second].send("to the second")
        assert await two.receive_str() == 'a["to the second"]'


async def test_session_tells_about_its_request(run: Run) -> None:
    seen = Seen()

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        if msg.type == MsgType.OPEN and session.request is not None:
            request = session.request
            seen.append((request.headers["X-Who"], request.query["a"], request.app is app))

    app = web.Application()
    add_endpoint(app, handler)
    served = await run(app)
    async with served.websocket("/0/x/websocket?a=b", headers={"X-Who": "me"}):
        await seen.until(("me", "b", True))


@every
@pytest.mark.parametrize("when", [MsgType.OPEN, MsgType.MESSAGE])
@pytest.mark.logs(r"handler test_handler_that_raises\S+ \((OPEN|MESSAGE|CLOSED)\) failed")
async def test_handler_that_raises(
    run: Run, kind: Kind, when: MsgType, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        seen.append(msg.type)
        if msg.type == when:
            raise ZeroDivisionError("mistake")
        if msg.type == MsgType.CLOSED:
            assert session.interrupted and isinstance(session.exception, ZeroDivisionError)

    app = web.Application()
    add_endpoint(app, handler)
    client = await kind.open(await run(app))
    if when == MsgType.MESSAGE:
        await client.send("a", "b")
    assert await client.frame() == b'c[1011,"Internal error"]'
    await seen.until(MsgType.CLOSED)
    expected = [MsgType.OPEN, MsgType.MESSAGE, MsgType.CLOSED]
    assert seen == (expected if when == MsgType.MESSAGE else [MsgType.OPEN, MsgType.CLOSED])
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1 and errors[0].exc_info
    await client.leave()


@pytest.mark.logs("TypeError: ")
@pytest.mark.parametrize("how", ["send", "close", "broadcast", "task"])
async def test_handler_that_awaits_a_plain_function_is_told(
    run: Run, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(manager: SessionManager, session: Any, msg: SockjsMessage) -> None:
        if msg.type == MsgType.MESSAGE:
            if how == "close":
                await session.close()
            elif how == "broadcast":
                await manager.broadcast("x")  # type: ignore[func-returns-value, misc]
            elif how == "task":
                await asyncio.create_task(session.send("x"))
            else:
                await session.send("x")

    app = web.Application()
    add_endpoint(app, handler, name="n")
    client = await clients.WebSocket.open(await run(app))
    await client.send("a")
    await until(lambda: not get_manager("n", app).sessions)
    assert "send, broadcast, close, unsubscribe and extend are plain functions" in caplog.text
    await client.leave()


@pytest.mark.logs("ZeroDivisionError")
async def test_handler_is_named_that_functools_partial_holds(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    app = web.Application()
    add_endpoint(app, functools.partial(functools.partial(fail), 1))
    client = await clients.WebSocket.open(await run(app))
    assert await client.frame() == b'c[1011,"Internal error"]'
    assert "handler fail (OPEN) failed" in caplog.text
    await client.leave()


@pytest.mark.logs(r"handler \S+ \(\w+\) failed")
@pytest.mark.parametrize("failing", [MsgType.OPEN, MsgType.MESSAGE, MsgType.CLOSE, MsgType.CLOSED])
async def test_log_and_observers_name_the_message_that_is_handled(
    run: Run, failing: MsgType, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[str] = []
    seen = Seen()

    class Noting(Observer):
        def hook_started(self, session: object, hook: str) -> None:
            started.append(hook)

    async def chat(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        seen.append(msg.type)
        if msg.type is failing:
            raise ZeroDivisionError("mistake")

    chat.__qualname__ = "chat"
    app = web.Application()
    add_endpoint(app, chat, name="n", observers=[Noting()])
    client = await clients.WebSocket.open(await run(app))
    await client.send("a")
    await seen.until(MsgType.OPEN if failing is MsgType.OPEN else MsgType.MESSAGE)
    await client.leave()
    await seen.until(MsgType.CLOSED)
    await until(lambda: not get_manager("n", app).sessions)
    told = ["OPEN", "CLOSED"] if failing is MsgType.OPEN else ["OPEN", "MESSAGE", "CLOSED"]
    assert started == [f"handler chat ({name})" for name in told]
    assert f"handler chat ({failing.name}) failed" in caplog.text


async def fail(_number: int, _manager: object, _session: object, _msg: object) -> None:
    raise ZeroDivisionError("mistake")


@pytest.mark.logs("division by zero|ZeroDivisionError")
async def test_closed_comes_though_close_raises(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    seen = Seen()

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        seen.append(msg.type)
        if msg.type in (MsgType.CLOSE, MsgType.CLOSED):
            raise ZeroDivisionError("mistake")

    app = web.Application()
    add_endpoint(app, handler, name="n")
    client = await clients.WebSocket.open(await run(app))
    await client.leave()
    await seen.until(MsgType.CLOSED)
    await until(lambda: not get_manager("n", app).sessions)
    assert seen == [MsgType.OPEN, MsgType.CLOSE, MsgType.CLOSED]
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


@pytest.mark.parametrize(
    "theirs, path",
    [
        ("websocket", "/0/x/websocket"),
        ("websocket-raw", "/websocket"),
        ("xhr-polling", "/0/x/xhr"),
        ("xhr-streaming", "/0/x/xhr_streaming"),
        ("eventsource", "/0/x/eventsource"),
        ("htmlfile", "/0/x/htmlfile?c=cb"),
        ("jsonp-polling", "/0/x/jsonp?c=cb"),
    ],
)
async def test_disabled_transport(run: Run, theirs: str, path: str) -> None:
    app = web.Application()
    add_endpoint(app, echo, name="off", prefix="/off", disable_transports=(theirs,))
    served = await run(app, "/off")
    method = "POST" if "xhr" in path else "GET"
    assert (await served.request(method, path)).status == 404
    info = json.loads((await served.request("GET", "/info")).body)
    assert info["websocket"] is (theirs != "websocket")
    kind = clients.XhrStreaming if theirs == "xhr-polling" else clients.Xhr
    client = await kind.open(served)  # of which the others, xhr_send included, are not affected
    await client.send("a")
    assert await client.messages(1) == ["a"]
    await client.leave()


def test_transports_that_cannot_be_disabled() -> None:
    app = web.Application()
    add_endpoint(app, echo, prefix="/ours", disable_transports=["xhr", "jsonp"])
    with pytest.raises(SettingsError, match="disabled_transports"):
        add_endpoint(app, echo, disable_transports=["web-socket"])
    with pytest.raises(TypeError, match="list of names"):
        add_endpoint(app, echo, disable_transports="websocket")


@pytest.mark.parametrize("needed", [None, True, False])
async def test_cookie(run: Run, needed: bool | None) -> None:
    app = web.Application()
    options: dict[str, Any] = {} if needed is None else {"cookie_needed": needed}
    add_endpoint(app, echo, **options)
    served = await run(app)
    is_needed = needed is not False
    info = json.loads((await served.request("GET", "/info")).body)
    assert info["cookie_needed"] is is_needed
    reply = await served.request("POST", "/0/x/xhr", b"")
    assert (reply.header("Set-Cookie") or "").startswith("JSESSIONID=dummy") is is_needed


async def test_iframe_page_loads_the_script_it_is_told(run: Run) -> None:
    app = web.Application()
    add_endpoint(app, echo, sockjs_cdn="https://example.com/sockjs.js")
    add_endpoint(app, echo, prefix="/default")
    served = await run(app, "")
    page = (await served.request("GET", "/sockjs/iframe.html")).body
    assert b"https://example.com/sockjs.js" in page
    page = (await served.request("GET", "/default/iframe.html")).body
    assert aiolibs.CDN.encode() in page and "sockjs-client@1/" in aiolibs.CDN


async def test_heartbeat_delay(run: Run) -> None:
    app = web.Application()
    add_endpoint(app, echo, heartbeat_delay=0.05)
    add_endpoint(app, echo, prefix="/never", heartbeat_delay=0)
    served = await run(app)
    client = await clients.XhrStreaming.open(served)
    assert await client.frame() == b"h"
    await client.leave()
    served.prefix = "/never"
    quiet = await clients.XhrStreaming.open(served)
    await quiet.send("a")
    assert await quiet.frame() == b'a["a"]'
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(quiet.frame(), 0.2)
    await quiet.leave()


async def test_disconnect_delay_between_two_polls(run: Run) -> None:
    seen = Seen()

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        seen.append(msg.type)

    app = web.Application()
    add_endpoint(app, handler, name="n", disconnect_delay=0.1)
    served = await run(app)
    assert await served.poll("/0/gone") == b"o"
    await seen.until(MsgType.CLOSED)
    await until(lambda: not get_manager("n", app).sessions)
    assert seen == [MsgType.OPEN, MsgType.CLOSE, MsgType.CLOSED]


@every
async def test_shutdown_ends_every_session(run: Run, kind: Kind) -> None:
    seen = Seen()

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        seen.append(msg.type)
        manager.broadcast(f"{msg.type.name}")

    async def stop_too(app: web.Application) -> None:  # as applications of older releases do
        await get_manager("n", app).clear()
        await get_manager("n", app).stop()

    app = web.Application()
    app.on_shutdown.append(stop_too)
    add_endpoint(app, handler, name="n")
    served = await run(app)
    members = [await kind.open(served) for _ in range(3)]
    await seen.until(MsgType.OPEN, 3)
    await served.runner.cleanup()
    assert seen.count(MsgType.CLOSED) == 3 and MsgType.CLOSE not in seen
    assert get_manager("n", app).sessions == {}
    for client in members:
        await client.leave()


async def test_shutdown_says_so(run: Run) -> None:
    app = web.Application()
    add_endpoint(app, echo)
    served = await run(app)
    client = await clients.WebSocket.open(served)
    await client.send("a")
    assert await client.messages(1) == ["a"]
    cleanup = asyncio.get_running_loop().create_task(served.runner.cleanup())
    assert await client.frame() == b'c[1012,"Service restart"]'
    await client.leave()
    await cleanup


class Player(Session):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.score = 0


@every
async def test_sessions_and_managers_of_ones_own(run: Run, kind: Kind) -> None:
    class Game(SessionManager):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.factory = Player

    async def count(manager: Game, session: Player, msg: SockjsMessage) -> None:
        if msg.type == MsgType.MESSAGE:
            session.score += 1
            session.send(f"{session.score} of {len(manager.sessions)}, {session.disconnect_delay}")

    app = web.Application()
    manager = Game("game", app, count, 20, 4)
    add_endpoint(app, echo, name="game", manager=manager)  # the manager's handler counts
    assert get_manager("game", app) is manager
    client = await kind.open(await run(app))
    await client.send("a", "b")
    assert await client.messages(2) == ["1 of 1, 4", "2 of 1, 4"]
    await client.leave()


@every
@pytest.mark.logs("the factory of the manager 'n' failed")
async def test_factory_that_raises(run: Run, kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    app = web.Application()
    add_endpoint(app, echo, name="n")

    def factory(*_args: Any, **_options: Any) -> Session:
        raise ZeroDivisionError

    get_manager("n", app).factory = factory
    client = await kind.open(await run(app))
    assert await client.frame() == b'c[1011,"Internal error"]'
    await client.leave()
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


async def test_handlers_of_other_kinds(run: Run) -> None:
    class Handler:
        async def __call__(self, manager: Any, session: Session, msg: SockjsMessage) -> None:
            await echo(manager, session, msg)

    def plain(manager: Any, session: Session, msg: SockjsMessage) -> None:
        if msg.type == MsgType.MESSAGE:
            session.send(f"plain {msg.data}")

    app = web.Application()
    add_endpoint(app, Handler(), prefix="/object")
    add_endpoint(app, plain, prefix="/plain")
    served = await run(app)
    for prefix, answer in [("/object", "a"), ("/plain", "plain a")]:
        served.prefix = prefix
        client = await clients.WebSocket.open(served)
        await client.send("a")
        assert await client.messages(1) == [answer]
        await client.leave()


async def test_sending_what_is_no_text(run: Run) -> None:
    answers = []

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        if msg.type == MsgType.OPEN:
            with pytest.raises(TypeError, match=r"json\.dumps") as error:
                session.send({"a": 1})  # type: ignore[arg-type]
            answers.append(error)
            session.send("done")

    app = web.Application()
    add_endpoint(app, handler)
    client = await clients.WebSocket.open(await run(app))
    assert await client.messages(1) == ["done"] and answers
    await client.leave()


def test_what_cannot_be_used_is_refused_at_once() -> None:
    async def old(msg: Any, session: Any) -> None: ...

    app, other = web.Application(), web.Application()
    with pytest.raises(TypeError, match=r"before sockjs 0\.13"):
        add_endpoint(app, old)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="coroutine function"):
        add_endpoint(app, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="origins"):
        add_endpoint(app, echo, cors_config=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="SessionManager"):
        add_endpoint(app, echo, manager=object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'a', the endpoint's 'b'"):
        add_endpoint(app, echo, name="b", manager=SessionManager("a", app, echo))
    with pytest.raises(SettingsError, match="disconnect_delay=0"):
        add_endpoint(app, echo, disconnect_delay=0)
    with pytest.raises(TypeError, match="list of names"):
        add_endpoint(app, max, disable_transports="x")  # its signature cannot be told
    assert len(app.router.routes()) == 0

    add_endpoint(app, echo, name="a", prefix="/a", settings={"max_sessions": 5})
    with pytest.raises(ValueError, match="already has an endpoint 'a'"):
        add_endpoint(app, echo, name="a", prefix="/b")
    with pytest.raises(RuntimeError, match="'/a'"):
        add_endpoint(app, echo, name="c", prefix="/a")
    with pytest.raises(KeyError):
        get_manager("c", app)
    with pytest.raises(ValueError, match="make another one"):
        add_endpoint(other, echo, manager=get_manager("a", app))
    app.freeze()
    with pytest.raises(RuntimeError):
        add_endpoint(app, echo, prefix="/c")


async def test_session_that_no_client_has() -> None:
    session = Session("abc")
    assert (session.state, session.expired, session.acquired) == (SessionState.NEW, False, False)
    assert session.send("x") is False
    session.close()
    assert session.request is None
    manager = SessionManager("a", web.Application(), echo)
    manager.broadcast("to nobody")
    await manager.clear()
    await manager.stop()


def test_names() -> None:
    assert sorted(aiolibs.__all__) == aiolibs.__all__
    for name in aiolibs.__all__:
        assert getattr(aiolibs, name).__doc__, name
    assert issubclass(SessionIsClosed, SockJSError) and issubclass(SessionIsAcquired, SockJSError)
    assert [kind.value for kind in MsgType] == [1, 2, 3, 4]


@pytest.mark.virtual_time
@every
@pytest.mark.parametrize("way", ["leave", "close", "raise"])
async def test_nothing_is_left_of_a_session(
    run: Run, kind: Kind, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sockjs_aio.observers.log.hooks.disabled", True)
    references: list[weakref.ref[Session]] = []
    seen = Seen()

    async def handler(manager: SessionManager, session: Session, msg: SockjsMessage) -> None:
        seen.append(msg.type)
        if msg.type == MsgType.OPEN:
            references.append(weakref.ref(session))
        elif msg.type == MsgType.MESSAGE and way == "close":
            session.close()
        elif msg.type == MsgType.MESSAGE:
            raise ZeroDivisionError("mistake")

    app = web.Application()
    add_endpoint(app, handler, disconnect_delay=0.1)
    served = await run(app)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            client = await kind.open(served)
            if way != "leave":
                await client.send("a")
                assert (await client.frame())[:1] == b"c"
            await client.leave()
        await seen.until(MsgType.CLOSED, 5)
        await asyncio.sleep(0.3)
        assert len([ref for ref in references if ref() is not None]) <= 1
    finally:
        gc.enable()


PAGE = Path(__file__).parent.parent / "docs/migrating-from-aiolibs-sockjs.md"


@every
async def test_chat_of_the_docs(run: Run, kind: Kind) -> None:
    program, *_ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "chat"}
    exec(compile(program, str(PAGE), "exec"), names)
    served = await run(names["make_app"]())
    first = await kind.open(served)
    await first.send("hello")
    assert await first.messages(1) == ["Guest: hello"]
    second = await kind.open(served)
    assert await first.messages(1) == ["Somebody has come."]
    served.prefix = ""
    reply = await served.request("GET", "/say?text=Attention")
    assert reply.body == b"2 have heard it\n"
    served.prefix = "/sockjs"
    assert await first.messages(1) == await second.messages(1) == ["Attention"]
    await second.send("/quit")
    assert await first.messages(1) == ["Guest has gone."]
    assert await second.frame() == b'c[3000,"Bye"]'
    for client in (first, second):
        await client.leave()


async def test_origins_of_the_docs(run: Run) -> None:
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (program,) = [program for program in programs if '"origins"' in program]
    app = web.Application()
    exec(program, {"sockjs": aiolibs, "app": app, "chat": chat})
    served = await run(app)
    for origin, status in [("https://www.example.com", 200), ("https://example.org", 403)]:
        headers = {"Origin": origin}
        assert (await served.request("POST", "/0/x/xhr", b"", headers=headers)).status == status
