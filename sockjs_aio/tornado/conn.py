"""The connection class with synchronous hooks."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sockjs_aio.tornado.session import BaseSession, ConnectionInfo


class SockJSConnection:
    """One client; derive your class from this one and override the hooks.

    Hooks run directly on the event loop.  If a hook returns an awaitable (``async def``, a Tornado
    coroutine), the router awaits it before it calls the next hook.
    """

    session: "BaseSession"
    """The session; set before ``__init__``, so yours need not call ``super().__init__``."""

    def __new__(cls, session: "BaseSession", *_args: Any, **_kwargs: Any) -> "SockJSConnection":
        """Set `session` even if a derived ``__init__`` does not."""
        self = super().__new__(cls)
        self.session = session
        return self

    def __init__(self, session: "BaseSession") -> None:
        self.session = session

    def on_open(self, info: "ConnectionInfo") -> Any:
        """Called when a client connects.

        To reject it, return False or raise an HTTP error: `aiohttp.web.HTTPException`, or any
        exception with an integer `status_code`.
        """

    def on_message(self, message: str) -> Any:
        """Called for each message from the client."""
        raise NotImplementedError(f"{type(self).__name__} must override on_message")

    def on_close(self) -> Any:
        """Called once, when the session is over."""

    def send(self, message: Any, binary: bool = False, *, key: str | None = None) -> None:
        """Send `message` to the client; do nothing once the session is closed.

        Args:
            message: Text, `bytes` in UTF-8, or any value that JSON can represent.  The browser
                receives a `dict` as an object, not as a string.
            binary: Send `bytes` as a binary message; raw WebSocket only.
            key: If a message with this key is still queued, replace it, in its place, so that a
                slow client gets the latest.

        Raises:
            TypeError, ValueError: If `key` is not valid: see `sockjs_aio.SockJSConnection.send`.
        """
        if self.is_closed:
            return
        if key is None:
            self.session.send_message(message, binary=binary)
        else:
            self.session.send_keyed(message, key, binary=binary)

    def broadcast(
        self, clients: "Iterable[SockJSConnection]", message: Any, *, key: str | None = None
    ) -> None:
        """Send `message` to all `clients`, encoding it once; closed clients are skipped.

        `key` is as for `send`.
        """
        if key is None:
            self.session.broadcast(clients, message)
        else:
            self.session.broadcast(clients, message, key=key)

    def close(self) -> None:
        """Close the session with ``c[3000,"Go away!"]``."""
        self.session.close()

    @property
    def is_closed(self) -> bool:
        """Whether the session is closed."""
        return self.session.is_closed
