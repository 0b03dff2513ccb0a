"""A node in a process of its own: ``python -m tests.brokers.node --port 0 '{"redis": URL}'``.

Its clients talk to a `Talker`; ``/members?channel=news`` tells who is there, and ``/told`` what
`on_presence` was told.
"""

import argparse
import json
import logging

from aiohttp import web

from sockjs_aio import SockJSRouter
from sockjs_aio.brokers.redis import RedisBroker
from tests.brokers.talker import Talker


def make_app(options: dict[str, object]) -> web.Application:
    settings = {"presence_linger": options.pop("presence_linger", 0)}
    broker = RedisBroker(str(options.pop("redis")), **options)  # type: ignore[arg-type]
    calls: list[tuple[str, list[str], list[str]]] = []

    async def on_presence(channel: str, joined: list[str], left: list[str]) -> None:
        calls.append((channel, joined, left))

    async def told(_request: web.Request) -> web.Response:
        return web.json_response(calls)

    async def members(request: web.Request) -> web.Response:
        return web.json_response(sorted(await router.members(request.query["channel"])))

    app = web.Application()
    router = SockJSRouter(Talker, "/echo", settings, broker=broker, on_presence=on_presence)
    router.attach(app)
    app.router.add_get("/members", members)
    app.router.add_get("/told", told)
    app.router.add_get("/health", router.health)
    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("options", type=json.loads)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    web.run_app(
        make_app(arguments.options),
        host="127.0.0.1",
        port=arguments.port,
        handler_cancellation=True,
        access_log=None,
        print=lambda *_: print("ready", flush=True),
    )


if __name__ == "__main__":
    main()
