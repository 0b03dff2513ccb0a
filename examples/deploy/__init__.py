"""A service to deploy: what is published to the channel ``news`` goes to all of its clients.

The files beside it run it with systemd, with Docker Compose and on Kubernetes: see
docs/deployment.md.  Its options are environment variables.
"""

import os
from collections.abc import Mapping

from aiohttp import web

from sockjs_aio import (
    ConnectionInfo,
    Drain,
    MemoryBroker,
    Nodes,
    SockJSConnection,
    SockJSRouter,
    healthz,
    readyz,
)
from sockjs_aio.brokers.redis import RedisBroker


class News(SockJSConnection):
    """Subscribes to the channel, and publishes what its client sends."""

    async def on_open(self, info: ConnectionInfo) -> None:
        await self.subscribe("news")

    async def on_message(self, message: str) -> None:
        await self.publish("news", message)


def make_app(environment: Mapping[str, str] = os.environ) -> web.Application:
    """Make the application, for ``serve`` and for `make_node`."""
    app = web.Application()
    redis = environment.get("REDIS")
    broker = RedisBroker(redis) if redis else MemoryBroker()
    SockJSRouter(News, "/news", broker=broker).attach(app)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


def make_node(environment: Mapping[str, str] = os.environ) -> web.Application:
    """Make the application as a node, if there is a secret for nodes."""
    app = make_app(environment)
    if secret := environment.get("NODES_SECRET"):
        Nodes(environment["REDIS"], url=node_url(environment), secret=secret).attach(app)
    return app


def node_url(environment: Mapping[str, str]) -> str:
    """Return where other nodes reach this one: at the address of its pod."""
    host, port = environment["POD_IP"], environment.get("PORT", "8080")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def drain(environment: Mapping[str, str] = os.environ) -> Drain:
    """Return the times of the drain, in seconds."""
    default = Drain()
    return Drain(
        notice=float(environment.get("DRAIN_NOTICE", default.notice)),
        over=float(environment.get("DRAIN_OVER", default.over)),
        limit=float(environment.get("DRAIN_LIMIT", default.limit)),
    )
