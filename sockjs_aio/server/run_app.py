"""Runs an application like aiohttp's `run_app`, but drains it on SIGTERM."""

import asyncio
import contextlib
import difflib
import functools
import inspect
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiohttp import web

from sockjs_aio.core.process_exit import shutting_down
from sockjs_aio.server.accept_errors import quiet_accept_errors
from sockjs_aio.server.drain import Drain, end_sessions
from sockjs_aio.server.forks import (
    forks_apart,
    keep_listener_from_forks,
    keep_listeners_from_forks,
)
from sockjs_aio.server.guard import guard

logger: logging.Logger = logging.getLogger("sockjs_aio")

_DEFAULT_DRAIN = Drain()

_OPTIONS = {*inspect.signature(web.run_app).parameters}
_OPTIONS |= {*inspect.signature(web.RequestHandler).parameters}
_OPTIONS = (_OPTIONS | {"drain"}) - {"app", "manager", "kwargs"}
"""What `run_app` takes: aiohttp's own options, and those for the handler of each connection."""


def run_app(
    app: web.Application | Awaitable[web.Application],
    *,
    drain: Drain = _DEFAULT_DRAIN,
    shutdown_timeout: float = 10.0,
    handle_signals: bool = True,
    **options: Any,
) -> None:
    """Run `app` as aiohttp's `web.run_app` does, until SIGTERM or SIGINT.

    On SIGTERM, no client is lost.  `readyz` answers 404 and `SockJSRouter.health` 503, and for
    `drain.notice` seconds everything else continues.  Then all sessions are closed with
    ``c[1012,"Service restart"]``, spread over `drain.over` seconds; polls get that as their answer.
    Finally the listener is closed, and `app` is shut down.
    A second SIGTERM skips the rest of the drain, but not the application's own cleanup.
    SIGINT (Ctrl-C) never drains, as with aiohttp.  On Windows there is only Ctrl-C.

    Args:
        app: The application, or an awaitable that returns it.
        drain: The times of the drain.
        shutdown_timeout: As in aiohttp: how long handlers have after the drain.
        handle_signals: As in aiohttp.
        options: Other options of `web.run_app`.

    Raises:
        TypeError: If `app` is not an application, `drain` is not a `Drain`, or an option is
            unknown.
        RuntimeError: If an event loop is running, for instance because a module calls this when it
            is imported.
    """
    if not isinstance(drain, Drain):
        raise TypeError(f"drain must be a Drain such as Drain(over=10), not {drain!r}")
    if not (isinstance(app, web.Application) or inspect.isawaitable(app)):
        raise TypeError(f"run_app(app) needs a web.Application, not {app!r}")
    check_no_loop("run_app", app)
    _check_names(options)
    if options.get("sock") is not None:
        options["sock"] = _to_serve(options["sock"])
    options["print"] = functools.partial(_serves, options.get("print", print))
    with forks_apart():
        web.run_app(
            _prepared(app, drain if handle_signals else None),
            shutdown_timeout=shutdown_timeout,
            handle_signals=handle_signals,
            **options,
        )


def _check_names(options: Iterable[str]) -> None:
    """Refuse unknown options, which aiohttp would only notice at the first connection, or never."""
    for name in options:
        if name not in _OPTIONS:
            nearest = difflib.get_close_matches(name, _OPTIONS, n=1)
            hint = f": did you mean {nearest[0]!r}?" if nearest else ""
            raise TypeError(f"run_app has no option {name!r}{hint}")


def _to_serve(sock: socket.socket | Iterable[socket.socket]) -> list[socket.socket]:
    """Return the listeners in `sock`; what the application forks or starts does not get them."""
    listeners = list(sock) if isinstance(sock, Iterable) else [sock]
    for listener in listeners:
        listener.setblocking(False)  # as an event loop's are: `forks` looks for that
        listener.set_inheritable(False)  # those of systemd are
        keep_listener_from_forks(listener)
    return listeners


def _serves(tell: Callable[..., None] | None, *where: object) -> None:
    """Note the listeners, for forks after they are closed; aiohttp calls this once it has them."""
    keep_listeners_from_forks()
    if tell:  # as aiohttp asks: it may be False
        tell(*where)


async def _prepared(
    app: web.Application | Awaitable[web.Application], drain: Drain | None
) -> web.Application:
    made = await app if inspect.isawaitable(app) else app
    guard(made)  # routers may be attached to its sub-applications
    made.on_startup.append(_be_quiet)
    made.on_shutdown.append(end_sessions)
    if drain is not None:
        terminator = _Terminator(drain)
        made.on_startup.append(terminator.watch)
        made.on_shutdown.insert(0, terminator.stop)
    return made


async def _be_quiet(_app: web.Application) -> None:
    quiet_accept_errors(asyncio.get_running_loop())


def check_no_loop(name: str, app: object = None) -> None:
    """Raise RuntimeError if an event loop is running: `name` could not run its own.

    Args:
        name: The name of the function that was called.
        app: Closed before raising if it is a coroutine, since nobody will await it.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if inspect.iscoroutine(app):
        app.close()
    raise RuntimeError(
        f"{name} cannot be called while an event loop is running; if a module called it when it "
        'was imported, put the call below `if __name__ == "__main__":`'
    )


class _Terminator:
    """Drains the application on SIGTERM, and then lets aiohttp end it."""

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._ending: asyncio.Task[None] | None = None
        self._is_over = False

    async def watch(self, app: web.Application) -> None:
        """Handle SIGTERM from now on; this replaces aiohttp's handler."""
        with contextlib.suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._begin, app)

    async def stop(self, _app: web.Application) -> None:
        """Stop the drain: aiohttp shuts the application down, perhaps because of Ctrl-C."""
        self._is_over = True
        if self._ending is not None:
            self._ending.cancel()

    def _begin(self, app: web.Application) -> None:
        if self._is_over:
            logger.warning("SIGTERM again: the application is already shutting down")
        elif self._ending is None:
            logger.info("SIGTERM: draining")
            self._ending = asyncio.get_running_loop().create_task(self._end(app))
        else:
            logger.warning("second SIGTERM: stopping without waiting for clients")
            self._end_now()

    async def _end(self, app: web.Application) -> None:
        await self._drain.run(app)
        self._end_now()

    def _end_now(self) -> None:
        # once only: on a second signal, aiohttp would skip the application's cleanup
        if not self._is_over:
            self._is_over = True
            with shutting_down():  # a hook's exit would cut that off
                signal.raise_signal(signal.SIGINT)  # aiohttp then shuts down its server properly
