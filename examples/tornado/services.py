"""The services of the standard test server, in the style of sockjs-tornado."""

import asyncio
from typing import Any

from aiohttp import web

from sockjs_aio.tornado import SockJSConnection, SockJSRouter


class Echo(SockJSConnection):
    def on_message(self, message):
        self.send(message)


class Close(SockJSConnection):
    def on_open(self, info):
        self.close()


class Ticker(SockJSConnection):
    def on_open(self, info):
        self.timer = asyncio.get_running_loop().call_later(1, self.tick)

    def on_close(self):
        self.timer.cancel()

    def tick(self):
        self.send("tick!")
        self.timer = asyncio.get_running_loop().call_later(1, self.tick)


class Broadcast(SockJSConnection):
    clients = set()

    def on_open(self, info):
        self.clients.add(self)

    def on_message(self, message):
        self.broadcast(self.clients, message)

    def on_close(self):
        self.clients.discard(self)


class Amplify(SockJSConnection):
    def on_message(self, message):
        is_allowed = message.isascii() and message.isdigit() and len(message) < 3
        power = int(message) if is_allowed and int(message) < 20 else 1
        self.send("x" * 2**power)


class Presence(SockJSConnection):
    members = set()
    name = None

    def on_message(self, message):
        if self.name is None:
            self.name = message
            self.members.add(self)
            self.broadcast(self.members, "+" + message)

    def on_close(self):
        if self.name is not None:
            self.members.discard(self)
            self.broadcast(self.members, "-" + self.name)


PLAIN: dict[str, Any] = {"jsessionid": False, "verify_ip": False}
SERVICES: list[tuple[str, type[SockJSConnection], dict[str, Any]]] = [
    ("/echo", Echo, {"response_limit": 4096}),
    ("/echo_default", Echo, {}),
    (
        "/disabled_websocket_echo",
        Echo,
        {"disabled_transports": ["websocket", "rawwebsocket"], "response_limit": 4096},
    ),
    ("/cookie_needed_echo", Echo, {"jsessionid": True, "response_limit": 4096}),
    ("/close", Close, {}),
    ("/ticker", Ticker, {}),
    ("/broadcast", Broadcast, {}),
    ("/amplify", Amplify, {}),
    ("/presence", Presence, {}),
]


def make_app() -> web.Application:
    app = web.Application()
    for prefix, connection, settings in SERVICES:
        SockJSRouter(connection, prefix, {**PLAIN, **settings}).attach(app)
    return app
