"""For handlers written for aio-libs' sockjs 0.13: its names, served by this package.

An application changes its import and no more::

    from sockjs_aio.aiolibs import MsgType, add_endpoint, get_manager

Nothing here speaks the protocol: a `SessionManager` makes a connection for each session of a
`SockJSRouter`, and the connection turns hooks into messages for the handler.  What differs from
sockjs 0.13 is in docs/migrating-from-aiolibs-sockjs.md.
"""

import enum
import inspect
import json
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from aiohttp import web

from sockjs_aio import ConnectionInfo, Outgoing, SockJSConnection, SockJSError, SockJSRouter
from sockjs_aio import Session as SockJSSession

__all__ = [
    "MsgType",
    "Session",
    "SessionIsAcquired",
    "SessionIsClosed",
    "SessionManager",
    "SessionState",
    "SockjsMessage",
    "add_endpoint",
    "get_manager",
]

CDN = "https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js"
T = TypeVar("T")

NEVER = 1e9
"""Seconds: what turns heartbeats off, where sockjs has ``heartbeat_delay=0``."""

TRANSPORTS = {
    "websocket-raw": "rawwebsocket",
    "xhr-polling": "xhr",
    "xhr-streaming": "xhr_streaming",
    "jsonp-polling": "jsonp",
}
"""The transports that sockjs calls otherwise; the other names are the same."""


class SessionIsAcquired(SockJSError):
    """Never raised here: transports answer a second receiver.  For ``except`` clauses."""


class SessionIsClosed(SockJSError):
    """Never raised here: `Session.send` returns False.  For ``except`` clauses."""


class MsgType(enum.Enum):
    """What a handler is told."""

    OPEN = 1
    """A client is in; the first message of each session."""
    MESSAGE = 2
    """`SockjsMessage.data` has come from the client."""
    CLOSE = 3
    """The session has ended otherwise than by the application; `CLOSED` follows at once."""
    CLOSED = 4
    """The session is over; the last message of each session."""


class SessionState(enum.Enum):
    """Where a session is, seen from its handler."""

    NEW = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


@dataclass(frozen=True)
class SockjsMessage:
    """What a handler gets: a type, and with `MsgType.MESSAGE` the client's text."""

    type: MsgType
    data: str | None

    @property
    def tp(self) -> MsgType:
        """The old name of `type`."""
        return self.type


OPEN_MESSAGE = SockjsMessage(MsgType.OPEN, None)
CLOSE_MESSAGE = SockjsMessage(MsgType.CLOSE, None)
CLOSED_MESSAGE = SockjsMessage(MsgType.CLOSED, None)


class Session:
    """One client, as handlers see it; they may keep attributes of their own on it.

    A subclass is put to use by ``manager.factory = MySession``.

    Args:
        session_id: As in the URL, or made unique by a suffix.
        heartbeat_delay: For reading only; the endpoint's is in force.
        disconnect_delay: Likewise.
        debug: Likewise.
    """

    interrupted = False
    """Whether the handler has raised."""
    exception: BaseException | None = None
    """What the handler has raised; None again after CLOSED."""

    def __init__(
        self,
        session_id: str,
        *,
        heartbeat_delay: float = 25,
        disconnect_delay: float = 5,
        debug: bool = False,
    ) -> None:
        self.id = session_id
        self.heartbeat_delay = heartbeat_delay
        self.disconnect_delay = disconnect_delay
        self.debug = debug
        # the connection from OPEN until CLOSED has been handled: no cycle is left behind
        self._connection: _HandlerConnection | None = None
        self._state = SessionState.NEW

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id[:4]}… {self.state.name}>"

    @property
    def state(self) -> SessionState:
        """Where the session is: `SessionState.CLOSED` from its CLOSED message on."""
        if self._state is SessionState.OPEN and not self._is_open:
            return SessionState.CLOSING
        return self._state

    @property
    def expired(self) -> bool:
        """Whether the session has ended, be it that CLOSED is still to be handled."""
        return self.state in (SessionState.CLOSING, SessionState.CLOSED)

    @property
    def acquired(self) -> bool:
        """Whether the session is open; a polling client need not be waiting just now."""
        return self.state is SessionState.OPEN

    @property
    def request(self) -> ConnectionInfo | None:
        """About the request that opened the session: headers, cookies, query, path, app.

        None before OPEN and after CLOSED.
        """
        return None if self._connection is None else self._connection.info

    def send(self, msg: str) -> bool:
        """Send `msg` to the client; return False, and do nothing, if the session is not open.

        Raises:
            TypeError: If `msg` is no text.
        """
        if not isinstance(msg, str):
            name = type(msg).__name__
            raise TypeError(f"session.send() takes a str, not {name}: try json.dumps() first")
        connection = self._connection
        if connection is None or connection.is_closed:
            return False
        connection.send(msg)
        return not connection.is_closed  # it is if the client does not keep up

    def close(self, code: int = 3000, reason: str = "Go away!") -> None:
        """Close the session: what was sent before goes out first, and CLOSED follows.

        Messages that have come and were not handled are dropped.  Closing again does nothing.
        """
        if self._connection is not None:
            self._connection.close(code, reason)

    @property
    def _is_open(self) -> bool:
        return self._connection is not None and not self._connection.is_closed


