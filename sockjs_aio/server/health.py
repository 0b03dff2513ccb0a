"""What load balancers and orchestrators ask: whether the process is alive, and may have clients."""

import json

from aiohttp import web

from sockjs_aio.brokers.base import Broker
from sockjs_aio.server.headers import JSON, uncached
from sockjs_aio.server.service import Service, services_of

NOT_READY = 404
"""What `readyz` answers once the end is announced.

With ``http-check disable-on-404`` haproxy then sends no new sessions and leaves those that there
are; any other failure marks the process as down, which cuts its streams and WebSockets.  Balancers
that know ready and not ready alone, as Kubernetes, take 404 for the latter.
"""


async def healthz(request: web.Request) -> web.StreamResponse:
    """Tell that the process is alive: ``app.router.add_get("/healthz", healthz)``."""
    return _answer(200, "ok\n")


async def readyz(request: web.Request) -> web.StreamResponse:
    """Tell whether new clients may come: 200, or 404 once the end was announced.

    ``app.router.add_get("/readyz", readyz)``; it asks all services of the application, however
    they were mounted, and of its sub-applications.  404 has haproxy leave a process its sessions.
    """
    services = services_of(request.match_info.apps[0])
    if any(service.registry.closing.is_draining for service in services):
        return _answer(NOT_READY, "draining\n")
    return _answer(200, "ok\n")


def _answer(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, headers={"Cache-Control": "no-store"})


def service_health(service: Service, broker: Broker | None) -> web.Response:
    """Answer a load balancer: 200 while new clients may come, 503 once the end is announced."""
    status, text = (503, "draining") if service.registry.closing.is_draining else (200, "ok")
    report: dict[str, object] = {"status": text, "sessions": len(service.registry)}
    if broker is not None:
        report["broker"] = broker.state  # for people: without it this process still serves
    if service.relay is not None and service.relay.state is not None:
        report["nodes"] = service.relay.state
    return web.Response(status=status, body=json.dumps(report).encode(), headers=uncached(JSON))
