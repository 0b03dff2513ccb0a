"""A lean client for each transport, for a load that must not be slower than the server."""

from tests.soak.http_links import EventSource, HtmlFile, Jsonp, Xhr, XhrStreaming
from tests.soak.link import Link
from tests.soak.websocket_links import RawWebSocket, WebSocket

ALL: list[type[Link]] = [
    WebSocket,
    RawWebSocket,
    Xhr,
    XhrStreaming,
    EventSource,
    HtmlFile,
    Jsonp,
]
