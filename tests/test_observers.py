"""What observers are told, on every transport, and what happens if they fail."""

import asyncio
import contextvars
import io
import logging
from typing import Any, ClassVar

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio import (
    CloseInfo,
    ConnectionInfo,
    MemoryBroker,
    Observer,
    Session,
    SockJSRouter,
    aiolibs,
    tornado,
)
from sockjs_aio.multiplex import MultiplexConnection
from sockjs_aio.tornado.multiplex import MultiplexConnection as TornadoMultiplex
from tests import clients
from tests.adapters import TornadoEcho, echo
from tests.conftest import SHORT, Echo, Recorder, Serve
from tests.observers import Notes, until
from tests.openers import ask, openers
from tests.websocket_wire import handshake

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
http = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
Kind = type[clients.Client]

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


class Closing(Recorder):
    """Does what its messages say."""

    async def on_message(self, message: str | bytes) -> None:
        if message == "close":
            self.close(4001, "Logged out")
        elif message == "raise":
            raise ValueError("asked for")
        elif message == "pour":
            for _ in range(200):
                self.send("x" * 65536)
                if self.is_closed:
                    break
        elif message == "wait":
            await asyncio.sleep(0)


# Sessions.


@every
async def test_opened_and_closed_are_told(serve: Serve, kind: Kind) -> None:
    class Noted(Closing):
        pass

    notes = Notes()
    client = await kind.open(await serve(Noted, observers=[notes]))
    await client.send("close")
    await notes.until("closed")
    (session,) = notes.named("opened")[0]
    assert notes.names == ["opened", "closed"]
    assert notes.named("closed") == [(session, session.close_info)]
    assert session.transport == kind.name
    info = session.close_info
    assert (info.code, info.reason, info.initiator) == (4001, "Logged out", "server")
    assert info.status == "server"
    await client.leave()


@every
@pytest.mark.logs("asked for")
async def test_hook_that_fails_is_told_with_its_name(serve: Serve, kind: Kind) -> None:
    class Noted(Closing):
        pass

    notes = Notes()
    client = await kind.open(await serve(Noted, observers=[notes]))
    await client.send("raise")
    await notes.until("closed")
    ((session, hook, error),) = notes.named("hook_failed")
    assert notes.names == ["opened", "hook_failed", "closed"]
    assert hook.endswith("Noted.on_message")
    assert isinstance(error, ValueError)
    assert session.close_info.status == "hook_failed"
    await client.leave()


@every
async def test_overflow_is_told_before_the_end(serve: Serve, kind: Kind) -> None:
    class Noted(Closing):
        pass

    notes = Notes()
    served = await serve(Noted, settings={"send_queue_limit": 1 << 20}, observers=[notes])
    client = await kind.open(served)
    client.stop_reading()
    await client.send("pour")
    await notes.until("closed")
    assert notes.names == ["opened", "overflowed", "closed"]
    assert notes.named("closed")[0][1].status == "slow_consumer"
    client.abort()


@pytest.mark.virtual_time
@pytest.mark.parametrize("path", ["/0/1/websocket", "/websocket"])
async def test_ping_without_an_answer_is_told(serve: Serve, path: str) -> None:
    notes = Notes()
    wire = await handshake(await serve(Echo, settings=SHORT, observers=[notes]), path)
    await notes.until("closed")
    assert notes.names == ["opened", "unanswered", "closed"]
    assert notes.named("closed")[0][1].status == "unanswered"
    wire.close()


async def test_events_are_told_in_the_context_of_the_session(serve: Serve) -> None:
    seen = []

    class Asking(Observer):
        def opened(self, session: Session) -> None:
            seen.append(user.get())

        def closed(self, session: Session, info: object) -> None:
            seen.append(user.get())

    @web.middleware
    async def log_in(request: web.Request, handler: Any) -> web.StreamResponse:
        user.set("ann")
        response: web.StreamResponse = await handler(request)
        return response

    app = web.Application(middlewares=[log_in])
    served = await serve(Closing, app=app, settings=SHORT, observers=[Asking()])
    assert await served.poll("/0/1") == b"o"
    await until(lambda: len(seen) == 2)
    assert seen == ["ann", "ann"]


# Refusals.


async def no(_request: web.Request) -> bool:
    return False


async def raising(_request: web.Request) -> bool:
    raise web.HTTPUnauthorized


async def returning(_request: web.Request) -> web.HTTPException:
    return web.HTTPPaymentRequired()


async def slow(_request: web.Request) -> bool:
    await asyncio.sleep(60)
    return True


