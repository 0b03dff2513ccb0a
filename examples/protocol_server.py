"""The standard test server, against which SockJS conformance suites and client tests run.

python examples/protocol_server.py --host 127.0.0.1 --port 8081 [--uvloop]
"""

import asyncio
import sys
from pathlib import Path
from typing import Any, ClassVar

from aiohttp import web

from sockjs_aio import ConnectionInfo, SockJSConnection, SockJSRouter, readyz

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that you can run this file directly
from examples.serving import make_parser, serve


class Echo(SockJSConnection):
    async def on_message(self, message: str | bytes) -> None:
        self.send(message)


class Close(SockJSConnection):
    async def on_open(self, info: ConnectionInfo) -> None:
        self.close()


class Ticker(SockJSConnection):
    _ticking: "asyncio.Task[None]"

    async def on_open(self, info: ConnectionInfo) -> None:
        self._ticking = asyncio.create_task(self._tick())

    async def on_close(self) -> None:
        self._ticking.cancel()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.send("tick!")


class Broadcast(SockJSConnection):
    clients: ClassVar[set[SockJSConnection]] = set()

    async def on_open(self, info: ConnectionInfo) -> None:
        self.clients.add(self)

    async def on_message(self, message: str | bytes) -> None:
        self.broadcast(self.clients, message)

    async def on_close(self) -> None:
        self.clients.discard(self)


class Amplify(SockJSConnection):
    async def on_message(self, message: str) -> None:
        is_allowed = message.isascii() and message.isdigit() and len(message) < 3
        power = int(message) if is_allowed and int(message) < 20 else 1
        self.send("x" * 2**power)


class Presence(SockJSConnection):
    present: ClassVar[set["Presence"]] = set()
    name: str | None = None

    async def on_message(self, message: str) -> None:
        if self.name is None:
            self.name = message
            self.present.add(self)
            self.broadcast(self.present, f"+{message}")

    async def on_close(self) -> None:
        if self.name is not None:
            self.present.discard(self)
            self.broadcast(self.present, f"-{self.name}")


SERVICES: dict[str, tuple[type[SockJSConnection], dict[str, Any]]] = {
    "/echo": (Echo, {"response_limit": 4096}),
    "/echo_default": (Echo, {}),
    "/disabled_websocket_echo": (
        Echo,
        {"disabled_transports": ["websocket", "rawwebsocket"], "response_limit": 4096},
    ),
    "/cookie_needed_echo": (Echo, {"jsessionid": True, "response_limit": 4096}),
    "/close": (Close, {}),
    "/ticker": (Ticker, {}),
    "/broadcast": (Broadcast, {}),
    "/amplify": (Amplify, {}),
    "/presence": (Presence, {}),
}


def make_app() -> web.Application:
    app = web.Application()
    for prefix, (connection, settings) in SERVICES.items():
        SockJSRouter(connection, prefix, settings).attach(app)
    app.router.add_get("/readyz", readyz)
    return app


def main() -> None:
    parser = make_parser(None, "The standard test server.", port=8081)
    parser.add_argument("--uvloop", action="store_true", help="run on uvloop")
    parser.add_argument("--adapter", choices=["tornado"], help="run the services on this adapter")
    arguments = parser.parse_args()
    loop = None
    if arguments.uvloop:
        import uvloop

        loop = uvloop.new_event_loop()
    app = make_app()
    if arguments.adapter == "tornado":
        from examples.tornado.services import make_app as make_tornado_app

        app = make_tornado_app()
    serve(app, arguments, loop=loop)


if __name__ == "__main__":
    main()
