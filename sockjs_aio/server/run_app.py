"""Runs an application so that its end loses nobody: aiohttp's `run_app`, with another end."""

import asyncio
import contextlib
import inspect
import logging
import signal
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import async_timeout
from aiohttp import web

from sockjs_aio.core.closing import Closing
from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.server.admission import endpoint_of
from sockjs_aio.server.aiohttp_internals import guard
from sockjs_aio.server.forks import give_forks_their_signals

logger = logging.getLogger("sockjs_aio")

NOT_READY = 404
"""What `readyz` answers once the end is announced.

With ``http-check disable-on-404`` haproxy then sends no new sessions and leaves those that there
are; any other failure marks the process as down, which cuts its streams and WebSockets.  Balancers
that know ready and not ready alone, as Kubernetes, take 404 for the latter.
"""


def registries_of(app: web.Application) -> list[SessionRegistry]:
    """Return the sessions of the SockJS services of `app` and of its sub-applications."""
    endpoints = [endpoint_of(route.handler) for route in app.router.routes()]
    registries = [endpoint.registry for endpoint in endpoints if endpoint is not None]
    return list(dict.fromkeys(registries))  # each has several routes


def endings_of(app: web.Application) -> list[Closing]:
    """Return what ends these services."""
    return [registry.closing for registry in registries_of(app)]


async def healthz(request: web.Request) -> web.StreamResponse:
    """Tell that the process is alive: ``app.router.add_get("/healthz", healthz)``."""
    return _answer(200, "ok\n")


async def readyz(request: web.Request) -> web.StreamResponse:
    """Tell whether new clients may come: 200, or 404 once the end was announced.

    ``app.router.add_get("/readyz", readyz)``; it asks all services of the application, however
    they were mounted, and of its sub-applications.  404 has haproxy leave a process its sessions.
    """
    if any(ending.is_known for ending in endings_of(request.match_info.apps[0])):
        return _answer(NOT_READY, "draining\n")
    return _answer(200, "ok\n")


def _answer(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, headers={"Cache-Control": "no-store"})


@dataclass(frozen=True)
class Drain:
    """How a process ends.

    Raises:
        ValueError: If a time is below 0.
    """

    notice: float = 2.0
    """Seconds for load balancers to notice that no new clients may come."""
    over: float = 2.0
    """Seconds over which sessions are closed."""
    limit: float = 30.0
    """Seconds after which it ends, whoever is left."""

    def __post_init__(self) -> None:
        for name in ("notice", "over", "limit"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)!r} cannot be: seconds, 0 or above")

    async def run(self, app: web.Application) -> None:
        """Do all that comes before the listener is closed, within `limit`."""
        endings = endings_of(app)
        loop = asyncio.get_running_loop()
        start = loop.time()
        logger.info(
            "ending: readiness is off; in %g s sessions are closed, over %g s, for at most %g s",
            self.notice,
            self.over,
            self.limit,
        )
        try:
            async with async_timeout.timeout(self.limit):
                for ending in endings:
                    ending.is_announced = True
                await asyncio.sleep(self.notice)
                count = sum(len(registry) for registry in registries_of(app))
                logger.info("closing %d sessions over %g s", count, self.over)
                await asyncio.gather(*(ending.drain(self.over) for ending in endings))
        except asyncio.TimeoutError:
            logger.warning("the end has taken %g s: whoever is left is cut off", self.limit)
        else:
            logger.info("the drain is over, after %.1f s", loop.time() - start)


def run_app(
    app: web.Application | Awaitable[web.Application],
    *,
    drain_notice: float = Drain.notice,
    drain_over: float = Drain.over,
    drain_limit: float = Drain.limit,
    shutdown_timeout: float = 10.0,
    handle_signals: bool = True,
    **options: Any,
) -> None:
    """Run `app` as aiohttp's `web.run_app` does, until SIGTERM or SIGINT.

    At SIGTERM nobody is lost: `readyz` answers 404 and `SockJSRouter.health` 503; for
    `drain_notice` seconds all goes on; then all sessions are closed with
    ``c[1012,"Service restart"]``, spread over `drain_over` seconds, and polls are answered with
    that; at last the listener is closed, and `app` shut down.
    A second SIGTERM ends it at once, and so does SIGINT (Ctrl-C) at any time, as with aiohttp.
    On Windows there is Ctrl-C alone.

    Args:
        app: The application, or an awaitable that returns it.
        drain_notice: Seconds for load balancers to notice: two of their checks.
        drain_over: Seconds over which sessions are closed.
        drain_limit: Seconds after which the listener is closed, whoever is left.
        shutdown_timeout: As aiohttp's: how long handlers have after that.
        handle_signals: As aiohttp's.
        options: The others of `web.run_app`.

    Raises:
        ValueError: If a time is below 0.
        RuntimeError: If it is called while an event loop runs: by the import of a module, perhaps.
    """
    drain = Drain(drain_notice, drain_over, drain_limit)
    check_no_loop("run_app", app)
    web.run_app(
        _prepared(app, drain if handle_signals else None),
        shutdown_timeout=shutdown_timeout,
        handle_signals=handle_signals,
        **options,
    )


async def _prepared(
    app: web.Application | Awaitable[web.Application], drain: Drain | None
) -> web.Application:
    made = await app if inspect.isawaitable(app) else app
    guard(made)  # its services may be those of sub-applications
    if drain is not None:
        made.on_startup.append(_Terminator(drain).watch)
    return made


def check_no_loop(name: str, app: object = None) -> None:
    """Raise RuntimeError if an event loop runs, which keeps `name` from running one.

    Args:
        name: Of the function that was called.
        app: What nobody is going to await then, if that is a coroutine.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if inspect.iscoroutine(app):
        app.close()
    raise RuntimeError(
        f"{name} was called while an event loop runs, which it would be in the way of; if that was "
        'at the import of a module, put the call below `if __name__ == "__main__":`'
    )


class _Terminator:
    """Puts a drain before the end that SIGTERM stands for."""

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._ending: asyncio.Task[None] | None = None

    async def watch(self, app: web.Application) -> None:
        """Take SIGTERM, for which aiohttp has a handler by now."""
        give_forks_their_signals()
        with contextlib.suppress(NotImplementedError):  # Windows has no such handlers
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._begin, app)

    def _begin(self, app: web.Application) -> None:
        if self._ending is None:
            logger.info("SIGTERM: the end begins")
            self._ending = asyncio.get_running_loop().create_task(self._end(app))
        else:
            logger.warning("SIGTERM once more: the end waits for no client")
            _end_now()

    async def _end(self, app: web.Application) -> None:
        await self._drain.run(app)
        _end_now()


def _end_now() -> None:
    signal.raise_signal(signal.SIGINT)  # aiohttp ends its server in an orderly way