@openers
@pytest.mark.parametrize(
    ("reason", "settings", "authorize", "headers"),
    [
        ("max_sessions", {"max_sessions": 1}, None, {}),
        ("max_sessions_per_ip", {"max_sessions_per_ip": 1}, None, {}),
        ("authorize", {}, no, {}),
        ("authorize", {}, raising, {}),
        ("authorize", {}, returning, {}),
        ("timeout", {"authorize_timeout": 0.05}, slow, {}),
        ("page", {}, None, {"Sec-Fetch-Dest": "document"}),
        ("bad_request", {"disabled_transports": "all"}, None, {}),
        (
            "origin",
            {"origins": ["https://example.com"], "allow_jsonp_and_frames": True},
            None,
            {"Origin": "https://example.org"},
        ),
    ],
)
async def test_refusal_is_told_with_its_reason(
    serve: Serve,
    method: str,
    path: str,
    reason: str,
    settings: dict[str, Any],
    authorize: Any,
    headers: dict[str, str],
) -> None:
    name = path.partition("?")[0].rpartition("/")[2]
    if settings.get("disabled_transports"):
        settings = {"disabled_transports": ["rawwebsocket" if path == "/websocket" else name]}
    notes = Notes()
    served = await serve(Echo, settings=settings, authorize=authorize, observers=[notes])
    if reason.startswith("max"):
        await clients.Xhr.open(served)
    assert (await ask(served, method, path, **headers)).status >= 400
    assert notes.named("refused") == [(reason, name, "127.0.0.1")]
    assert served.router.stats.refused == {reason: 1}


@openers
async def test_refusal_while_draining_is_told(serve: Serve, method: str, path: str) -> None:
    notes = Notes()
    served = await serve(Echo, observers=[notes])
    await served.router.drain()
    assert (await ask(served, method, path)).status == 503
    assert notes.reasons == ["draining"]


@http
async def test_second_receiver_is_told(serve: Serve, kind: Kind) -> None:
    notes = Notes()
    served = await serve(Echo, observers=[notes])
    assert await served.poll("/000/both") == b"o"
    waiting = await served.wire()
    waiting.send("POST", served.prefix + "/000/both/xhr", b"")
    await until(lambda: served.router._registry.get("both")._writer is not None)  # type: ignore[union-attr]
    method, url = kind(served, {})._request()  # type: ignore[attr-defined]
    body = b"" if method == "POST" else None
    reply = await served.request(method, "/000/both" + url, body)
    assert b"2010" in reply.body
    assert notes.reasons == ["another_connection"]


@http
async def test_request_for_a_session_that_has_ended_is_told(serve: Serve, kind: Kind) -> None:
    notes = Notes()
    served = await serve(Echo, settings=SHORT, observers=[notes])
    assert await served.poll("/000/gone") == b"o"
    await served.until_empty()
    method, url = kind(served, {})._request()  # type: ignore[attr-defined]
    await served.request(method, "/000/gone" + url, b"" if method == "POST" else None)
    transport = url.strip("/").partition("?")[0]
    assert [refusal[:2] for refusal in notes.named("refused")] == [("session_ended", transport)]


async def test_refusals_of_later_requests_are_told(serve: Serve) -> None:
    notes = Notes()
    app = web.Application()

    def verify(request: web.Request, _info: ConnectionInfo) -> bool:
        return "X-Me" in request.headers

    SockJSRouter(Echo, "/bound", verify=verify, observers=[notes]).attach(app)
    served = await serve(Echo, app=app)
    served.prefix = "/bound"
    assert await served.poll("/0/1") == b"o"
    assert await served.post("/0/1", "[]") == 403
    assert await served.post("/0/1", "[", headers={"X-Me": "1"}) == 500
    assert await served.post("/0/2", "[]") == 404
    assert notes.reasons == ["verify", "bad_request", "bad_request"]
    assert {transport for _, transport, _ in notes.named("refused")} == {"xhr_send"}


# Hooks.


class Stopwatch(Observer):
    """Notes hooks, and where they run."""

    def __init__(self) -> None:
        self.hooks: list[tuple[str, str, Any]] = []
        self.tasks: list[Any] = []
        self.seconds: list[float] = []
        self.errors: list[BaseException | None] = []

    def hook_started(self, session: Session, hook: str) -> None:
        self.hooks.append(("started", hook.rpartition(".")[2], session))
        self.tasks.append(asyncio.current_task())
        user.set("set by an observer")

    def hook_returned(
        self, session: Session, hook: str, seconds: float, error: BaseException | None
    ) -> None:
        self.errors.append(error)
        self.hooks.append(("returned", hook.rpartition(".")[2], session))
        self.tasks.append(asyncio.current_task())
        self.seconds.append(seconds)


