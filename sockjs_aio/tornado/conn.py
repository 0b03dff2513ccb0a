"""The connection class with synchronous hooks."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sockjs_aio.tornado.session import BaseSession, ConnectionInfo


class SockJSConnection:
    """One client; derive from it and override the hooks.

    Hooks run directly on the event loop.  One that returns an awaitable (``async def``, a Tornado
    coroutine) is awaited before the next one is called.
    """

    session: "BaseSession"
    """The session; set before ``__init__``, which need not call this class's own."""

    def __new__(cls, session: "BaseSession", *_args: Any, **_kwargs: Any) -> "SockJSConnection":
        """Set `session`, whatever ``__init__`` does."""
        self = super().__new__(cls)
        self.session = session
        return self

    def __init__(self, session: "BaseSession") -> None:
        self.session = session

    def on_open(self, info: "ConnectionInfo") -> Any:
        """The client has been let in.

        Returning False rejects it; so does raising an HTTP error: `aiohttp.web.HTTPException`, or
        anything with an integer `status_code`.
        """

    def on_message(self, message: str) -> Any:
        """A message came."""
        raise NotImplementedError(f"{type(self).__name__} has to override on_message")

    def on_close(self) -> Any:
        """The session is over; called once."""

    def send(self, message: Any, binary: bool = False) -> None:
        """Send `message`: text, `bytes` of UTF-8, or any value, which goes out as JSON value.

        Once closed, this does nothing.

        Args:
            message: A `dict`, say, arrives in the browser as an object, not as a string.
            binary: Send `bytes` as they are; over the raw WebSocket only.
        """
        if not self.is_closed:
            self.session.send_message(message, binary=binary)

    def broadcast(self, clients: "Iterable[SockJSConnection]", message: Any) -> None:
        """Send `message` to all `clients`, encoding it once; closed ones are skipped."""
        self.session.broadcast(clients, message)

    def close(self) -> None:
        """Close the session with ``c[3000,"Go away!"]``."""
        self.session.close()

    @property
    def is_closed(self) -> bool:
        """Whether the session is closed."""
        return self.session.is_closed
