"""A connection class for code written for ``tornado.websocket.WebSocketHandler``."""

from typing import Any

from sockjs_aio.tornado.conn import SockJSConnection
from sockjs_aio.tornado.session import ConnectionInfo


class WebsocketHandler(SockJSConnection):
    """Has the hooks and methods of a Tornado WebSocket handler.

    `request` is the info that `SockJSConnection.on_open` gets, not Tornado's request.
    """

    ip: str | None
    request: ConnectionInfo

    def open(self) -> Any:
        """Called when a client connects."""

    def on_open(self, info: ConnectionInfo) -> Any:
        """Set `ip` and `request`, and call `open`."""
        self.ip = info.ip
        self.request = info
        return self.open()

    def write_message(self, message: Any, binary: bool = False) -> None:
        """Send `message`; see `SockJSConnection.send`."""
        self.send(message, binary)
