"""An application that ends with `sockjs_aio.run_app`; see test_run_app.py."""

import asyncio
import sys

from aiohttp import web

from sockjs_aio import Drain, SockJSRouter, healthz, readyz, run_app
from tests.conftest import Echo

PAID = web.AppKey("paid", list[str])


async def pay(request: web.Request) -> web.Response:
    """Do what must not be left half done."""
    request.app[PAID].append("begun")
    await asyncio.sleep(0.5)
    request.app[PAID].append("done")
    return web.Response()


async def paid(request: web.Request) -> web.Response:
    return web.Response(status={0: 503, 1: 404}.get(len(request.app[PAID]), 200))


async def make(cleanup: float) -> web.Application:
    async def clean_up(_app: web.Application) -> None:
        await asyncio.sleep(cleanup)

    app = web.Application()
    app[PAID] = []
    app.on_cleanup.append(clean_up)
    router = SockJSRouter(Echo, "/echo", {"shutdown_timeout": 5})
    router.attach(app)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/health", router.health)
    app.router.add_post("/pay", pay)
    app.router.add_get("/paid", paid)
    return app


if __name__ == "__main__":
    port, notice, over, limit, cleanup = sys.argv[1:]
    run_app(
        make(float(cleanup)),
        host="127.0.0.1",
        port=int(port),
        drain=Drain(float(notice), float(over), float(limit)),
        print=None,
    )
