"""Applications that have a router's routes, added by hand; see test_added_by_hand.py."""

import asyncio
import sys

from aiohttp import web

from sockjs_aio import ConnectionInfo, Drain, SockJSConnection, SockJSRouter, run_app, tornado

SETTINGS = {"shutdown_timeout": 0.2}


async def wait_for_ever() -> None:
    print("waits", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("cancelled", flush=True)


class Waiting(SockJSConnection):
    async def on_message(self, message: str | bytes) -> None:
        await wait_for_ever()

    async def on_close(self) -> None:
        print("closed", flush=True)


class Watching(SockJSConnection):
    async def on_open(self, info: ConnectionInfo) -> None:
        await self.subscribe("room", member="a", presence=True)

    async def on_close(self) -> None:
        print("closed", flush=True)


async def wait_in_presence(channel: str, joined: list[str], left: list[str]) -> None:
    await wait_for_ever()


class WaitingAsInTornado(tornado.SockJSConnection):
    async def on_message(self, message: str | bytes) -> None:
        await wait_for_ever()

    def on_close(self) -> None:
        print("closed", flush=True)


def make() -> web.Application:
    return _with(SockJSRouter(Waiting, "/echo", SETTINGS).routes)


def make_with_presence() -> web.Application:
    return _with(SockJSRouter(Watching, "/echo", SETTINGS, on_presence=wait_in_presence).routes)


def make_as_in_tornado() -> web.Application:
    return _with(tornado.SockJSRouter(WaitingAsInTornado, "/echo", SETTINGS).urls)


def make_with_sub_application() -> web.Application:
    app = _with([])
    inner = web.Application()
    inner.add_routes(SockJSRouter(Waiting, "", SETTINGS).routes)
    app.add_subapp("/echo", inner)
    return app


def _with(routes: list[web.RouteDef]) -> web.Application:
    async def clean_up(_app: web.Application) -> None:
        print("cleaned up", flush=True)

    app = web.Application()
    app.add_routes(routes)
    app.on_cleanup.append(clean_up)
    return app


if __name__ == "__main__":
    run_app(
        globals()[sys.argv[1]](),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        drain=Drain(notice=0, over=0),
        print=None,
    )
