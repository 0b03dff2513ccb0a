"""Runs an application so that its end loses nobody: aiohttp's `run_app`, with another end."""

import asyncio
import contextlib
import inspect
import logging
import signal
from collections.abc import Awaitable
from typing import Any

from aiohttp import web

from sockjs_aio.server.aiohttp_internals import guard
from sockjs_aio.server.drain import Drain
from sockjs_aio.server.forks import give_forks_their_signals

logger = logging.getLogger("sockjs_aio")

_DEFAULT_DRAIN = Drain()


def run_app(
    app: web.Application | Awaitable[web.Application],
    *,
    drain: Drain = _DEFAULT_DRAIN,
    shutdown_timeout: float = 10.0,
    handle_signals: bool = True,
    **options: Any,
) -> None:
    """Run `app` as aiohttp's `web.run_app` does, until SIGTERM or SIGINT.

    At SIGTERM nobody is lost: `readyz` answers 404 and `SockJSRouter.health` 503; for
    `drain.notice` seconds all goes on; then all sessions are closed with
    ``c[1012,"Service restart"]``, spread over `drain.over` seconds, and polls are answered with
    that; at last the listener is closed, and `app` shut down.
    A second SIGTERM ends it at once, and so does SIGINT (Ctrl-C) at any time, as with aiohttp.
    On Windows there is Ctrl-C alone.

    Args:
        app: The application, or an awaitable that returns it.
        drain: How long SIGTERM waits for what, in seconds.
        shutdown_timeout: As aiohttp's: how long handlers have after that.
        handle_signals: As aiohttp's.
        options: The others of `web.run_app`.

    Raises:
        TypeError: If `drain` is not a `Drain`.
        RuntimeError: If it is called while an event loop runs: by the import of a module, perhaps.
    """
    if not isinstance(drain, Drain):
        raise TypeError(f"drain must be a Drain such as Drain(over=10), not {drain!r}")
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
