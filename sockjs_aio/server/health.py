"""Health checks for load balancers and orchestrators: is the process alive, and is it ready?"""

import json
import os

from aiohttp import web

from sockjs_aio.brokers.base import Broker
from sockjs_aio.server.aiohttp_internals import apps_of
from sockjs_aio.server.headers import JSON, uncached
from sockjs_aio.server.service import Service, services_of

NOT_READY = 404
"""Status of `readyz` once a drain is announced.

With ``http-check disable-on-404``, haproxy then sends no new sessions and keeps existing ones.  Any
other failure status marks the process as down, and haproxy cuts its streams and WebSockets.  Other
load balancers, such as Kubernetes, treat 404 as "not ready".
"""


async def healthz(request: web.Request) -> web.StreamResponse:
    """Answer 200 while the process is alive: ``app.router.add_get("/healthz", healthz)``."""
    return _answer(200, "ok\n")


async def readyz(request: web.Request) -> web.StreamResponse:
    """Answer 200 while new clients may come, and 404 once a drain is announced.

    Mount it with ``app.router.add_get("/readyz", readyz)``.  It covers all services of the
    application and its sub-applications, however they were mounted.  On 404, haproxy lets the
    process keep its sessions.
    """
    services = services_of(apps_of(request)[0])
    if any(service.registry.closing.is_draining for service in services):
        return _answer(NOT_READY, "draining\n")
    return _answer(200, "ok\n")


def _answer(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, headers={"Cache-Control": "no-store"})


def service_health(service: Service, broker: Broker | None) -> web.Response:
    """Answer 200 while new clients may come, and 503 once a drain is announced."""
    status, text = (503, "draining") if service.registry.closing.is_draining else (200, "ok")
    report: dict[str, object] = {"status": text, "sessions": len(service.registry)}
    report["process"] = os.getpid()  # for which process this speaks
    if service.worker is not None:
        report["worker"] = service.worker
    if broker is not None:
        report["broker"] = broker.state  # for people to read: the process serves without it too
    if service.relay is not None and service.relay.state is not None:
        report["nodes"] = service.relay.state
    return web.Response(status=status, body=json.dumps(report).encode(), headers=uncached(JSON))
