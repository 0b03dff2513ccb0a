"""A file in which a worker that is replaced tells its successor which sessions have ended.

It is in the directory of the workers' sockets, which no other user can enter.
"""

import functools
import json
import logging
import os
import time
from pathlib import Path

from aiohttp import web

from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.protocol.frames import close_frame
from sockjs_aio.server.service import service_of

logger: logging.Logger = logging.getLogger("sockjs_aio")


def write(app: web.Application, path: str) -> None:
    """Write which sessions of the services of `app` have ended, and how, to `path`."""
    left = {}
    for name, registry in _registries(app).items():
        offset = time.time() - registry.now()  # the other process's loop may use another clock
        left[name] = [
            (session_id, ended_at + offset, frame.code, frame.reason)
            for session_id, ended_at, frame in registry.endings()
        ]
    try:
        Path(path + ".new").write_text(json.dumps(left))
        os.replace(path + ".new", path)  # so that it is never read half written
    except OSError as error:
        logger.warning("cannot tell the new worker which sessions have ended: %s", error)


def read(app: web.Application, path: str) -> None:
    """Have the services of `app` remember the ended sessions in `path`, if it exists."""
    try:
        left = json.loads(Path(path).read_text())
        Path(path).unlink()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        logger.warning("cannot read which sessions the old worker has ended: %s", error)
        return
    make_frame = functools.lru_cache(close_frame)
    for name, registry in _registries(app).items():
        offset = time.time() - registry.now()
        registry.ended_sessions.take_over(
            (session_id, ended_at - offset, make_frame(code, reason))
            for session_id, ended_at, code, reason in left.get(name, ())
        )


def _registries(app: web.Application) -> dict[str, SessionRegistry]:
    """Return the registries of all services of `app`, by their URLs."""
    found: dict[SessionRegistry, str] = {}
    for route in app.router.routes():
        service = service_of(route.handler)
        if service is not None and route.resource is not None:
            found.setdefault(service.registry, route.resource.canonical)
    return {name: registry for registry, name in found.items()}
