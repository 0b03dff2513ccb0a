"""An application that ends with `sockjs_aio.run_app`; see test_run_app.py."""

import sys

from aiohttp import web

from sockjs_aio import SockJSRouter, healthz, readyz, run_app
from tests.conftest import Echo


async def make() -> web.Application:
    app = web.Application()
    router = SockJSRouter(Echo, "/echo", {"shutdown_timeout": 5})
    router.attach(app)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/health", router.health)
    return app


if __name__ == "__main__":
    port, notice, over, limit = sys.argv[1:]
    run_app(
        make(),
        host="127.0.0.1",
        port=int(port),
        drain_notice=float(notice),
        drain_over=float(over),
        drain_limit=float(limit),
        print=None,
    )
