"""Frames as a client reads them: what a server has sent, decoded or refused.  No I/O, no state.

Section of the protocol: "Protocol and framing".
"""

import contextlib
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from sockjs_aio.errors import PayloadError, ServerFrameError
from sockjs_aio.protocol.frames import decode_messages
from sockjs_aio.protocol.json_text import parse, parse_values

_CLOSE = re.compile(r"[ \t\r\n]*\[[ \t\r\n]*([0-9]{1,5})[ \t\r\n]*,(.*)\][ \t\r\n]*", re.DOTALL)

_SHOWN = 60
"""Characters of a frame that an error shows."""


class ServerFrame(NamedTuple):
    """One frame from a server."""

    kind: Literal["o", "h", "a", "c"]
    """Opened, heartbeat, messages, or closed."""
    messages: Sequence[Any] = ()
    """The messages of an ``a``: strings, unless the server sends other JSON values."""
    code: int = 0
    """The close code of a ``c``."""
    reason: str = ""
    """The close reason of a ``c``."""
    size: int = 0
    """Characters of an ``a``."""


OPENED = ServerFrame("o")
BEAT = ServerFrame("h")


def decode_frame(frame: bytes | str) -> ServerFrame:
    """Decode one frame.

    As sockjs-client does, this ignores what follows an ``o`` or an ``h``, knows ``m"text"``, which
    some servers send, and takes messages that are any JSON value, as sockjs-tornado's often are.

    Raises:
        ServerFrameError: If it is not a frame.
    """
    try:
        text = frame if isinstance(frame, str) else frame.decode()
    except UnicodeError:
        raise ServerFrameError(
            f"the server sent a frame that is not UTF-8: {shown(frame)}"
        ) from None
    kind = text[:1]
    if kind == "a":
        return ServerFrame("a", _messages(text, text[1:]), size=len(text))
    if kind == "h":
        return BEAT
    if kind == "o":
        return OPENED
    if kind == "m":
        return ServerFrame("a", _messages(text, f"[{text[1:]}]"), size=len(text))
    if kind == "c":
        return _closed(text)
    raise ServerFrameError(f"the server sent something that is not a SockJS frame: {shown(text)}")


def _messages(text: str, payload: str) -> Sequence[Any]:
    with contextlib.suppress(PayloadError):  # it is the fastest for strings
        return decode_messages(payload, len(payload))
    try:
        return parse_values(payload)
    except ValueError as error:
        raise ServerFrameError(f"the server sent a broken frame: {shown(text)}") from error


def _closed(text: str) -> ServerFrame:
    found = _CLOSE.fullmatch(text, 1)
    try:
        reason = parse(found[2].strip(" \t\r\n"), 1) if found else None
    except ValueError:
        reason = None
    if found is None or not isinstance(reason, str):
        raise ServerFrameError(f"the server sent a broken close frame: {shown(text)}")
    return ServerFrame("c", (), int(found[1]), reason)


def shown(data: bytes | str) -> str:
    """Return the beginning of what a server sent, for an error."""
    short = data[:_SHOWN]
    return ascii(short).removeprefix("b")
