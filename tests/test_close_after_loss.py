"""A client sends and hangs up; the application closes its session before all is handled."""

import asyncio
from collections.abc import Callable
from typing import Any

import async_timeout
import pytest
from aiohttp import web

import sockjs_aio.multiplex
import sockjs_aio.tornado.multiplex
from sockjs_aio import SockJSConnection, SockJSRouter, aiolibs
from sockjs_aio.tornado import SockJSConnection as OldConnection
from sockjs_aio.tornado import SockJSRouter as OldRouter
from tests import clients
from tests.conftest import Serve

SHORT = {"disconnect_delay": 0.1, "session_check_interval": 0.02}
Kind = type[clients.Client]


class Script:
    """What the application does, and what it was told; `way` says how it closes the session."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.seen: list[str] = []
        self.may_go_on = asyncio.Event()
        self.is_lost: Callable[[], bool] = lambda: False
        self.close_session: Callable[[], object] = lambda: None

    async def open(self, is_lost: Callable[[], bool], close: Callable[[], object]) -> bool:
        self.is_lost, self.close_session = is_lost, close
        self.seen.append("open")
        if self.way in ("message", "another"):
            return True
        await self.may_go_on.wait()
        if self.way == "open closes":
            close()
        return self.way != "open refuses"

    async def message(self, text: str, close: Callable[[], object]) -> None:
        self.seen.append(text)
        await self.may_go_on.wait()
        if len(self.seen) == 2 and self.way == "message":
            close()

    def close(self) -> None:
        self.seen.append("close")

    async def until(self, condition: Callable[[], bool]) -> None:
        async with async_timeout.timeout(10):
            while not condition():
                await asyncio.sleep(0.002)


def own(script: Script, app: web.Application) -> None:
    SockJSRouter(_own_class(script, lambda connection: connection), "/x", SHORT).attach(app)


def multiplexed(script: Script, app: web.Application) -> None:
    """The session is closed by one of its channels."""
    channel = _own_class(script, lambda connection: connection.session.carrier)
    make = sockjs_aio.multiplex.MultiplexConnection.get(ann=channel, bob=channel)
    SockJSRouter(make, "/x", SHORT).attach(app)


def old(script: Script, app: web.Application) -> None:
    OldRouter(_old_class(script, lambda connection: connection), "/x", SHORT).attach(app)


def old_multiplexed(script: Script, app: web.Application) -> None:
    """As `multiplexed`."""
    channel = _old_class(script, lambda connection: connection.session.carrier)
    make = sockjs_aio.tornado.multiplex.MultiplexConnection.get(ann=channel, bob=channel)
    OldRouter(make, "/x", SHORT).attach(app)


def _own_class(script: Script, carrier: Callable[[Any], Any]) -> type[SockJSConnection]:
    class Own(SockJSConnection):
        async def on_open(self, info: Any) -> bool:
            return await script.open(lambda: carrier(self).is_closed, carrier(self).close)

        async def on_message(self, message: str) -> None:
            await script.message(message, carrier(self).close)

        async def on_close(self) -> None:
            script.close()

    return Own


def _old_class(script: Script, carrier: Callable[[Any], Any]) -> type[OldConnection]:
    class Old(OldConnection):
        async def on_open(self, info: Any) -> bool:
            return await script.open(lambda: carrier(self).is_closed, carrier(self).close)

        async def on_message(self, message: str) -> None:
            await script.message(message, carrier(self).close)

        def on_close(self) -> None:
            script.close()

    return Old


def aiolibs_handler(script: Script, app: web.Application) -> None:
    async def handler(manager: Any, session: aiolibs.Session, msg: aiolibs.SockjsMessage) -> None:
        if msg.type == aiolibs.MsgType.OPEN:
            await script.open(lambda: session.expired, session.close)
        elif msg.type == aiolibs.MsgType.MESSAGE:
            await script.message(msg.data or "", session.close)
        elif msg.type == aiolibs.MsgType.CLOSED:
            script.close()

    aiolibs.add_endpoint(app, handler, prefix="/x", settings=SHORT)


async def run(serve: Serve, kind: Kind, make: Any, way: str, messages: list[str]) -> Script:
    """Serve the application, have a client send `messages` and leave, and see it through."""
    script, app = Script(way), web.Application()
    make(script, app)
    served = await serve(app=app, prefix="/other")
    served.prefix = "/x"
    client = await kind.open(served)
    await client.send(*messages)
    expected = 2 if way in ("message", "another") else 1
    await script.until(lambda: len(script.seen) == expected)
    client.abort()
    await script.until(script.is_lost)
    if way == "another":
        script.close_session()
    script.may_go_on.set()
    await script.until(lambda: "close" in script.seen)
    await asyncio.sleep(0.05)  # in which nothing comes
    return script


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", clients.SOCKJS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    ("make", "way"),
    [
        (make, way)
        for make in (own, old, aiolibs_handler)
        for way in ("message", "another", "open closes", "open refuses")
        if (make, way) != (aiolibs_handler, "open refuses")  # which a handler cannot
    ],
)
async def test_nothing_is_handled_once_the_application_has_closed_a_lost_session(
    serve: Serve, kind: Kind, make: Any, way: str
) -> None:
    script = await run(serve, kind, make, way, ["a", "b", "c"])
    assert script.seen == ["open", *(["a"] if way in ("message", "another") else []), "close"]


@pytest.mark.parametrize("kind", [clients.WebSocket, clients.Xhr], ids=lambda kind: kind.name)
@pytest.mark.parametrize("make", [multiplexed, old_multiplexed])
@pytest.mark.parametrize("way", ["message", "open closes"])
async def test_channels_are_not_opened_once_the_application_has_closed_a_lost_session(
    serve: Serve, kind: Kind, make: Any, way: str
) -> None:
    messages = ["sub,ann", "msg,ann,a", "msg,ann,b", "sub,bob", "msg,bob,c"]
    script = await run(serve, kind, make, way, messages)
    assert script.seen == ["open", *(["a"] if way == "message" else []), "close"]


@pytest.mark.parametrize("kind", [clients.WebSocket, clients.Xhr], ids=lambda kind: kind.name)
async def test_messages_of_a_lost_client_are_handled_if_nobody_closes(
    serve: Serve, kind: Kind
) -> None:
    script = await run(serve, kind, own, "open waits", ["a", "b"])
    assert script.seen == ["open", "a", "b", "close"]
