"""The requests that open a session, one for each transport."""

from typing import Any

import pytest

REQUESTS = [
    ("POST", "/0/1/xhr"),
    ("POST", "/0/1/xhr_streaming"),
    ("GET", "/0/1/eventsource"),
    ("GET", "/0/1/htmlfile?c=x"),
    ("GET", "/0/1/jsonp?c=x"),
    ("GET", "/0/1/websocket"),
    ("GET", "/websocket"),
]
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
openers = pytest.mark.parametrize(("method", "path"), REQUESTS)


async def ask(served: Any, method: str, path: str, **headers: str) -> Any:
    """Ask for `path` below the prefix; return the head of what comes."""
    if path.split("?")[0].endswith("/websocket"):
        headers.update(UPGRADE)
    wire = await served.wire()
    wire.send(method, served.prefix + path, b"" if method == "POST" else None, headers=headers)
    return await wire.head()
