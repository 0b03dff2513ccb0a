"""A node in a process of its own: ``python -m tests.nodes.node --port 0 '{"nodes": {...}}'``.

Its clients talk to an `Obedient`; ``/stats`` tells how it is.
"""

import argparse
import asyncio
import json
import logging
import ssl
import sys
import time
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio import Drain, Grant, Nodes, SockJSRouter, run_app
from sockjs_aio.brokers.redis import RedisBroker
from tests.adapters import add_adapters
from tests.process import Obedient


class Inhabitant(Obedient):
    """Tells what it was told of the request that has opened it."""

    async def do_info(self) -> None:
        relayed = [name for name in self.info.headers if name.lower().startswith("sockjs")]
        self.send(json.dumps([self.info.ip, self.info.headers.get("X-A"), relayed]))

    async def do_extend(self, seconds: str) -> None:
        """Be authorized for so long from now on."""
        self.extend(time.time() + float(seconds))
        self.send("extended")

    async def do_wait(self, seconds: str) -> None:
        """Wait, as a slow hook does."""
        await asyncio.sleep(float(seconds))

    async def do_subscribe(self, channel: str) -> None:
        await self.subscribe(channel)
        self.send("subscribed")

    async def on_gap(self, channel: str) -> None:
        self.send(f"gap {channel}")

    async def do_replace(self, channel: str) -> None:
        """Close all other sessions of the channel."""
        await self.subscribe(channel)
        await self.close_channel(channel, 4002, "Signed in elsewhere", keep=self)
        self.send("alone")


async def authorize(request: web.Request) -> bool | Grant:
    if seconds := request.query.get("seconds"):
        return Grant(True, until=time.time() + float(seconds))
    return request.query.get("key") != "wrong"


def make_app(options: dict[str, Any]) -> web.Application:
    nodes = Nodes(**options["nodes"])

    async def receives(request: web.Request) -> web.Response:
        session = router._registry.get(request.query["session"])
        return web.json_response(session is not None and session.has_http_writer)

    async def stats(_request: web.Request) -> web.Response:
        work = nodes._work
        return web.json_response(
            {
                "sessions": router.session_count,
                "opened": Obedient.opened,
                "state": nodes.state,
                "relayed": nodes.relayed,
                "connections": len(connections),
                "claims": len(work.locator.claims) if work else 0,
                "tasks": len(asyncio.all_tasks()),
                "largest body": largest.total_bytes if largest else 0,
                "ends": dict(Obedient.ends),
            }
        )

    connections = set()

    @web.middleware
    async def note_connection(request: web.Request, handler: Handler) -> web.StreamResponse:
        if "Sockjs-Relay" in request.headers and request.transport is not None:
            connections.add(request.transport.get_extra_info("peername"))
        return await handler(request)

    async def be_eager(_app: web.Application) -> None:
        if sys.version_info >= (3, 12):
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)

    app = web.Application(middlewares=[note_connection])
    if options.get("eager"):
        app.on_startup.append(be_eager)
    nodes.attach(app)
    largest: aiohttp.StreamReader | None = None

    @web.middleware
    async def note_body(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal largest
        try:
            return await handler(request)
        finally:
            if largest is None or request.content.total_bytes > largest.total_bytes:
                largest = request.content

    app.middlewares.insert(0, note_body)
    broker = RedisBroker(options["broker"]) if "broker" in options else None
    settings = options.get("settings")
    router = SockJSRouter(Inhabitant, "/echo", settings, authorize=authorize, broker=broker)
    router.attach(app)
    part = web.Application()
    SockJSRouter(Inhabitant, "/of/it").attach(part)
    app.add_subapp("/part", part)
    add_adapters(app)
    app.router.add_get("/stats", stats)
    app.router.add_get("/receives", receives)
    app.router.add_get("/health", router.health)
    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("options", type=json.loads)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    context = None
    if certificate := arguments.options.get("certificate"):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    run_app(
        make_app(arguments.options),
        host=arguments.host,
        port=arguments.port,
        access_log=None,
        ssl_context=context,
        drain=Drain(notice=0.2, over=0.2),
        print=lambda *_: print("ready", flush=True),
    )


if __name__ == "__main__":
    main()
