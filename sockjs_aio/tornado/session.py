"""The connection's `self.session`."""

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable
from contextvars import Context, ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import sockjs_aio
from sockjs_aio.multiplex import exit_soon
from sockjs_aio.tornado import proto
from sockjs_aio.tornado.connection_info import ConnectionInfo as ConnectionInfo
from sockjs_aio.tornado.transports.base import BaseTransportMixin

if TYPE_CHECKING:
    from sockjs_aio.tornado.conn import SockJSConnection
    from sockjs_aio.tornado.router import SockJSRouter
    from sockjs_aio.tornado.stats import StatsCollector

logger: logging.Logger = logging.getLogger("sockjs_aio.hooks")

CONNECTING = 0
OPEN = 1
CLOSING = 2
CLOSED = 3

GO_AWAY = (3000, "Go away!")

MakeConnection = Callable[["BaseSession"], "SockJSConnection"]

T = TypeVar("T")

_owner: ContextVar[object] = ContextVar("sockjs_aio.tornado owner", default=None)
"""Marks the context that a session's hooks run in, and all copies of that context."""


class BaseSession:
    """A session's states, hooks and statistics, without a client.

    Multiplexing code derives its channels from this class and overrides `send_message`.

    Args:
        conn: Takes the session and makes its connection.
        server: The router.
    """

    transport_name: str = ""
    session_id: str = ""
    send_expects_json = False
    _mark: object = None

    def __init__(self, conn: MakeConnection, server: "SockJSRouter") -> None:
        self.server = server
        self.stats: StatsCollector = server.stats
        self.handler: BaseTransportMixin | None = None
        self.state: int = CONNECTING
        self.conn_info: ConnectionInfo | None = None
        self.close_reason: tuple[int, str] | None = None
        self._closing: Any = None  # what on_close returned, perhaps an awaitable
        self.conn: SockJSConnection = conn(self)

    def set_handler(self, handler: BaseTransportMixin) -> bool:
        """Take the name and connection info from `handler`, and count the session."""
        if self.handler is not None:
            raise RuntimeError("this session already has a handler: call remove_handler first")
        self.handler = handler
        self.transport_name = handler.name
        if self.conn_info is None:
            self.conn_info = handler.get_conn_info()
            self.stats.on_sess_opened(self.transport_name)
        return True

    def remove_handler(self, handler: BaseTransportMixin) -> None:
        """Undo `set_handler`."""
        if self.handler is not handler:
            raise RuntimeError("this is not the session's handler: pass session.handler")
        self.handler = None

    def verify_state(self) -> Any:
        """Open the session if it is new: call `on_open` and return its result."""
        if self.state != CONNECTING:
            return None
        self.state = OPEN
        return self.conn.on_open(self.conn_info)  # type: ignore[arg-type]

    @property
    def is_closed(self) -> bool:
        """Whether the session is closed."""
        return self.state in (CLOSING, CLOSED)

    def close(self, code: int = GO_AWAY[0], message: str = GO_AWAY[1]) -> None:
        """Close the session; calls `on_close` before it returns."""
        if self.state == CLOSED:
            return
        was_counted = self.conn_info is not None
        self.state = CLOSED
        self.close_reason = (code, message)
        if hasattr(self, "conn"):  # there is none yet if its constructor closes the session
            self._call_on_close()
        if was_counted:
            self.stats.on_sess_closed(self.transport_name)
        if self.handler is not None:
            self.handler.session_closed()

    def _call_on_close(self) -> None:
        try:
            self._closing = self._in_context(self.conn.on_close)
        except (KeyboardInterrupt, SystemExit) as error:
            self._exit(error)
        except BaseException as error:  # also CancelledError
            self._hook_failed("on_close", error)

    def _exit(self, error: BaseException) -> None:
        """End the process, but not from here: what closes the session may be a shutdown."""
        exit_soon(error)

    def _hook_failed(self, hook: str, error: BaseException) -> None:
        """Tell observers that a hook has raised `error`; the log is one of them."""
        session, name = self._told_session, self._hook_name(hook)
        if session is None:
            logger.error("session %s: %s failed", self, name, exc_info=error)
        else:
            about = sockjs_aio.Observer.hook_failed, session, name, error
            self._in_context(lambda: session.events.tell(*about))  # a hook of another may close it

    def _hook_name(self, hook: str) -> str:
        return f"{type(self.conn).__name__}.{hook}"

    @property
    def _told_session(self) -> sockjs_aio.Session | None:
        """The session that observers are told of; None if there is none."""
        return None

    @property
    def _context(self) -> Context | None:
        """The context in which its hooks run; None if they run in that of their caller."""
        return None

    def _claim_context(self) -> None:
        """Mark the current context as that of its hooks."""
        self._mark = object()  # not the session itself, which the context would keep alive
        _owner.set(self._mark)

    def _in_context(self, function: Callable[[], T]) -> T:
        """Call `function` in the context of its hooks, from any context."""
        context = self._context
        if context is None or _owner.get() is self._mark:
            return function()
        # called by another session's hook, or by code outside of hooks
        return (context.copy() if is_entered(context) else context).run(function)

    def delayed_close(self) -> None:
        """Close the session in the next iteration of the event loop."""
        self.state = CLOSING
        asyncio.get_running_loop().call_soon(self.close)

    def get_close_reason(self) -> tuple[int, str]:
        """Return the code and text of the close frame."""
        return self.close_reason or GO_AWAY

    def send_message(self, msg: Any, stats: bool = True, binary: bool = False) -> None:
        """Send `msg`; a derived class must implement this."""
        raise NotImplementedError(f"{type(self).__name__} must override send_message")

    def send_jsonified(self, msg: str, stats: bool = True) -> None:
        """Send `msg`, which is JSON text already; a derived class must implement this."""
        raise NotImplementedError(f"{type(self).__name__} must override send_jsonified")

    def send_keyed(self, msg: Any, key: str, binary: bool = False) -> None:
        """Send `msg` in place of a queued message with this key.

        A derived class that overrides how to send is called as for any other message.
        """
        if self.is_shared:
            self.send_prepared(prepared(msg, key))
        else:
            self.send_message(msg, binary=binary)

    def extend(self, until: float | datetime | None) -> None:
        """Change when the session ends; a derived class must implement this."""
        raise NotImplementedError(f"{type(self).__name__} must override extend")

    @property
    def is_shared(self) -> bool:
        """Whether `send_prepared` may be used: not if a derived class overrides how to send."""
        return False

    def send_prepared(self, message: sockjs_aio.PreparedMessage) -> None:
        """Send a message that is encoded once for many sessions."""
        raise NotImplementedError(f"{type(self).__name__} must override send_prepared")

    def broadcast(
        self, clients: "Iterable[SockJSConnection]", msg: Any, *, key: str | None = None
    ) -> None:
        """Send `msg` to all `clients`, encoding it once."""
        self.server.broadcast(clients, msg, key=key)

    def __str__(self) -> str:
        return f"{self.session_id[:4]}… ({self.transport_name})"


