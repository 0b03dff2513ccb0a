"""A node in a process of its own: ``python -m tests.brokers.node --port 0 '{"redis": URL}'``.

Its clients talk to a `Talker`; ``/members?channel=news`` tells who is there.
"""

import argparse
import json
import logging

from aiohttp import web

from sockjs_aio import SockJSRouter
from sockjs_aio.brokers.redis import RedisBroker
from tests.brokers.talker import Talker


def make_app(options: dict[str, object]) -> web.Application:
    broker = RedisBroker(str(options.pop("redis")), **options)  # type: ignore[arg-type]

    async def members(request: web.Request) -> web.Response:
        return web.json_response(sorted(await router.members(request.query["channel"])))

    app = web.Application()
    router = SockJSRouter(Talker, "/echo", broker=broker)
    router.attach(app)
    app.router.add_get("/members", members)
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
