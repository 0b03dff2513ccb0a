"""Adds endpoints to an application, and finds their managers."""

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from sockjs_aio import Observer, SockJSRouter
from sockjs_aio.aiolibs.manager import Handler, SessionManager

CDN = "https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js"

Authorize = Callable[[web.Request], Awaitable[Any]]
"""Decides whether a request may open a session: see `SockJSRouter`."""

NEVER = 1e9
"""A heartbeat delay in seconds that turns heartbeats off, as ``heartbeat_delay=0`` in sockjs."""

TRANSPORTS = {
    "websocket-raw": "rawwebsocket",
    "xhr-polling": "xhr",
    "xhr-streaming": "xhr_streaming",
    "jsonp-polling": "jsonp",
}
"""Our names of the transports that sockjs names differently."""

NO_CORS_CONFIG = (
    "remove cors_config: the endpoint handles CORS itself, for all origins; to restrict them, pass "
    'settings={"origins": ["https://example.com"]}'
)
MANAGERS: web.AppKey[dict[str, SessionManager]] = web.AppKey("sockjs_aio.aiolibs.MANAGERS", dict)


def get_manager(name: str, app: web.Application) -> SessionManager:
    """Return the manager of the endpoint `name` of `app`.

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
    observers: Iterable[Observer] = (),
) -> list[web.AbstractRoute]:
    """Serve an endpoint below `prefix` of `app`, end it at shutdown, and return its routes.

    Args:
        app: An application that has not started.
        handler: See `SessionManager`, also for `heartbeat_delay`, `disconnect_delay` and `debug`.
        name: The name for `get_manager`; if it is empty, a random one is used.
        prefix: Path of the endpoint; a trailing slash makes no difference.
        manager: Your own manager, with its own handler and delays; by default, one is made.
        disable_transports: Names of transports that are not served; sockjs' names or ours.
        sockjs_cdn: URL of the client script that the iframe page loads.
        cookie_needed: Whether to set a JSESSIONID cookie for load balancers.
        cors_config: Must be None: the endpoint handles CORS itself, see the setting `origins`.
        settings: More settings of `SockJSRouter`, such as ``{"origins": [...]}``.
        authorize, observers: See `SockJSRouter`.

    Raises:
        SettingsError: If a transport or a setting is unknown, or a value is invalid.
        ValueError: If the name is in use, or `manager` has another name or another endpoint.
        RuntimeError: If the prefix is in use, or `app` has started.
        TypeError: If an argument has the wrong type.
    """
    _check_cors_config(cors_config)
    managers: dict[str, SessionManager] = app.get(MANAGERS, {})
    if manager is None:
        own = name or f"n{secrets.token_hex(4)}"
        manager = SessionManager(own, app, handler, heartbeat_delay, disconnect_delay, debug)
    _check_manager(manager, name, managers)
    made = _options(manager, disable_transports, sockjs_cdn, cookie_needed, settings or {})
    router = SockJSRouter(manager._connect, prefix, made, authorize=authorize, observers=observers)
    routes = _attached(router, app)
    app[MANAGERS], manager._router = managers | {manager.name: manager}, router
    return routes


def _attached(router: SockJSRouter, app: web.Application) -> list[web.AbstractRoute]:
    count = len(app.router.routes())
    router.attach(app)
    return list(app.router.routes())[count:]


def _options(
    manager: SessionManager,
    disabled: Iterable[str],
    sockjs_cdn: str,
    cookie_needed: bool,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Turn the arguments of `add_endpoint` into settings."""
    if isinstance(disabled, str):
        raise TypeError(f"disable_transports must be a list of names, not {disabled!r}")
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
        raise TypeError(f"manager must be a sockjs_aio.aiolibs.SessionManager, not {manager!r}")
    if name and manager.name != name:
        raise ValueError(
            f"the manager's name is {manager.name!r}, the endpoint's {name!r}: use the same name"
        )
    if manager.name in managers:
        raise ValueError(f"the application already has an endpoint {manager.name!r}: rename one")
    if manager._router is not None:
        raise ValueError(f"the manager {manager.name!r} already has an endpoint: make another one")
