"""The transports: one table that everything that depends on a transport reads.

The settings take the names from it, the server the URLs, and the relay what a request may do.  A
coroutine in `server.urls` answers each of them.  Section of the protocol: "Session URLs".
"""

from collections.abc import Callable
from dataclasses import dataclass

from sockjs_aio.protocol.frames import javascript_string


@dataclass(frozen=True)
class Transport:
    """What requests of one transport look like, and what they may do."""

    name: str
    """The name in its URL and in `ConnectionInfo.transport`."""
    method: str
    switch: str | None
    """The name in `disabled_transports` that turns the transport off; None if there is none."""
    receives: bool = True
    """Whether its requests take frames, and so may open a session; other requests bring messages.
    """
    is_connection: bool = False
    """Whether the session lives as long as the TCP connection, in the process that accepted it."""
    has_session_url: bool = True
    """Whether the URL has a session id."""
    is_linkable: bool = False
    """Whether a link, image or script on any page could send the request."""
    tells_origin: bool = True
    """Whether browsers send the page's ``Origin``, or something else that reveals it."""
    has_preflight: bool = False
    """Whether browsers ask with OPTIONS first, for pages of other origins."""
    dress: Callable[[bytes], bytes] | None = None
    """For a stream: turns a frame into the bytes to write."""


def line(frame: bytes) -> bytes:
    """Dress a frame for xhr and xhr_streaming."""
    return frame + b"\n"


def event(frame: bytes) -> bytes:
    """Dress a frame for eventsource."""
    # sockjs-client decodes percent escapes in the data
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
    """Return the names that `Settings.disabled_transports` may have."""
    return [row.name for row in TRANSPORTS.values() if row.switch == row.name]
