"""The transports: one table, which everything that depends on a transport reads.

The settings know their names from it, the server their URLs, the relay what a request may do; a
coroutine in `server.urls` answers each.  Section of the protocol: "Session URLs".
"""

from collections.abc import Callable
from dataclasses import dataclass

from sockjs_aio.protocol.frames import javascript_string


@dataclass(frozen=True)
class Transport:
    """What a request of one transport is, and may do."""

    name: str
    """As in its URL; also in `ConnectionInfo.transport`."""
    method: str
    switch: str | None
    """The name in `disabled_transports` that turns it off; None if nothing does."""
    receives: bool = True
    """Whether it takes frames, and may so open a session; otherwise it brings messages to one."""
    is_connection: bool = False
    """Whether the session lives as long as the connection, in the process that has it."""
    has_session_url: bool = True
    """Whether its URL names a session."""
    is_linkable: bool = False
    """Whether a link, an image or a script on any page could send its request."""
    tells_origin: bool = True
    """Whether browsers send the page's ``Origin`` along, or something else that tells it."""
    has_preflight: bool = False
    """Whether pages of other origins ask first, by OPTIONS."""
    dress: Callable[[bytes], bytes] | None = None
    """Of a stream: what is written for a frame."""


def line(frame: bytes) -> bytes:
    """Dress a frame for xhr and xhr_streaming."""
    return frame + b"\n"


def event(frame: bytes) -> bytes:
    """Dress a frame for eventsource."""
    # sockjs-client decodes percent escapes in what it gets
    return b"data: %b\r\n\r\n" % frame.replace(b"%", b"%25")


def script(frame: bytes) -> bytes:
    """Dress a frame for htmlfile."""
    return b"<script>\np(%b);\n</script>\r\n" % javascript_string(frame)


_ROWS = (
    Transport("websocket", "GET", "websocket", is_connection=True),
    Transport("rawwebsocket", "GET", "rawwebsocket", is_connection=True, has_session_url=False),
    Transport("xhr", "POST", "xhr", has_preflight=True),
    Transport("xhr_streaming", "POST", "xhr_streaming", has_preflight=True, dress=line),
    Transport("eventsource", "GET", "eventsource", is_linkable=True, dress=event),
    Transport("htmlfile", "GET", "htmlfile", is_linkable=True, tells_origin=False, dress=script),
    Transport("jsonp", "GET", "jsonp", is_linkable=True, tells_origin=False),
    Transport("xhr_send", "POST", None, receives=False, has_preflight=True),
    Transport("jsonp_send", "POST", "jsonp", receives=False, tells_origin=False),
)

TRANSPORTS = {row.name: row for row in _ROWS}


def switches() -> list[str]:
    """Return the names that `Settings.disabled_transports` knows."""
    return [row.name for row in TRANSPORTS.values() if row.switch == row.name]
