"""What the server sends: messages and broadcasts."""

import asyncio
import json

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import broadcast, tornado
from tests import clients
from tests.conftest import Recorder, Serve
from tests.process import PATIENCE
from tests.stalls.inputs import MIB, TEXTS
from tests.stalls.rooms import Members, Silent, Tornado, empty, fill
from tests.stalls.throwing import Thrower

# What the server sends.


@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_costly_texts_are_sent_without_holding_up_the_loop(
    throw: Thrower,
    serve: Serve,
    kind: type[clients.Client],
    text: str,
) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings={"send_queue_limit": 64 * MIB})
    client = await kind.open(served)
    await Noted.until("open")
    receiver = Noted.connections[0]
    client.stop_reading()  # what it does in this loop is not the server's

    async def attempt() -> None:
        receiver.send(text)
        for _ in range(10):
            await asyncio.sleep(0)

    await throw(attempt)
    client.abort()


# Broadcasts.


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_costly_json_is_sent_without_holding_up_the_loop(
    throw: Thrower, serve: Serve, text: str
) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings={"send_queue_limit": 64 * MIB})
    client = await clients.WebSocket.open(served)
    await Noted.until("open")
    client.stop_reading()
    json_text = json.dumps({"text": text[: MIB // 2]}, ensure_ascii=False)

    async def attempt() -> None:
        Noted.connections[0].session.send_json(json_text)
        for _ in range(10):
            await asyncio.sleep(0)

    await throw(attempt)
    client.abort()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("text", [*TEXTS.values(), "x"], ids=[*TEXTS, "short"])
async def test_broadcast_of_costly_texts_does_not_hold_up_the_loop(
    throw: Thrower, serve: Serve, text: str
) -> None:
    class Noted(Recorder):
        pass

    settings = {"send_queue_limit": 64 * MIB, "heartbeat_delay": 60}
    served = await serve(Noted, settings=settings)
    members = [await kind.open(served) for kind in clients.ALL for _ in range(5)]
    await Noted.until("open", len(members))
    for member in members:
        member.stop_reading()

    async def attempt() -> None:
        broadcast(Noted.connections, text)
        for _ in range(20):
            await asyncio.sleep(0)

    await throw(attempt)
    for member in members:
        member.abort()


async def test_broadcast_to_ten_thousand_does_not_hold_up_the_loop(
    throw: Thrower, serve: Serve
) -> None:
    class Room(Members):
        pass

    served = await serve(Room)
    Room.all = [session.connection for session in fill(served.router, 10_000)]

    async def attempt() -> None:
        broadcast(Room.all, "x")
        for _ in range(100):
            await asyncio.sleep(0)

    await throw(attempt)
    await empty(served.router)


async def test_broadcast_of_the_tornado_adapter_does_not_hold_up_the_loop(
    throw: Thrower, serve: Serve
) -> None:
    class Room(Tornado):
        pass

    app = web.Application()
    router = tornado.SockJSRouter(Room, "/tornado")
    router.attach(app)
    await serve(Silent, app=app)
    sessions = fill(router._router, 2000)
    async with async_timeout.timeout(PATIENCE):
        while len(Room.all) < len(sessions):
            await asyncio.sleep(0)

    async def attempt() -> None:
        router.broadcast(Room.all, "x")
        for _ in range(100):
            await asyncio.sleep(0)

    await throw(attempt)
    await empty(router._router)
