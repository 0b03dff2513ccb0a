"""The sessions of one endpoint, and the connection that turns hooks into messages."""

import asyncio
import functools
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
from sockjs_aio.multiplex import Cancellations

T = TypeVar("T")

CLOSED_AT_ONCE = 200
"""How many sessions `SessionManager.clear` closes before other tasks run: 3 ms of work."""

_TOLD_IN = {
    "on_open": MsgType.OPEN,
    "on_message": MsgType.MESSAGE,
    "on_close": MsgType.CLOSED,
}
"""The type of the message that the handler gets in each hook; see `HandlerConnection.on_close`."""

Handler = Callable[["SessionManager", Session, SockjsMessage], Any]
"""A coroutine function ``async def handler(manager, session, msg)``, or a plain function."""


class SessionManager:
    """The sessions of one endpoint, and the handler that gets their messages.

    Args:
        name: The endpoint's name, for `get_manager`.
        app: The endpoint's application.
        handler: Called with the manager, the session and a `SockjsMessage`, and awaited.  For each
            session it gets OPEN, the messages and CLOSED, one at a time; sessions do not wait for
            each other.  If the handler raises, the error is logged and the session is closed.
        heartbeat_delay: Seconds of silence after which a client gets a heartbeat; 0 for none.
        disconnect_delay: Seconds that a session lives without a receiving request.
        debug: Kept as an attribute only; to see debug output, set the logger ``sockjs_aio`` to
            DEBUG.

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
        """Return a session: from its OPEN message until its CLOSED message has been handled.

        Args:
            session_id: The `Session.id`.
            create: Must be False: only clients' requests make sessions.
            default: Returned if there is no such session.

        Raises:
            KeyError: If there is no such session, and no `default`.
            TypeError: If `create` is true.
        """
        if create:
            raise TypeError("remove create=True: only clients' requests make sessions")
        if default is ...:
            return self.sessions[session_id]
        return self.sessions.get(session_id, default)

    def active_sessions(self) -> Iterator[Session]:
        """Iterate over the open sessions; sessions may open and close meanwhile."""
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
        key: str | None = None,
    ) -> None:
        """Send `message` to all open sessions, encoding it once.

        Args:
            message: Text, or a value for `json.dumps`, which clients get as an object, an array
                or a number.
            exclude_session_ids: Ids of sessions that do not get the message.
            exclude: More sessions that do not get it, or their ids.
            key: As for `Session.send`.

        Raises:
            TypeError, ValueError: If `message` cannot be written as JSON, or `key` is not valid.
        """
        outgoing = _outgoing(message, key)
        ids = {x.id if isinstance(x, Session) else x for x in exclude}
        ids.update(exclude_session_ids or ())
        for session in list(self.sessions.values()):
            if session.id not in ids and session._connection is not None:
                session._connection.session.send_shared(outgoing)

    async def clear(self) -> None:
        """Close all sessions; do not wait until their CLOSED messages have been handled."""
        for number, session in enumerate(list(self.sessions.values()), 1):
            session.close()
            if number % CLOSED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def stop(self, _app: web.Application | None = None) -> None:
        """Refuse new sessions, close the others and wait until their CLOSED has been handled.

        The endpoint does this when the application shuts down.  Do not await it in the handler:
        it waits for the handler to return.
        """
        if self._router is not None:
            await self._router.shutdown()

    # Called by the router and the connections.

    def _connect(self, session: SockJSSession) -> SockJSConnection:
        return HandlerConnection(session, self)

    def _admit(self, connection: "HandlerConnection") -> Session:
        """Make the session that the handler sees, with a unique id."""
        session_id = connection.session.id
        while not session_id or session_id in self.sessions:  # two WebSockets may use the same id
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
            if session._connection is not None:
                session._connection.failed = message.type
            raise


class HandlerConnection(ClientConnection):
    """Turns the hooks of one session into messages for the manager's handler."""

    def __init__(self, session: SockJSSession, manager: SessionManager) -> None:
        super().__init__(session)
        self.manager = manager
        self.request: Request = Request(session.info)
        self.client: Session | None = None
        self.failed: MsgType | None = None
        self.has_factory_failed: bool = False

    async def on_open(self, info: ConnectionInfo) -> None:
        """Send OPEN to the handler."""
        try:
            self.client = self.manager._admit(self)
        except BaseException:
            self.has_factory_failed = True
            raise
        await self.manager._tell(self.client, OPEN_MESSAGE)

    async def on_message(self, message: str | bytes) -> None:
        """Send MESSAGE to the handler."""
        assert self.client is not None, "if on_open fails, the session is closed"
        if isinstance(message, str):  # sockjs has no binary messages, as on raw WebSockets
            await self.manager._tell(self.client, SockjsMessage(MsgType.MESSAGE, message))

    async def on_close(self) -> None:
        """Send CLOSE to the handler, unless the server closed the session; then send CLOSED."""
        client, manager = self.client, self.manager
        if client is None:  # the factory failed
            return
        assert self.close_info is not None, "close_info is set before on_close is called"
        cancellations = Cancellations()
        try:
            if self.close_info.initiator != "server" and not client.interrupted:
                await manager._tell(client, CLOSE_MESSAGE)
        finally:
            client._state = SessionState.CLOSED
            try:
                await cancellations.forget_later_ones()
                await manager._tell(client, CLOSED_MESSAGE)
            finally:
                manager.sessions.pop(client.id, None)
                client._connection = self.client = None
                client.exception = None  # its traceback's frames refer to the session

    def _sockjs_hook_name(self, hook: str) -> str:
        if hook == "on_open" and self.has_factory_failed:
            return f"the factory of the manager {self.manager.name!r}"
        handler = self.manager.handler
        while isinstance(handler, functools.partial):
            handler = handler.func
        name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
        # in `on_close` the handler gets both CLOSE and CLOSED
        told = MsgType.CLOSE if self.failed is MsgType.CLOSE else _TOLD_IN[hook]
        return f"handler {name} ({told.name})"


def _outgoing(message: Any, key: str | None) -> PreparedMessage:
    if isinstance(message, str):
        return PreparedMessage(message, key=key)
    text = json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return PreparedMessage(text, is_json=True, key=key)


def _check_handler(handler: Handler) -> None:
    if not callable(handler):
        raise TypeError(f"handler must be a coroutine function, not {handler!r}")
    try:
        signature = inspect.signature(handler)
    except ValueError:  # some builtins do not have one
        return
    try:
        signature.bind(None, None, None)
    except TypeError:
        raise TypeError(
            f"{handler!r} must take (manager, session, msg); before sockjs 0.13, handlers took "
            "(msg, session)"
        ) from None