class Session(BaseSession):
    """The session of a client.

    Args:
        conn: Takes the session and makes its connection.
        server: The router.
        session_id: The id in the URL.
        expiry: The router's `disconnect_delay`, in seconds.
    """

    send_expects_json = True
    _session: sockjs_aio.Session | None = None

    def __init__(
        self,
        conn: MakeConnection,
        server: "SockJSRouter",
        session_id: str = "",
        expiry: float | None = None,
    ) -> None:
        self.session_id = session_id
        self.expiry = expiry
        super().__init__(conn, server)

    def _bind(self, session: sockjs_aio.Session) -> None:
        """Attach this session to `session`; must be called in the context of its hooks."""
        self._session = session
        self._claim_context()

    @property
    def _told_session(self) -> sockjs_aio.Session | None:
        return self._session

    @property
    def _context(self) -> Context | None:
        return None if self._session is None else self._session.context

    def send_message(self, msg: Any, stats: bool = True, binary: bool = False) -> None:
        """Send text, `bytes` in UTF-8, or any other value as a JSON value."""
        if isinstance(msg, bytes):
            msg = msg.decode()
        if isinstance(msg, str):
            self._send(lambda session: session.send(msg), stats)
        else:
            self.send_jsonified(proto.json_encode(msg), stats)

    def send_jsonified(self, msg: str, stats: bool = True) -> None:
        """Send `msg`, which is JSON text already."""
        self._send(lambda session: session.send_json(msg), stats)

    @property
    def is_shared(self) -> bool:
        """Whether neither `send_message` nor `send_jsonified` is overridden."""
        kind = type(self)
        return (
            kind.send_message in (Session.send_message, RawSession.send_message)
            and kind.send_jsonified is Session.send_jsonified
        )

    def send_prepared(self, message: sockjs_aio.PreparedMessage) -> None:
        """Send a message that is encoded once for many sessions.

        It is written at the end of the loop's turn, even with `immediate_flush`.
        """
        self._send(lambda session: session.send_shared(message), stats=True, at_once=False)

    def extend(self, until: float | datetime | None) -> None:
        """Close the session at this time of day, with ``c[4401,"Authorization expired"]``.

        Args:
            until: Seconds since 1970, a `datetime` with a timezone, or None for no end.

        Raises:
            TypeError, ValueError: See `sockjs_aio.Grant`.
        """
        if self._session is not None:
            self._session.extend(until)

    def close(self, code: int = GO_AWAY[0], message: str = GO_AWAY[1]) -> None:
        """Close the session: the client gets what was sent, then the close frame."""
        if self.state == CLOSED:
            return
        if self._session is not None:
            self._session.close(code, message)
        super().close(code, message)

    @property
    def is_closed(self) -> bool:
        """Whether the session is closed, even if `on_close` has not been called yet."""
        return super().is_closed or (self._session is not None and self._session.is_closed)

    def _send(
        self, send: Callable[[sockjs_aio.Session], None], stats: bool, at_once: bool = True
    ) -> None:
        session = self._session
        if session is None or self.is_closed:
            return
        send(session)
        if at_once and self.server.settings["immediate_flush"]:
            session.flush()
        if stats:
            self.stats.on_pack_sent(1)


