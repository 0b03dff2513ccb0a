"""What the workers of tests serve; settings come by the environment.

Hundreds of processes import this, so it imports only what it needs.
"""

import asyncio
import importlib
import json
import os

from aiohttp import web

from sockjs_aio import SockJSConnection, SockJSRouter
from tests.adapters import add_adapters

GENERATION = os.environ.get("GENERATION_FILE", "")


class Numbered(SockJSConnection):
    """Echoes, and tells its process if asked; counts aloud on ``count``.

    What it has sent at its end it notes in a file, for the test to compare.
    """

    sent = 0
    counting: "asyncio.Task[None] | None" = None

    async def on_message(self, message: str | bytes) -> None:
        if message == "pid":
            self.send(str(os.getpid()))
        elif message == "count":
            self.counting = asyncio.create_task(self.count())
        elif message == "info":
            self.send(json.dumps([self.session.info.ip, self.session.info.headers.get("X-A")]))
        elif message == "subscribe":
            await self.subscribe("news")
            self.send("subscribed")
        elif str(message).startswith("watch "):
            await self.subscribe("room", member=str(message)[6:], presence=True)
        elif str(message).startswith("publish "):
            await self.publish("news", str(message)[8:])
        else:
            self.send(message)

    async def on_gap(self, channel: str) -> None:
        self.send(f"gap {channel}")

    async def count(self) -> None:
        while not self.is_closed:
            self.send(str(self.sent))
            self.sent += 1
            await asyncio.sleep(0.01)

    async def on_close(self) -> None:
        if self.counting is not None:
            self.counting.cancel()
            _note(f"{self.session.id} {self.sent}\n")


def _note(line: str) -> None:
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(line)


def _generation() -> str:
    if not GENERATION:
        return ""
    with open(GENERATION) as file:
        return file.read()


LOADED = _generation()
if LOADED == "broken":
    raise RuntimeError("a test has asked for it")
if LOADED == "incomplete":
    importlib.import_module("nowhere")


async def make() -> web.Application:
    async def loaded(_request: web.Request) -> web.Response:
        return web.json_response({"pid": os.getpid(), "generation": LOADED})

    async def die(_request: web.Request) -> web.Response:
        os._exit(7)

    async def on_presence(channel: str, joined: list[str], left: list[str]) -> None:
        router.broadcast(router.subscribers(channel), json.dumps([joined, left]))

    app = web.Application()
    settings = json.loads(os.environ.get("SETTINGS", "{}"))
    broker = None
    if "REDIS" in os.environ:
        from sockjs_aio.brokers.redis import RedisBroker

        broker = RedisBroker(os.environ["REDIS"])
    router = SockJSRouter(Numbered, "/echo", settings, broker=broker, on_presence=on_presence)
    router.attach(app)
    app.router.add_get("/health", router.health)
    add_adapters(app)
    app.router.add_get("/loaded", loaded)
    app.router.add_get("/die", die)
    if LOADED == "mortal":
        app.on_startup.append(_die)
    if LOADED == "hanging":
        app.on_startup.append(_hang)
    return app


async def _die(_app: web.Application) -> None:
    os._exit(7)


async def _hang(_app: web.Application) -> None:
    await asyncio.Event().wait()
