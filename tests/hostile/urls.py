"""The URLs of a session, and how to ask for each; what comes back is the head alone."""

from tests.conftest import Served
from tests.websocket_wire import HANDSHAKE
from tests.wire import Reply, Wire

URLS = {
    "xhr": ("POST", "/xhr"),
    "xhr_streaming": ("POST", "/xhr_streaming"),
    "eventsource": ("GET", "/eventsource"),
    "htmlfile": ("GET", "/htmlfile?c=x"),
    "jsonp": ("GET", "/jsonp?c=x"),
    "websocket": ("GET", "/websocket"),
    "xhr_send": ("POST", "/xhr_send"),
    "jsonp_send": ("POST", "/jsonp_send"),
}
"""Method and URL behind the ids, of each transport."""

OPENING = [name for name in URLS if not name.endswith("_send")]


async def started(served: Served, path: str, transport: str, **headers: str) -> tuple[Wire, Reply]:
    """Ask for `transport` of the session at `path`; return the connection and the reply's head."""
    method, url = URLS[transport]
    body = {"xhr_send": '["a"]', "jsonp_send": '["a"]', "xhr": "", "xhr_streaming": ""}
    if transport == "websocket":
        headers = {**HANDSHAKE, **headers}
    wire = await served.wire()
    wire.send(method, served.prefix + path + url, body.get(transport), headers=headers)
    return wire, await wire.head()


async def answered(served: Served, path: str, transport: str, **headers: str) -> Reply:
    """As `started`; return a reply that has a length with its body, of others the head."""
    wire, reply = await started(served, path, transport, **headers)
    if (length := reply.header("Content-Length")) is not None:
        reply.body = await wire.reader.readexactly(int(length))
    wire.close()
    return reply
