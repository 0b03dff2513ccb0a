"""Frames as sockjs-tornado's applications make them, and its JSON functions."""

import json
from typing import Any

CONNECT = "o"
DISCONNECT = "c"
MESSAGE = "m"
HEARTBEAT = "h"


def json_encode(data: Any) -> str:
    """Encode `data` as JSON without blanks."""
    return json.dumps(data, separators=(",", ":"))


def json_decode(text: str | bytes) -> Any:
    """Decode JSON.  Raises `ValueError` if `text` is none."""
    return json.loads(text)


def disconnect(code: int, reason: str) -> str:
    """Make a close frame."""
    return f"c[{code},{json_encode(reason)}]"