@every
@pytest.mark.logs("asked for")
async def test_each_hook_is_told_at_its_start_and_end(serve: Serve, kind: Kind) -> None:
    class Noted(Closing):
        async def on_message(self, message: str | bytes) -> None:
            self.seen.append((user.get(), asyncio.current_task()))
            await super().on_message(message)

    watch = Stopwatch()
    client = await kind.open(await serve(Noted, observers=[watch]))
    await client.send("wait")
    await client.send("raise")
    await Noted.until("close")
    await until(lambda: len(watch.hooks) == 8)
    (connection,) = Noted.connections
    expected = ["on_open", "on_message", "on_message", "on_close"]
    assert watch.hooks == [
        (what, hook, connection.session) for hook in expected for what in ("started", "returned")
    ]
    assert all(0 <= seconds < 60 for seconds in watch.seconds)
    assert [type(error) for error in watch.errors] == [type(None)] * 2 + [ValueError, type(None)]
    values, tasks = zip(*(seen for seen in Noted.seen if isinstance(seen, tuple)), strict=True)
    assert set(values) == {"set by an observer"}, "the hook runs in the same context"
    assert watch.tasks[2:6] == [task for task in tasks for _ in range(2)]
    await client.leave()


async def test_hooks_are_watched_only_for_who_wants_to_know(serve: Serve) -> None:
    class Late(Observer):
        def hook_returned(self, *arguments: object) -> None: ...

    for observers, is_so in (([], False), ([Notes()], False), ([Notes(), Late()], True)):
        served = await serve(Echo, observers=observers)
        assert served.router._registry.events.watches_hooks is is_so


@pytest.mark.logs("asked for")
async def test_hooks_of_channels_are_told(serve: Serve) -> None:
    class Noted(Closing):
        pass

    notes, watch = Notes(), Stopwatch()
    served = await serve(MultiplexConnection.get(news=Noted), observers=[notes, watch])
    client = await clients.WebSocket.open(served)
    await client.send("sub,news", "msg,news,raise")
    await notes.until("hook_failed")
    ((session, hook, _),) = notes.named("hook_failed")
    assert session is Noted.connections[0].session
    assert hook.endswith("Noted.on_message")
    channel = [event[:2] for event in watch.hooks if event[2] is session]
    assert channel[:2] == [("started", "on_open"), ("returned", "on_open")]
    await client.leave()


# Adapters.


@pytest.mark.parametrize("adapter", ["tornado", "aiolibs"])
async def test_adapters_take_observers(serve: Serve, adapter: str) -> None:
    notes, app = Notes(), web.Application()
    if adapter == "tornado":
        tornado.SockJSRouter(TornadoEcho, "/old", observers=[notes]).attach(app)
    else:
        aiolibs.add_endpoint(app, echo, prefix="/old", observers=[notes])
    served = await serve(Echo, app=app)
    served.prefix = "/old"
    client = await clients.WebSocket.open(served)
    await client.send("x")
    assert await client.messages(1) == ["x"]
    await client.leave()
    await notes.until("closed")
    assert notes.names == ["opened", "closed"]
    assert notes.services[0].stats.messages_received == 1


class FailingEcho(TornadoEcho):
    """Raises in `on_close`, and for a message ``bad``."""

    def on_message(self, message: str) -> None:
        if message == "bad":
            raise ValueError("asked for")

    def on_close(self) -> None:
        raise ValueError("asked for")


class FailingLater(FailingEcho):
    async def on_close(self) -> None:  # type: ignore[override]
        raise ValueError("asked for")


@pytest.mark.logs("asked for")
@pytest.mark.parametrize("connection", [FailingEcho, FailingLater])
@pytest.mark.parametrize("channel", ["", " (channel a)"])
async def test_failures_of_hooks_in_tornados_api_are_told(
    serve: Serve, connection: Any, channel: str
) -> None:
    class Told(Notes):
        hooks: ClassVar[list[tuple[str, str]]] = []

        def hook_failed(self, session: Session, hook: str, error: BaseException) -> None:
            super().hook_failed(session, hook, error)
            self.hooks.append((user.get(), hook))

    @web.middleware
    async def who(request: web.Request, handler: Handler) -> web.StreamResponse:
        user.set("ann")
        return await handler(request)

    notes, app = Told(), web.Application(middlewares=[who])
    made = TornadoMultiplex.get(a=connection) if channel else connection
    tornado.SockJSRouter(made, "/old", observers=[notes]).attach(app)
    served = await serve(Echo, app=app)
    served.prefix = "/old"
    client = await clients.WebSocket.open(served)
    await client.send(*(["sub,a", "msg,a,bad"] if channel else ["bad"]))
    await notes.until("hook_failed", 2)
    name = connection.__name__
    hooks = [f"{name}.on_message{channel}", f"{name}.on_close{channel}"]
    assert notes.hooks == [("ann", hook) for hook in hooks]
    assert notes.services[0].stats.hooks_failed == 2
    await client.leave()


