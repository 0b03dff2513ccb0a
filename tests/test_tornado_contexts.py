"""Context variables in sockjs-tornado's API: no hook runs in another user's context."""

import asyncio
from contextvars import ContextVar, Token
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio.tornado.multiplex import MultiplexConnection
from sockjs_aio.tornado.stats import MovingAverage, StatsCollector
from tests import clients
from tests.conftest import Served
from tests.test_contexts import user as user_name
from tests.test_contexts import who
from tests.test_tornado import Old, Start, start

__all__ = ["start"]  # the fixture

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
sockjs = pytest.mark.parametrize("kind", clients.SOCKJS, ids=lambda kind: kind.name)
Kind = type[clients.Client]

mood: ContextVar[str] = ContextVar("mood", default="none")


class Told(Old):
    """Notes in whose context it is closed; a message ``end`` closes all, the sender last."""

    ends: list[tuple[str, str, str]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.ends = []

    def on_open(self, info: Any) -> Any:
        super().on_open(info)
        self.user = user_name.get()

    def on_message(self, message: str) -> Any:
        super().on_message(message)
        mood.set(f"{self.user} is glad")
        if message == "end":
            for connection in [*(x for x in self.all if x is not self), self]:
                connection.close()

    def on_close(self) -> Any:
        self.ends.append((self.user, user_name.get(), mood.get()))
        self.seen.append("close")


async def serve_users(start: Start, connection: Any) -> Served:
    return await start(connection, app=web.Application(middlewares=[who]))


@every
async def test_on_close_runs_in_the_context_of_the_session_that_is_closed(
    start: Start, kind: Kind
) -> None:
    class Closed(Told):
        pass

    served = await serve_users(start, Closed)
    ann = await kind.open(served, query="user=ann")
    await Closed.until("open")
    bob = await kind.open(served, query="user=bob")
    await Closed.until("open", 2)
    await bob.send("end")
    await Closed.until("close", 2)
    # the second has what the hook that closes it has set
    assert Closed.ends == [("ann", "ann", "none"), ("bob", "bob", "bob is glad")]
    ann.abort()
    bob.abort()


@every
async def test_sessions_that_close_each_other_keep_to_their_users(start: Start, kind: Kind) -> None:
    class Closed(Told):
        def on_message(self, message: str) -> Any:
            next(x for x in self.all if x is not self).close()

        def on_close(self) -> Any:
            super().on_close()
            for connection in self.all:
                connection.close()

    served = await serve_users(start, Closed)
    ann = await kind.open(served, query="user=ann")
    await Closed.until("open")
    bob = await kind.open(served, query="user=bob")
    await Closed.until("open", 2)
    await bob.send("go")
    await Closed.until("close", 2)
    assert [end[:2] for end in Closed.ends] == [("ann", "ann"), ("bob", "bob")]
    ann.abort()
    bob.abort()


@every
async def test_variables_of_on_open_can_be_reset_in_on_close(start: Start, kind: Kind) -> None:
    class Resetting(Told):
        token: Token[str]

        def on_open(self, info: Any) -> Any:
            self.token = mood.set("open")
            super().on_open(info)

        def on_close(self) -> Any:
            mood.reset(self.token)
            super().on_close()

    served = await serve_users(start, Resetting)
    ann = await kind.open(served, query="user=ann")
    await Resetting.until("open")
    bob = await kind.open(served, query="user=bob")
    await Resetting.until("open", 2)
    await bob.send("end")
    await Resetting.until("close", 2)
    ann.abort()
    bob.abort()


@sockjs
@pytest.mark.parametrize("is_awaited", [False, True])
async def test_channel_that_another_user_closes_runs_in_the_context_of_its_carrier(
    start: Start, kind: Kind, is_awaited: bool
) -> None:
    class Channel(Told):
        def on_close(self) -> Any:
            if not is_awaited:
                return super().on_close()
            return self.note_close()

        async def note_close(self) -> None:
            super().on_close()

    served = await serve_users(start, MultiplexConnection.get(ann=Channel))
    ann = await kind.open(served, query="user=ann")
    await ann.send("sub,ann")
    await Channel.until("open")
    bob = await kind.open(served, query="user=bob")
    await bob.send("sub,ann", "msg,ann,end")
    await Channel.until("close", 2)
    assert sorted(end[:2] for end in Channel.ends) == [("ann", "ann"), ("bob", "bob")]
    ann.abort()
    bob.abort()


@pytest.mark.parametrize("kind", [clients.Xhr, clients.WebSocket], ids=lambda kind: kind.name)
@pytest.mark.parametrize("is_awaited", [False, True])
async def test_channels_have_contexts_of_their_own(
    start: Start, kind: Kind, is_awaited: bool
) -> None:
    class Channel(Old):
        def on_open(self, info: Any) -> Any:
            self.name = self.session.name  # type: ignore[attr-defined]
            return self.later(self.opened) if is_awaited else self.opened()

        def on_message(self, message: str) -> Any:
            return self.later(self.told) if is_awaited else self.told()

        def on_close(self) -> Any:
            return self.later(self.closed) if is_awaited else self.closed()

        async def later(self, step: Any) -> None:
            await asyncio.sleep(0)
            step()

        def opened(self) -> None:
            self.token = mood.set(f"{self.name} is open")

        def told(self) -> None:
            self.seen.append(mood.get())

        def closed(self) -> None:
            mood.reset(self.token)
            self.seen.append(f"{self.name}: {user_name.get()}, {mood.get()}")

    served = await serve_users(start, MultiplexConnection.get(a=Channel, b=Channel))
    ann = await kind.open(served, query="user=ann")
    await ann.send("sub,a", "sub,b", "msg,a,1", "msg,b,2", "uns,b")
    await Channel.until("b: ann, none")
    await ann.leave()
    await Channel.until("a: ann, none")
    assert Channel.seen == ["a is open", "b is open", "b: ann, none", "a: ann, none"]


@pytest.mark.virtual_time
@pytest.mark.not_over("uvloop")
async def test_counts_keep_no_request_alive() -> None:
    users: list[str] = []

    class Noting(MovingAverage):
        def flush(self) -> None:
            users.append(user_name.get())
            super().flush()

    counts = StatsCollector()
    counts.conn_ps = Noting()
    user_name.set("ann")  # as a middleware does, for the first request of all
    counts.on_conn_opened()
    await asyncio.sleep(2.5)
    assert users == ["nobody", "nobody"]
