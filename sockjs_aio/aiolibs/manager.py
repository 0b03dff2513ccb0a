"""The sessions of one endpoint, and the connection that turns hooks into messages."""

import inspect
import json
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, TypeVar, overload

from aiohttp import web

from sockjs_aio import ConnectionInfo, PreparedMessage, SockJSConnection, SockJSRouter
from sockjs_aio import Session as SockJSSession
from sockjs_aio.aiolibs.messages import (
    CLOSE_MESSAGE,
    CLOSED_MESSAGE,
    OPEN_MESSAGE,
    MsgType,
    SessionState,
    SockjsMessage,
)
from sockjs_aio.aiolibs.request import Request
from sockjs_aio.aiolibs.session import ClientConnection, Session

T = TypeVar("T")

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
        return HandlerConnection(session, self)

    def _admit(self, connection: "HandlerConnection") -> Session:
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
        if session._connection is not None:
            session._connection.told = message.type
        try:
            result = self.handler(self, session, message)
            if inspect.isawaitable(result):
                await result
        except BaseException as error:
            session.exception, session.interrupted = error, True
            raise


class HandlerConnection(ClientConnection):
    """Turns the hooks of one session into messages for the manager's handler."""

    def __init__(self, session: SockJSSession, manager: SessionManager) -> None:
        super().__init__(session)
        self.manager = manager
        self.request = Request(session.info)
        self.client: Session | None = None
        self.told = MsgType.OPEN

    async def on_open(self, info: ConnectionInfo) -> None:
        """Tell the handler OPEN."""
        self.client = self.manager._admit(self)
        await self.manager._tell(self.client, OPEN_MESSAGE)

    async def on_message(self, message: str | bytes) -> None:
        """Tell the handler MESSAGE."""
        assert self.client is not None, "on_open has failed, and that closes the session"
        if isinstance(message, str):  # handlers know no binary messages of raw WebSockets
            await self.manager._tell(self.client, SockjsMessage(MsgType.MESSAGE, message))

    async def on_close(self) -> None:
        """Tell the handler CLOSE, unless it has closed the session itself, and CLOSED."""
        client, manager = self.client, self.manager
        if client is None:  # the factory has failed
            return
        assert self.close_info is not None, "it is set before on_close is called"
        try:
            if self.close_info.initiator != "server" and not client.interrupted:
                await manager._tell(client, CLOSE_MESSAGE)
        finally:
            client._state = SessionState.CLOSED
            try:
                await manager._tell(client, CLOSED_MESSAGE)
            finally:
                manager.sessions.pop(client.id, None)
                client._connection = self.client = None
                client.exception = None  # its traceback has frames that know the session

    def _sockjs_hook_name(self, hook: str) -> str:
        if self.client is None:
            return f"the factory of the manager {self.manager.name!r}"
        handler = self.manager.handler
        name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
        return f"handler {name} ({self.told.name})"


def _outgoing(message: Any) -> PreparedMessage:
    if isinstance(message, str):
        return PreparedMessage(message)
    text = json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return PreparedMessage(text, is_json=True)


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
