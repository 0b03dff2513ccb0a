"""Context variables: a session's hooks run in one context, that of the request that opened it."""

import asyncio
import logging
from contextvars import ContextVar
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio import ConnectionInfo, Session
from sockjs_aio.multiplex import MultiplexConnection
from tests import clients
from tests.axes import make_tasks_eager
from tests.conftest import SHORT, Recorder, Serve, Served

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
http = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
Kind = type[clients.Client]

user: ContextVar[str] = ContextVar("user", default="nobody")
mood: ContextVar[str] = ContextVar("mood", default="none")


class Told(Recorder):
    """Notes in which hook which user is seen, and sets a variable of its own in `on_open`."""

    ends: list[tuple[str, str]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.ends = []

    async def on_open(self, info: ConnectionInfo) -> None:
        await super().on_open(info)
        mood.set(f"{user.get()} is glad")
        await asyncio.sleep(0)
        self.note("open")

    async def on_message(self, message: str | bytes) -> None:
        if message == "end the others":
            for other in self.connections:
                if other is not self:
                    other.close(4001, "by another user")
        await asyncio.sleep(0)
        self.note(message)

    async def on_close(self) -> None:
        await asyncio.sleep(0)
        self.ends.append((user.get(), mood.get()))
        self.note("close")

    def note(self, what: Any) -> None:
        owner = self.info.query["user"]
        assert (user.get(), mood.get()) == (owner, f"{owner} is glad"), what
        self.seen.append(what)


@web.middleware
async def who(request: web.Request, handler: Handler) -> web.StreamResponse:
    token = user.set(request.query.get("user", "nobody"))
    try:
        return await handler(request)
    finally:
        user.reset(token)


async def serve_users(serve: Serve, connection: Any, **settings: Any) -> Served:
    return await serve(connection, settings=settings, app=web.Application(middlewares=[who]))


@every
async def test_hooks_see_the_user_that_opened_the_session(serve: Serve, kind: Kind) -> None:
    class Seen(Told):
        pass

    served = await serve_users(serve, Seen, disconnect_delay=0.1, session_check_interval=0.02)
    ann = await kind.open(served, query="user=ann")
    await Seen.until("open")
    await ann.send("hello")
    await Seen.until("hello")
    await ann.leave()
    await Seen.until("close")
    await served.until_empty()
    assert Seen.ends == [("ann", "ann is glad")]


@every
@pytest.mark.parametrize("other", clients.ALL, ids=lambda kind: f"by-{kind.name}")
async def test_user_who_closes_a_session_does_not_run_its_on_close(
    serve: Serve, kind: Kind, other: Kind
) -> None:
    class Seen(Told):
        pass

    served = await serve_users(serve, Seen)
    ann = await kind.open(served, query="user=ann")
    await Seen.until("open")
    bob = await other.open(served, query="user=bob")
    await Seen.until("open", 2)
    await bob.send("end the others")
    await Seen.until("close")
    await bob.leave()
    await ann.leave()
    assert Seen.ends[0] == ("ann", "ann is glad")


@every
async def test_variables_of_on_open_can_be_reset_in_on_close(serve: Serve, kind: Kind) -> None:
    """As OpenTelemetry's `detach` and structlog's `reset_contextvars` do."""

    class Resetting(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            self.token = mood.set("open")
            await asyncio.sleep(0)

        async def on_close(self) -> None:
            await asyncio.sleep(0)
            mood.reset(self.token)
            self.seen.append(f"reset to {mood.get()}")

    served = await serve(Resetting, settings=SHORT)
    client = await kind.open(served)
    await client.send("hello")
    await Resetting.until("hello")
    await client.leave()
    await Resetting.until("reset to none")


@pytest.mark.parametrize("kind", [clients.Xhr, clients.WebSocket], ids=lambda kind: kind.name)
async def test_channels_of_multiplex_have_contexts_of_their_own(serve: Serve, kind: Kind) -> None:
    class Channel(Recorder):
        def __init__(self, session: Session) -> None:
            super().__init__(session)
            self.name: str = self.session.name  # type: ignore[attr-defined]
            self.token = mood.set(f"{self.name} is new")

        async def on_open(self, info: ConnectionInfo) -> None:
            assert mood.get() == f"{self.name} is new"
            await asyncio.sleep(0)
            mood.set(f"{self.name} is open")

        async def on_message(self, message: str | bytes) -> None:
            self.seen.append(mood.get())
            await asyncio.sleep(0)
            mood.set(f"{self.name} got {message!r}")

        async def on_close(self) -> None:
            self.seen.append(mood.get())
            mood.reset(self.token)
            self.seen.append(f"{self.name}: {user.get()} is {mood.get()}")

    served = await serve_users(serve, MultiplexConnection.get(a=Channel, b=Channel), **SHORT)
    client = await kind.open(served, query="user=ann")
    await client.send("sub,a", "sub,b", "msg,a,1", "msg,b,2", "uns,b")
    await Channel.until("b: ann is none")
    await client.leave()
    await Channel.until("a: ann is none")
    assert Channel.seen == [
        *("a is open", "b is open", "b got '2'", "b: ann is none"),
        *("a got '1'", "a: ann is none"),
    ]


@http
async def test_requests_of_others_do_not_lend_their_context(serve: Serve, kind: Kind) -> None:
    """A message may be brought by any request that knows the id, and any request may be last."""

    class Seen(Told):
        pass

    served = await serve_users(serve, Seen, **SHORT)
    ann = await kind.open(served, query="user=ann")
    await Seen.until("open")
    path = ann.path + "/xhr_send?user=mallory"
    assert (await served.request("POST", path, '["hello"]')).status == 204
    await Seen.until("hello")
    await ann.leave()
    await Seen.until("close")
    assert Seen.ends == [("ann", "ann is glad")]


@http
async def test_expiry_is_nobody_elses_business(serve: Serve, kind: Kind) -> None:
    """The registry's task ends sessions; it was made when somebody opened the first of them."""

    class Seen(Told):
        pass

    served = await serve_users(serve, Seen, **SHORT)
    for name in ("ann", "bob"):
        client = await kind.open(served, query=f"user={name}")
        await Seen.until("open", len(Seen.connections))
        await client.leave()
    await Seen.until("close", 2)
    assert sorted(Seen.ends) == [("ann", "ann is glad"), ("bob", "bob is glad")]


@every
@pytest.mark.logs("ZeroDivisionError")
async def test_what_is_logged_about_a_session_is_logged_in_its_context(
    serve: Serve, kind: Kind
) -> None:
    class Failing(Told):
        async def on_message(self, message: str | bytes) -> None:
            raise ZeroDivisionError("mistake")

    users = []

    class Enricher(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "failed" in record.getMessage() or "closed" in record.getMessage():
                users.append(user.get())

    served = await serve_users(serve, Failing)
    logger, handler = logging.getLogger("sockjs_aio"), Enricher()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        client = await kind.open(served, query="user=ann")
        await client.send("hello")
        await Failing.until("close")
        await client.leave()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert users == ["ann", "ann"]


async def test_the_registrys_task_has_nobodys_context(serve: Serve) -> None:
    class Seen(Told):
        pass

    served = await serve_users(serve, Seen)
    ann = await clients.WebSocket.open(served, query="user=ann")
    ticker = served.router._registry._clock._task
    assert ticker is not None
    await Seen.until("open")
    if hasattr(ticker, "get_context"):  # Python 3.12
        assert user not in ticker.get_context()
    await ann.leave()


@every
async def test_hooks_of_others_do_not_run_inside_broadcast(serve: Serve, kind: Kind) -> None:
    """Not even where tasks are eager: the set is changed by `on_close` of the slow one."""
    make_tasks_eager()
    participants: set[Any] = set()

    class Chat(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            participants.add(self)
            await super().on_open(info)

        async def on_message(self, message: str | bytes) -> None:
            before = len(participants)
            for _ in range(100):
                self.broadcast(participants - {self}, "x" * 1000)
                assert len(participants) == before, "a hook has run inside"
            await super().on_message(message)

        async def on_close(self) -> None:
            participants.discard(self)
            await super().on_close()

    served = await serve(Chat, settings={"send_queue_limit": 20_000})
    slow, sender = await kind.open(served), await kind.open(served)
    await Chat.until("open", 2)
    await sender.send("a")
    await Chat.until("a")
    await Chat.until("close")
    assert len(participants) == 1
    await slow.leave()
    await sender.leave()


@every
async def test_hooks_that_wait_return_whatever_makes_tasks(serve: Serve, kind: Kind) -> None:
    """Sentry's and other tools' task factories put a coroutine of their own around each."""

    class Waiting(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            await asyncio.sleep(0.01)
            await super().on_message(message)
            self.send(message)

    async def around(coroutine: Any) -> Any:
        return await coroutine

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(around(coroutine), loop=loop, **options)

    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(make)
    try:
        client = await kind.open(await serve(Waiting))
        await client.send("a")
        assert await client.messages(1) == ["a"]
        await client.send("b")
        assert await client.messages(1) == ["b"]
        await client.leave()
        await Waiting.until("close")
    finally:
        loop.set_task_factory(before)
