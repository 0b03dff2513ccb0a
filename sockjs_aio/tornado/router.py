"""The router: sockjs-tornado's settings and methods on top of `sockjs_aio.SockJSRouter`."""

import functools
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

import sockjs_aio
from sockjs_aio.tornado import proto
from sockjs_aio.tornado.conn import SockJSConnection
from sockjs_aio.tornado.session import (
    CLOSED,
    ConnectionInfo,
    MakeConnection,
    RawSession,
    Session,
    finish,
    prepared,
)
from sockjs_aio.tornado.stats import StatsCollector
from sockjs_aio.tornado.transports.base import BaseTransportMixin

logger: logging.Logger = logging.getLogger("sockjs_aio")

DEFAULT_SETTINGS: dict[str, Any] = {
    "session_check_interval": 1,
    "disconnect_delay": 5,
    "heartbeat_delay": 25,
    "disabled_transports": [],
    "sockjs_url": sockjs_aio.Settings.sockjs_url,
    "response_limit": 128 * 1024,
    "jsessionid": True,
    "immediate_flush": True,
    "disable_nagle": True,
    "verify_ip": True,
    "websocket_allow_origin": "*",
}
# `sockjs_aio.Settings` does not have these: the adapter handles them, or aiohttp does
_OWN = {"immediate_flush", "disable_nagle", "websocket_allow_origin"}
# lower case, like the origins that browsers send; a value with a scheme, a path or several hosts
# would never match
_HOST = re.compile(r"[a-z0-9._-]+(:\d+)?|\[[0-9a-f:.]+\](:\d+)?")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SockJSRouter:
    """Serves a connection class with synchronous hooks below `prefix`.

    Args:
        connection: The connection class, or a callable that takes the session and makes one.
        prefix: Path of the service.
        user_settings: Settings of `DEFAULT_SETTINGS` or of `sockjs_aio.Settings`.  An unknown
            name is ignored, with a warning in the log.
        io_loop: Kept as an attribute only; the router uses the running asyncio loop.
        session_kls: A session class, or a callable, for all SockJS transports; called as
            ``session_kls(connection, router, session_id, expiry)``.
        observers: See `sockjs_aio.SockJSRouter`.

    Raises:
        SettingsError: If a value has the wrong type or is out of range.
    """

    def __init__(
        self,
        connection: MakeConnection,
        prefix: str = "",
        user_settings: Mapping[str, Any] | None = None,
        io_loop: Any = None,
        session_kls: Callable[..., Session] | None = None,
        observers: Iterable[sockjs_aio.Observer] = (),
    ) -> None:
        self.settings: dict[str, Any] = {**DEFAULT_SETTINGS, **(user_settings or {})}
        self._allowed_hosts = _allowed_hosts(self.settings["websocket_allow_origin"])
        self.io_loop = io_loop
        self.stats: StatsCollector = StatsCollector(io_loop)
        self._connection = connection
        self._session_kls = session_kls or Session
        self._sessions: dict[str, Session] = {}
        self._router = CountingRouter(
            self.stats,
            lambda session: Bridge(session, self),
            prefix,
            _known(self.settings),
            authorize=self._check_websocket_origin,
            observers=observers,
        )

    @property
    def urls(self) -> list[web.RouteDef]:
        """The routes, as a plain list; ``app.add_routes(router.urls)`` serves them.

        `sockjs_aio.run_app` and ``serve`` tell the clients when the server ends.  With aiohttp's
        `web.run_app`, that works only if you use `attach` instead.
        """
        return self._router.routes

    def attach(self, app: web.Application) -> None:
        """Install the routes on `app`, and end the sessions when it shuts down.

        Raises:
            RuntimeError: See `sockjs_aio.SockJSRouter.attach`.
        """
        self._router.attach(app)

    def apply_routes(self, routes: list[Any]) -> list[Any]:
        """Add the routes to the list `routes`, and return it."""
        routes.extend(self.urls)
        return routes

    def broadcast(
        self, clients: Iterable[SockJSConnection], msg: Any, *, key: str | None = None
    ) -> None:
        """Send `msg` to all `clients`, encoding it once; closed clients are skipped.

        `key` is as for `SockJSConnection.send`.
        """
        outgoing = prepared(msg, key)
        if isinstance(msg, bytes):
            msg = msg.decode()
        for client in tuple(clients):  # a copy: `on_close` may remove a client from `clients`
            if client.is_closed:
                continue
            session = client.session
            if session.is_shared:
                session.send_prepared(outgoing)
            elif session.send_expects_json:
                session.send_jsonified(proto.json_encode(msg))
            else:
                session.send_message(msg)

    def create_session(self, session_id: str, register: bool = True) -> Session:
        """Make a session of the router's class; `get_session` finds it if `register` is true."""
        session = self._session_kls(
            self._connection, self, session_id, self.settings["disconnect_delay"]
        )
        if register:
            self.register(session)
        return session

    def get_session(self, session_id: str) -> Session | None:
        """Return the session with this id, or None; WebSocket sessions are not found."""
        return self._sessions.get(session_id)

    def get_connection_class(self) -> MakeConnection:
        """Return the connection class."""
        return self._connection

    @property
    def websockets_enabled(self) -> bool:
        """Whether the websocket transport is served."""
        return "websocket" not in self.settings["disabled_transports"]

    @property
    def cookie_needed(self) -> bool:
        """Whether ``/info`` tells clients that the service needs cookies."""
        return bool(self.settings["jsessionid"])

    def register(self, session: Session) -> None:
        """Let `get_session` find `session`."""
        self._sessions[session.session_id] = session

    def forget(self, session: Session) -> None:
        """Undo `register`."""
        if self._sessions.get(session.session_id) is session:
            del self._sessions[session.session_id]

    async def _check_websocket_origin(self, request: web.Request) -> bool:
        """Check the origin of a WebSocket against the setting `websocket_allow_origin`."""
        origin = request.headers.get("Origin")
        if self._allowed_hosts is None or origin is None:
            return True
        if not request.path.endswith("/websocket"):
            return True
        try:
            host = urlsplit(origin).netloc.lower()
        except ValueError:  # brackets without an IPv6 address
            return False
        return host == request.host.lower() or host in self._allowed_hosts


