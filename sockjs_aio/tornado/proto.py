"""The frames and JSON functions that applications import from sockjs-tornado's `proto`."""

import json
from typing import Any

CONNECT = "o"
DISCONNECT = "c"
MESSAGE = "m"
HEARTBEAT = "h"


def json_encode(data: Any) -> str:
    """Encode `data` as JSON without whitespace."""
    return json.dumps(data, separators=(",", ":"))


def json_decode(text: str | bytes) -> Any:
    """Decode JSON; raise `ValueError` if `text` is not valid JSON."""
    return json.loads(text)


def disconnect(code: int, reason: str) -> str:
    """Make a close frame."""
    return f"c[{code},{json_encode(reason)}]"
