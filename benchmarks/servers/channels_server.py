"""Ways to tell everybody: ``/broadcast`` to a set, ``/memory`` and ``/redis`` by a channel."""

import argparse

from aiohttp import web

from benchmarks.servers.sockjs_aio_server import Broadcast
from sockjs_aio import ConnectionInfo, SockJSConnection, SockJSRouter
from sockjs_aio.brokers.redis import RedisBroker


class Channel(SockJSConnection):
    async def on_open(self, info: ConnectionInfo) -> None:
        await self.subscribe("everybody")

    async def on_message(self, message: str) -> None:
        await self.publish("everybody", message)


def make_app(redis: str) -> web.Application:
    app = web.Application()
    SockJSRouter(Broadcast, "/broadcast").attach(app)
    SockJSRouter(Channel, "/memory").attach(app)
    SockJSRouter(Channel, "/redis", broker=RedisBroker(redis)).attach(app)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", required=True, metavar="URL")
    options = parser.parse_args()
    web.run_app(
        make_app(options.redis),
        host="127.0.0.1",
        port=options.port,
        handler_cancellation=True,
        access_log=None,
        reuse_port=True,  # the kernel spreads clients over several nodes
    )


if __name__ == "__main__":
    main()