Handler = Callable[["SessionManager", Session, SockjsMessage], Any]
"""A coroutine function ``async def handler(manager, session, msg)``, or a plain function."""


class SessionManager:
    """The sessions of one endpoint, and the handler that gets their messages.

    Args:
        name: Of the endpoint, for `get_manager`.
        app: The application of the endpoint.
        handler: Awaited with the manager, the session and a `SockjsMessage`: for each session
            OPEN, the messages and CLOSED, one at a time; different sessions do not wait for each
            other.  When it raises, that is logged and the session is closed.
        heartbeat_delay: Seconds of silence after which a client gets a heartbeat; 0 for none.
        disconnect_delay: Seconds that a session lives without a receiving connection.
        debug: For reading only; log records of level DEBUG go to the logger ``sockjs_aio``.

    Raises:
        TypeError: If `handler` does not take three arguments.
    """

    def __init__(
        self,
        name: str,
        app: web.Application,
        handler: Handler,
        heartbeat_delay: float = 25,
        disconnect_delay: float = 5,
        debug: bool = False,
    ) -> None:
        _check_handler(handler)
        self.name = name
        self.app = app
        self.handler = handler
        self.heartbeat_delay = heartbeat_delay
        self.disconnect_delay = disconnect_delay
        self.debug = debug
        self.factory: Callable[..., Session] = Session
        self.sessions: dict[str, Session] = {}
        self._router: SockJSRouter | None = None

    @overload
    def get(self, session_id: str, create: bool = False) -> Session: ...

    @overload
    def get(self, session_id: str, create: bool = False, *, default: T) -> Session | T: ...

    def get(self, session_id: str, create: bool = False, default: Any = ...) -> Any:
        """Find a session, from its OPEN until its CLOSED has been handled.

        Args:
            session_id: Its `Session.id`.
            create: Has to be False: sessions are made by clients' requests.
            default: Returned if there is none.

        Raises:
            KeyError: If there is none, and no `default`.
        """
        if create:
            raise TypeError("get(create=True) cannot be: sessions are made by clients' requests")
        if default is ...:
            return self.sessions[session_id]
        return self.sessions.get(session_id, default)

    def active_sessions(self) -> Iterator[Session]:
        """Go through the sessions that are open; they may come and go meanwhile."""
        return (session for session in list(self.sessions.values()) if not session.expired)

    def is_acquired(self, session: Session) -> bool:
        """Tell whether `session` is open; see `Session.acquired`."""
        return session.acquired

    def broadcast(
        self,
        message: Any,
        exclude_session_ids: Collection[str] | None = None,
        *,
        exclude: Iterable[Session | str] = (),
    ) -> None:
        """Send `message` to all open sessions, encoding it once.

        Args:
            message: Text, or what `json.dumps` takes: clients get that as an object, an array or
                a number.
            exclude_session_ids: Ids of sessions that do not get it.
            exclude: More that do not get it: sessions or ids.

        Raises:
            TypeError: If `message` cannot be written as JSON.
            ValueError: Likewise.
        """
        outgoing = _outgoing(message)
        ids = {x.id if isinstance(x, Session) else x for x in exclude}
        ids.update(exclude_session_ids or ())
        for session in list(self.sessions.values()):
            if session.id not in ids and session._connection is not None:
                session._connection.session.send_shared(outgoing)

    async def clear(self) -> None:
        """Close all sessions; does not wait until their CLOSED has been handled."""
        for session in list(self.sessions.values()):
            session.close()

    async def stop(self, _app: web.Application | None = None) -> None:
        """Open no more sessions, close those that there are and wait for their CLOSED.

        The endpoint does that when the application shuts down.  Not to be awaited in the handler,
        which it waits for.
        """
        if self._router is not None:
            await self._router.shutdown()

    # For the router and the connections.

    def _connect(self, session: SockJSSession) -> SockJSConnection:
        return _HandlerConnection(session, self)

    def _admit(self, connection: "_HandlerConnection") -> Session:
        """Make the handler's session, under an id that no other one has."""
        session_id = connection.session.id
        while not session_id or session_id in self.sessions:  # WebSockets may share an id
            session_id = f"{connection.session.id}-{secrets.token_hex(4)}".removeprefix("-")
        session = self.factory(
            session_id,
            heartbeat_delay=self.heartbeat_delay,
            disconnect_delay=self.disconnect_delay,
            debug=self.debug,
        )
        session._connection = connection
        session._state = SessionState.OPEN
        self.sessions[session.id] = session
        return session

    async def _tell(self, session: Session, message: SockjsMessage) -> None:
        try:
            result = self.handler(self, session, message)
            if inspect.isawaitable(result):
                await result
        except BaseException as error:
            session.exception, session.interrupted = error, True
            raise


