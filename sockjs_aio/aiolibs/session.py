"""One client, as handlers see it."""

from sockjs_aio import SockJSConnection
from sockjs_aio.aiolibs.messages import MsgType, SessionState
from sockjs_aio.aiolibs.request import Request


class ClientConnection(SockJSConnection):
    """A connection of the asynchronous API that such a session stands for."""

    request: Request
    told: MsgType
    """What the handler was told last."""


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
        self._connection: ClientConnection | None = None
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
    def request(self) -> Request | None:
        """About the request that opened the session: headers, cookies, query, path, app, remote.

        None before OPEN and after CLOSED.
        """
        return None if self._connection is None else self._connection.request

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
