"""Multiplexing: several channels over one connection."""

import asyncio
import json

import pytest
from aiohttp import web

from sockjs_aio import broadcast, tornado
from sockjs_aio.multiplex import MultiplexConnection
from sockjs_aio.tornado.multiplex import MultiplexConnection as TornadoMultiplex
from tests import clients
from tests.conftest import Echo, Recorder, Serve
from tests.stalls.inputs import MIB, TEXTS, filled
from tests.stalls.peers import Peer
from tests.stalls.rooms import Tornado
from tests.stalls.throwing import Thrower

# Channels of one connection.

SERVICES = [f"channel{number}" for number in range(5)]


@pytest.mark.parametrize("text", [TEXTS["fragile"], TEXTS["quotes"], "x"])
async def test_broadcast_to_many_channels_does_not_hold_up_the_loop(
    throw: Thrower, serve: Serve, text: str
) -> None:
    class Noted(Recorder):
        pass

    class Room(Tornado):
        pass

    settings = {"send_queue_limit": 256 * MIB}
    app = web.Application()
    carrier = TornadoMultiplex.get(**dict.fromkeys(SERVICES, Room))
    router = tornado.SockJSRouter(carrier, "/tornado", settings)
    router.attach(app)
    served = await serve(
        MultiplexConnection.get(**dict.fromkeys(SERVICES, Noted)), settings=settings, app=app
    )
    for prefix in ("/echo", "/tornado"):
        served.prefix = prefix
        for _ in range(3):
            client = await clients.WebSocket.open(served)
            await client.send(*(f"sub,{service}" for service in SERVICES))
            client.stop_reading()
    await Noted.until("open", 3 * len(SERVICES))
    while len(Room.all) < 3 * len(SERVICES):
        await asyncio.sleep(0.01)

    async def attempt() -> None:
        broadcast(Noted.connections, text)
        await asyncio.sleep(0)
        router.broadcast(Room.all, text)
        for _ in range(20):
            await asyncio.sleep(0)

    await throw(attempt)


class TornadoEcho(tornado.SockJSConnection):
    def on_message(self, message: str) -> None:
        self.send(message)


VERBS = {
    "subscriptions": ["sub,news", "uns,news"],
    "messages": ["msg,news,x"],
    "commas": ["," * 100],
    "unknown": ["sub,nobody", "msg,nobody,x", "x"],
}


def many(messages: list[str]) -> bytes:
    return json.dumps((messages * 10_000)[:10_000]).encode()


LARGE = {
    **{name: many(verbs) for name, verbs in VERBS.items()},
    "letters": filled('["msg,news,', "a", '"]'),
    "quotes": filled('["msg,news,', '\\"', '"]'),
    "fragile": filled('["msg,news,', "a\u200c", '"]'),
    "half-pairs": filled('["msg,news,', "\\ud800", '"]'),
    "one-of-commas": filled('["msg,', ",", '"]'),
    "long-name": filled('["sub,', "n", '"]'),
}


@pytest.mark.parametrize("payload", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("path", ["/echo/0/1/websocket", "/tornado/0/1/websocket"])
async def test_costly_messages_of_channels_do_not_hold_up_the_loop(
    throw: Thrower, serve: Serve, path: str, payload: bytes
) -> None:
    app = web.Application()
    tornado.SockJSRouter(TornadoMultiplex.get(news=TornadoEcho), "/tornado").attach(app)
    served = await serve(MultiplexConnection.get(news=Echo), app=app)

    def exchange() -> None:
        peer = Peer(served.port, path)
        peer.send(1, b'["sub,news"]', payload)
        peer.send(8, b"\x03\xe8")
        peer.until(b"\x03\xe8")
        peer.close()

    await throw(lambda: asyncio.to_thread(exchange))