class _HandlerConnection(SockJSConnection):
    """Turns the hooks of one session into messages for the manager's handler."""

    def __init__(self, session: SockJSSession, manager: SessionManager) -> None:
        super().__init__(session)
        self.manager = manager
        self.client: Session | None = None
        self.is_closed_by_us = False

    async def on_open(self, info: ConnectionInfo) -> None:
        self.client = self.manager._admit(self)
        await self.manager._tell(self.client, OPEN_MESSAGE)

    async def on_message(self, message: str | bytes) -> None:
        assert self.client is not None, "on_open has failed, and that closes the session"
        if isinstance(message, str):  # handlers know no binary messages of raw WebSockets
            await self.manager._tell(self.client, SockjsMessage(MsgType.MESSAGE, message))

    async def on_close(self) -> None:
        client, manager = self.client, self.manager
        if client is None:  # the factory has failed
            return
        try:
            if not self.is_closed_by_us and not client.interrupted:
                await manager._tell(client, CLOSE_MESSAGE)
        finally:
            client._state = SessionState.CLOSED
            try:
                await manager._tell(client, CLOSED_MESSAGE)
            finally:
                manager.sessions.pop(client.id, None)
                client._connection = self.client = None
                client.exception = None  # its traceback has frames that know the session

    def close(self, code: int = 3000, reason: str = "Go away!") -> None:
        was_closed = self.is_closed
        super().close(code, reason)
        if not was_closed:
            self.is_closed_by_us = True


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

    Raises:
        SettingsError: If a transport or a setting is unknown, or a value cannot be used.
        ValueError: If there is an endpoint of this name, or `manager` has another one.
        RuntimeError: If there is an endpoint at this prefix, or `app` has started.
        TypeError: If `handler`, `manager` or `cors_config` cannot be used.
    """
    if cors_config is not None:
        raise TypeError(NO_CORS_CONFIG)
    managers: dict[str, SessionManager] = app.get(MANAGERS, {})
    if manager is None:
        name = name or f"n{secrets.token_hex(4)}"
        manager = SessionManager(name, app, handler, heartbeat_delay, disconnect_delay, debug)
    _check_manager(manager, name, managers)
    options = _options(manager, disable_transports, sockjs_cdn, cookie_needed)
    router = SockJSRouter(manager._connect, prefix, options | dict(settings or {}))
    count = len(app.router.routes())
    router.attach(app)
    app[MANAGERS] = managers | {manager.name: manager}
    manager._router = router
    return list(app.router.routes())[count:]


def _options(
    manager: SessionManager, disabled: Iterable[str], sockjs_cdn: str, cookie_needed: bool
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
    }


def _outgoing(message: Any) -> Outgoing:
    if isinstance(message, str):
        return Outgoing(message)
    text = json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Outgoing(text, is_json=True)


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


def _check_handler(handler: Handler) -> None:
    if not callable(handler):
        raise TypeError(f"handler {handler!r} has to be a coroutine function")
    try:
        signature = inspect.signature(handler)
    except ValueError:  # of some builtins it cannot be told
        return
    try:
        signature.bind(None, None, None)
    except TypeError:
        raise TypeError(
            f"{handler!r} has to be handler(manager, session, msg): before sockjs 0.13 it was "
            "handler(msg, session)"
        ) from None
