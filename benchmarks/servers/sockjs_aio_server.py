"""Echo and broadcast on sockjs-aio, with default settings."""

import argparse
from typing import ClassVar

from aiohttp import web

from sockjs_aio import ConnectionInfo, SockJSConnection, SockJSRouter


class Echo(SockJSConnection):
    async def on_message(self, message: str | bytes) -> None:
        self.send(message)


class Broadcast(SockJSConnection):
    everybody: ClassVar[set["Broadcast"]] = set()

    async def on_open(self, info: ConnectionInfo) -> None:
        self.everybody.add(self)

    async def on_message(self, message: str | bytes) -> None:
        self.broadcast(self.everybody, message)

    async def on_close(self) -> None:
        self.everybody.discard(self)


def make_app(heartbeat: float = 25, message_rate: float | None = None) -> web.Application:
    app = web.Application()
    settings = {"heartbeat_delay": heartbeat, "message_rate": message_rate}
    for prefix, connection in (("/echo", Echo), ("/broadcast", Broadcast)):
        SockJSRouter(connection, prefix, settings).attach(app)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--heartbeat", type=float, default=25, help="seconds (25)")
    parser.add_argument("--message-rate", type=float, help="(no limit)")
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    loop = None
    if options.uvloop:
        import uvloop

        loop = uvloop.new_event_loop()
    web.run_app(
        make_app(options.heartbeat, options.message_rate),
        host="127.0.0.1",
        port=options.port,
        handler_cancellation=True,
        access_log=None,
        loop=loop,
    )


if __name__ == "__main__":
    main()