def is_entered(context: Context) -> bool:
    """Tell whether a caller runs in `context`, as when two sessions close each other."""
    try:
        context.run(bool)
    except RuntimeError:
        return True
    return False


class RawSession(Session):
    """The session of a raw WebSocket."""

    send_expects_json = False

    def send_message(self, msg: Any, stats: bool = True, binary: bool = False) -> None:
        """Send text, `bytes` (as a binary message if `binary`), or any other value as JSON text."""
        if isinstance(msg, bytes) and binary:
            self._send(lambda session: session.send(msg), stats)
        else:
            super().send_message(msg, stats)

    def send_keyed(self, msg: Any, key: str, binary: bool = False) -> None:
        """Send `msg` in place of a queued message with this key."""
        if isinstance(msg, bytes) and binary and self.is_shared:
            self.send_prepared(sockjs_aio.PreparedMessage(msg, key=key))
        else:
            super().send_keyed(msg, key, binary)


def prepared(msg: Any, key: str | None = None) -> sockjs_aio.PreparedMessage:
    """Prepare text, `bytes` in UTF-8, or any other value as a JSON value."""
    if isinstance(msg, bytes):
        msg = msg.decode()
    if isinstance(msg, str):
        return sockjs_aio.PreparedMessage(msg, key=key)
    return sockjs_aio.PreparedMessage(proto.json_encode(msg), is_json=True, key=key)


async def finish(result: Any) -> Any:
    """Await what a hook returned if it is awaitable, and return the result."""
    return await result if inspect.isawaitable(result) else result
