"""Which names channels may have, and which keys messages."""

import re

MAX_NAME = 200
"""The longest name of a channel, and the longest key, in bytes of UTF-8."""

CONTROL: "re.Pattern[str]" = re.compile("[\0-\x1f\x7f-\x9f]")
"""Finds a control character, which no name has."""


def check_key(key: object) -> None:
    """Check that `key` is a valid key for `SockJSConnection.send`.

    Raises:
        TypeError: If it is not a `str`.
        ValueError: If it is empty, too long, or has control characters or a lone surrogate.
    """
    if not isinstance(key, str):
        raise TypeError(f"a message's key must be a str, not {key!r}")
    if not fits(key, MAX_NAME) or CONTROL.search(key):
        raise ValueError(
            f"key {key!r:.80} is not valid: it must be 1 to {MAX_NAME} bytes of UTF-8 without "
            "control characters"
        )


def fits(text: str, limit: int) -> bool:
    """Tell whether `text` is 1 to `limit` bytes of UTF-8."""
    if not 0 < len(text) <= limit:
        return False
    try:
        return text.isascii() or len(text.encode()) <= limit
    except UnicodeEncodeError:
        return False