# Brokers.


async def test_gap_of_the_broker_is_told_to_each_router_that_uses_it(serve: Serve) -> None:
    broker, first, second = MemoryBroker(), Notes(), Notes()
    await serve(Echo, broker=broker, observers=[first])
    served = await serve(Echo, broker=broker, observers=[second])
    await serve(Echo, observers=[other := Notes()])
    broker._count_gap()
    assert first.named("broker_gap") == second.named("broker_gap") == [(broker,)]
    assert other.events == []
    assert served.router.stats.broker_gaps == 1


# Observers that fail, and mistakes.


class Failing(Notes):
    """Raises from each method that is called in the test."""

    def __init__(self, failure: type[BaseException]) -> None:
        super().__init__()
        self.failure = failure("of an observer")

    def opened(self, session: Session) -> None:
        super().opened(session)
        raise self.failure

    def closed(self, session: Session, info: CloseInfo) -> None:
        super().closed(session, info)
        raise self.failure

    def hook_started(self, session: Session, hook: str) -> None:
        raise self.failure

    def hook_returned(self, *arguments: object) -> None:
        raise self.failure

    def hook_failed(self, session: Session, hook: str, error: BaseException) -> None:
        super().hook_failed(session, hook, error)
        raise self.failure


@every
@pytest.mark.parametrize("failure", [RuntimeError, asyncio.CancelledError])
@pytest.mark.logs("of an observer", "asked for")
async def test_observer_that_fails_harms_no_session_and_is_logged_once(
    serve: Serve, kind: Kind, caplog: pytest.LogCaptureFixture, failure: type[BaseException]
) -> None:
    class Noted(Closing):
        async def on_message(self, message: str | bytes) -> None:
            self.send(message)
            await super().on_message(message)

    caplog.set_level(logging.INFO)
    failing, after = Failing(failure), Notes()
    served = await serve(Noted, observers=[failing, after])
    for number in range(1, 3):
        client = await kind.open(served)
        await client.send("1")
        assert await client.messages(1) == ["1"]
        await client.send("raise")
        await Noted.until("close", number)
        await client.leave()
    assert after.names == failing.names == ["opened", "hook_failed", "closed"] * 2
    lines = [line for line in caplog.messages if line.startswith("Failing.")]
    expected = ["opened", "hook_started", "hook_returned", "hook_failed", "closed"]
    assert sorted(lines) == sorted(
        f"Failing.{name} failed; this is logged only once" for name in expected
    )


class Faulty(logging.Filter):
    """Raises, as one that reads a context variable where nothing has set it."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise LookupError("of a filter")


@every
async def test_log_that_fails_harms_no_session(
    serve: Serve, kind: Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    class Noted(Closing):
        pass

    handler = logging.StreamHandler(io.StringIO())
    handler.addFilter(Faulty())
    log = logging.getLogger("sockjs_aio")
    log.addHandler(handler)
    try:
        served = await serve(Noted, settings=SHORT)
        client = await kind.open(served)
        await client.send("raise")
        await Noted.until("close")
        await client.leave()
        await until(lambda: served.router.session_count == 0)
    finally:
        log.removeHandler(handler)
    assert "LookupError: of a filter" in capsys.readouterr().err


async def test_observer_is_told_of_its_routers() -> None:
    notes = Notes()
    routers = [SockJSRouter(Echo, prefix, observers=[notes]) for prefix in ("/a", "")]
    assert [service.prefix for service in notes.services] == ["/a", ""]
    assert notes.services[0].stats == routers[1].stats
    routers[0].observe(late := Notes())
    assert [service.prefix for service in late.services] == ["/a"]


def test_what_is_no_observer_is_refused() -> None:
    with pytest.raises(TypeError, match="an observer must be an instance of a subclass of Observe"):
        SockJSRouter(Echo, observers=[Notes])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="no argument 'observer': did you mean 'observers'"):
        SockJSRouter(Echo, observer=[Notes()])
