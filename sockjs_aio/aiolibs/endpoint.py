"""Adds endpoints to an application, and finds their managers."""

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from sockjs_aio import SockJSRouter
from sockjs_aio.aiolibs.manager import Handler, SessionManager

CDN = "https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js"

Authorize = Callable[[web.Request], Awaitable[Any]]
"""Lets a request open a session, or refuses it: see `SockJSRouter`."""

NEVER = 1e9
"""Seconds: what turns heartbeats off, where sockjs has ``heartbeat_delay=0``."""

TRANSPORTS = {
    "websocket-raw": "rawwebsocket",
    "xhr-polling": "xhr",
    "xhr-streaming": "xhr_streaming",
    "jsonp-polling": "jsonp",
}
"""The transports that sockjs calls otherwise; the other names are the same."""

NO_CORS_CONFIG = (
    "cors_config cannot be used: the endpoint answers CORS itself, for all origins; restrict them "
    'with settings={"origins": ["https://example.com"]}'
)
MANAGERS: web.AppKey[dict[str, SessionManager]] = web.AppKey("sockjs_aio.aiolibs.MANAGERS", dict)


def get_manager(name: str, app: web.Application) -> SessionManager:
    """Find the manager of the endpoint `name` of `app`.

    Raises:
        KeyError: If `app` has no such endpoint.
    """
    managers: dict[str, SessionManager] = app.get(MANAGERS, {})
    return managers[name]


def add_endpoint(
    app: web.Application,
    handler: Handler,
    *,
    name: str = "",
    prefix: str = "/sockjs",
    manager: SessionManager | None = None,
    disable_transports: Iterable[str] = (),
    sockjs_cdn: str = CDN,
    cookie_needed: bool = True,
    cors_config: None = None,
    heartbeat_delay: float = 25,
    disconnect_delay: float = 5,
    debug: bool = False,
    settings: Mapping[str, Any] | None = None,
    authorize: Authorize | None = None,
) -> list[web.AbstractRoute]:
    """Serve an endpoint below `prefix` of `app`, end it at shutdown; return the routes it has.

    Args:
        app: An application that has not started.
        handler: See `SessionManager`, also for `heartbeat_delay`, `disconnect_delay` and `debug`.
        name: For `get_manager`; made up if empty.
        prefix: Path of the endpoint; a slash at its end makes no difference.
        manager: Used instead of a new one, with its own handler and delays.
        disable_transports: Transports not to be served, by sockjs' names or by ours.
        sockjs_cdn: URL of the client script that the iframe page loads.
        cookie_needed: Whether to set a JSESSIONID cookie for load balancers.
        cors_config: Has to be None: the endpoint answers CORS itself, see the setting `origins`.
        settings: More settings of `SockJSRouter`, such as ``{"origins": [...]}``.
        authorize: Decides who may come in, before there is a session: see `SockJSRouter`.

    Raises:
        SettingsError: If a transport or a setting is unknown, or a value cannot be used.
        ValueError: If there is an endpoint of this name, or `manager` has another one.
        RuntimeError: If there is an endpoint at this prefix, or `app` has started.
        TypeError: If an argument cannot be used.
    """
    _check_cors_config(cors_config)
    managers: dict[str, SessionManager] = app.get(MANAGERS, {})
    if manager is None:
        own = name or f"n{secrets.token_hex(4)}"
        manager = SessionManager(own, app, handler, heartbeat_delay, disconnect_delay, debug)
    _check_manager(manager, name, managers)
    options = _options(manager, disable_transports, sockjs_cdn, cookie_needed, settings or {})
    router = SockJSRouter(manager._connect, prefix, options, authorize=authorize)
    count = len(app.router.routes())
    router.attach(app)
    app[MANAGERS], manager._router = managers | {manager.name: manager}, router
    return list(app.router.routes())[count:]


def _options(
    manager: SessionManager,
    disabled: Iterable[str],
    sockjs_cdn: str,
    cookie_needed: bool,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the arguments of `add_endpoint` as settings."""
    if isinstance(disabled, str):
        raise TypeError(f"disable_transports={disabled!r} has to be a list of names")
    return {
        "disabled_transports": [TRANSPORTS.get(name, name) for name in disabled],
        "sockjs_url": sockjs_cdn,
        "jsessionid": bool(cookie_needed),
        "heartbeat_delay": manager.heartbeat_delay if manager.heartbeat_delay > 0 else NEVER,
        "disconnect_delay": manager.disconnect_delay,
        **settings,
    }


def _check_cors_config(cors_config: object) -> None:
    if cors_config is not None:
        raise TypeError(NO_CORS_CONFIG)


def _check_manager(
    manager: SessionManager, name: str, managers: Mapping[str, SessionManager]
) -> None:
    if not isinstance(manager, SessionManager):
        raise TypeError(f"{manager!r} is no sockjs_aio.aiolibs.SessionManager")
    if name and manager.name != name:
        raise ValueError(f"the manager is called {manager.name!r}, the endpoint {name!r}")
    if manager.name in managers:
        raise ValueError(f"there is an endpoint {manager.name!r} already")
    if manager._router is not None:
        raise ValueError(f"the manager {manager.name!r} has an endpoint already: make another one")