_WEBSOCKETS = ("websocket", "rawwebsocket")


class CountingRouter(sockjs_aio.SockJSRouter):
    """The asynchronous router, with its requests counted in `stats`."""

    def __init__(self, stats: StatsCollector, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stats = stats

    @property
    def routes(self) -> list[web.RouteDef]:
        """The routes of the base class, with handlers that count requests."""
        return [
            web.route(route.method, route.path, self._counted(route.handler), **route.kwargs)
            for route in super().routes
        ]

    def _counted(self, handler: Any) -> Handler:
        @functools.wraps(handler)  # copies the mark of a service's handler
        async def handle(request: web.Request) -> web.StreamResponse:
            self._stats.on_conn_opened()
            try:
                response: web.StreamResponse = await handler(request)
                return response
            finally:
                self._stats.on_conn_closed()

        del handle.__wrapped__  # not `is_wrapped`: it returns responses unchanged
        return handle


class Bridge(sockjs_aio.SockJSConnection):
    """The asynchronous connection that calls the application's synchronous hooks."""

    def __init__(self, session: sockjs_aio.Session, router: SockJSRouter) -> None:
        super().__init__(session)
        if session.transport == "rawwebsocket":
            self.target: Session = RawSession(
                router.get_connection_class(), router, session.id, None
            )
        else:
            self.target = router.create_session(session.id, register=False)
        self.target._bind(session)

    async def on_open(self, info: sockjs_aio.ConnectionInfo) -> bool:
        """Open the application's session."""
        if info.transport in _WEBSOCKETS:  # its request has ended with the handshake
            self.target.stats.conn_active += 1
        if self.target.state == CLOSED:  # the constructor closed it
            self.session.close(*self.target.get_close_reason())
            return True
        # not earlier: `on_close` forgets the session, and is only called after `on_open`
        if info.transport not in _WEBSOCKETS:
            self.target.server.register(self.target)
        self.target.set_handler(_Handler(info))
        try:
            return await finish(self.target.verify_state()) is not False
        except Exception as error:
            if not _is_http_error(error):
                raise
            logger.info("session %s: on_open refused with %r", self.session, error)
            return False

    async def on_message(self, message: str | bytes) -> None:
        """Pass a message to the application."""
        target = self.target
        target.stats.on_pack_recv(1)
        await finish(target.conn.on_message(message))  # type: ignore[arg-type]

    async def on_close(self) -> None:
        """Close the application's session, unless the application has closed it."""
        target = self.target
        if self.session.transport in _WEBSOCKETS:
            target.stats.conn_active -= 1
        target.server.forget(target)
        try:
            if target.state != CLOSED:
                target.close(*target.get_close_reason())
            await finish(target._closing)
        finally:
            target._session = None
        del target.conn  # break the cycle of references between session and connection

    def _sockjs_hook_name(self, hook: str) -> str:
        return f"{type(self.target.conn).__name__}.{hook}"


class _Handler(BaseTransportMixin):
    """The transport handler of a session: its name and its connection info."""

    def __init__(self, info: sockjs_aio.ConnectionInfo) -> None:
        self.name = info.transport
        self._info = info

    def get_conn_info(self) -> ConnectionInfo:
        return ConnectionInfo.of(self._info)


def _known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the asynchronous router has; warn about unknown names."""
    names = sockjs_aio.Settings.__dataclass_fields__
    for name in settings:
        if name not in names and name not in _OWN:
            logger.warning(
                "SockJSRouter ignores the setting %r, which does not exist: correct or remove it",
                name,
            )
    return {name: value for name, value in settings.items() if name in names}


def _allowed_hosts(allowed: Any) -> frozenset[str] | None:
    """Return the hosts that `websocket_allow_origin` allows besides our own; None for all."""
    if allowed == "*":
        return None
    if isinstance(allowed, Collection) and not isinstance(allowed, (str, bytes)):
        wrong = [host for host in allowed if not isinstance(host, str) or not _HOST.fullmatch(host)]
        if not wrong:
            return frozenset(allowed)
    else:
        wrong = [allowed]
    raise sockjs_aio.SettingsError(
        'websocket_allow_origin must be "*" or a list of hosts in lower case, each with its port '
        'unless that is the default one, such as ["example.com", "example.com:8443"]; not '
        f"{', '.join(map(repr, wrong))}"
    )


def _is_http_error(error: Exception) -> bool:
    return isinstance(error, web.HTTPException) or isinstance(
        getattr(error, "status_code", None), int
    )
