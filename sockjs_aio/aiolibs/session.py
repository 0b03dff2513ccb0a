"""One client, as handlers see it."""

from datetime import datetime

from sockjs_aio import SockJSConnection
from sockjs_aio.aiolibs.messages import MsgType, SessionState
from sockjs_aio.aiolibs.request import Request


class ClientConnection(SockJSConnection):
    """The asynchronous connection behind a `Session`."""

    request: Request
    failed: MsgType | None
    """The type of the last message for which the handler has raised an exception."""


class Session:
    """One client, as handlers see it; you may set your own attributes on it.

    To use a subclass, set ``manager.factory = MySession``.

    Args:
        session_id: The id in the URL, with a suffix if another session has it.
        heartbeat_delay: For reading only; changing it has no effect.
        disconnect_delay: For reading only.
        debug: For reading only.
    """

    interrupted = False
    """Whether the handler has raised an exception."""
    exception: BaseException | None = None
    """The exception that the handler raised; None again after CLOSED."""

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
        # set only from OPEN until CLOSED has been handled, so that no reference cycle remains
        self._connection: ClientConnection | None = None
        self._state = SessionState.NEW

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id[:4]}… {self.state.name}>"

    @property
    def state(self) -> SessionState:
        """The session's state: `SessionState.CLOSED` from its CLOSED message on."""
        if self._state is SessionState.OPEN and not self._is_open:
            return SessionState.CLOSING
        return self._state

    @property
    def expired(self) -> bool:
        """Whether the session has ended, even if CLOSED has not been handled yet."""
        return self.state in (SessionState.CLOSING, SessionState.CLOSED)

    @property
    def acquired(self) -> bool:
        """Whether the session is open, even if a polling client has no request waiting."""
        return self.state is SessionState.OPEN

    @property
    def request(self) -> Request | None:
        """The request that opened the session: headers, cookies, query, path, app, remote.

        None before OPEN and after CLOSED.
        """
        return None if self._connection is None else self._connection.request

    def send(self, msg: str, *, key: str | None = None) -> bool:
        """Send `msg` to the client; if the session is not open, do nothing and return False.

        Args:
            msg: Text.
            key: If a message with this key is still queued, replace it, in its place, so that a
                slow client gets the latest.

        Raises:
            TypeError: If `msg` or `key` is not a `str`.
            ValueError: If `key` is not valid: see `sockjs_aio.SockJSConnection.send`.
        """
        if not isinstance(msg, str):
            name = type(msg).__name__
            raise TypeError(f"session.send() takes a str, not {name}: call json.dumps() first")
        connection = self._connection
        if connection is None or connection.is_closed:
            return False
        connection.send(msg, key=key)
        return not connection.is_closed  # a full send queue closes it

    def close(self, code: int = 3000, reason: str = "Go away!") -> None:
        """Close the session: the client gets what was sent before, and CLOSED follows.

        Messages from the client that are still waiting are dropped.  Closing again does nothing.
        """
        if self._connection is not None:
            self._connection.close(code, reason)

    def extend(self, until: float | datetime | None) -> None:
        """Change the time until which the client is authorized: see `sockjs_aio.Grant`.

        Raises:
            TypeError, ValueError: Like `Grant`.
        """
        if self._connection is not None:
            self._connection.extend(until)

    @property
    def _is_open(self) -> bool:
        return self._connection is not None and not self._connection.is_closed
