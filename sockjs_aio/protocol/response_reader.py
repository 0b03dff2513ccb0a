"""Takes frames out of the responses in which the HTTP transports carry them: no I/O.

Each function makes a `ResponseReader` for one response: feed it what arrives, in pieces of any
size.  It is the inverse of `transports.Transport.dress`.
"""

import re
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from sockjs_aio.errors import ServerFrameError
from sockjs_aio.protocol.json_text import parse
from sockjs_aio.protocol.server_frames import shown

_SCRIPT = re.compile(rb"\s*<script>\s*p\((.*)\);\s*", re.DOTALL)


class ResponseReader:
    """Reads the frames of one response.

    Args:
        separator: What ends each piece; empty if the whole response is one piece.
        undress: Returns the frame in a piece; None if there is none.
        limit: Bytes that a piece may have.
    """

    def __init__(
        self, separator: bytes, undress: Callable[[bytes], bytes | None], limit: int
    ) -> None:
        self._separator = separator
        self._undress = undress
        self._limit = limit
        self._rest = bytearray()
        self._looked_at = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take `data`, and return the frames that are complete.

        Raises:
            ServerFrameError: If they are not as the transport has them, or longer than `limit`.
        """
        rest, separator = self._rest, self._separator
        rest += data
        frames: list[bytes] = []
        start = 0
        while separator:
            end = rest.find(separator, max(start, self._looked_at))
            if end < 0:
                self._looked_at = max(len(rest) - len(separator) + 1, start)
                break
            self._add(frames, bytes(rest[start:end]))
            start = end + len(separator)
        del rest[:start]
        self._looked_at = max(self._looked_at - start, 0)
        if len(rest) > self._limit:
            raise ServerFrameError(f"the server sent a frame of more than {self._limit} bytes")
        return frames

    def end(self) -> list[bytes]:
        """The response has ended: return the last frames.

        Raises:
            ServerFrameError: If a frame is cut off.
        """
        frames: list[bytes] = []
        rest = bytes(self._rest)
        if not self._separator:
            self._add(frames, rest)
        elif rest.strip():
            raise ServerFrameError(f"the server's response ends within a frame: {shown(rest)}")
        return frames

    def _add(self, frames: list[bytes], piece: bytes) -> None:
        frame = self._undress(piece)
        if frame is not None:
            frames.append(frame)


def lines(limit: int) -> ResponseReader:
    """Read xhr and xhr_streaming: a frame on each line."""
    return ResponseReader(b"\n", _line, limit)


def _line(line: bytes) -> bytes | None:
    line = line.rstrip(b"\r")
    return line if line and not line.startswith(b"hh") else None  # a prelude


def events(limit: int) -> ResponseReader:
    """Read eventsource: a frame in the data of each event, with percent escapes."""
    return ResponseReader(b"\n", _data, limit)


def _data(line: bytes) -> bytes | None:
    name, _, value = line.rstrip(b"\r").partition(b":")
    return unquote_to_bytes(value.removeprefix(b" ")) if name == b"data" else None


def scripts(limit: int) -> ResponseReader:
    """Read htmlfile: a frame in the call that each script element makes, after the head's."""
    is_head = True

    def undress(element: bytes) -> bytes | None:
        nonlocal is_head
        if is_head:
            is_head = False
            return None
        found = _SCRIPT.fullmatch(element)
        if found is None:
            raise ServerFrameError(
                f"the server sent a script that is not one of htmlfile's: {shown(element)}"
            )
        return _string(found[1])

    return ResponseReader(b"</script>", undress, limit)


def call(limit: int, callback: str) -> ResponseReader:
    """Read jsonp: the whole response calls `callback` with one frame."""
    pattern = re.compile(
        rb"\s*(?:/\*\*/)?\s*%b\((.*)\);?\s*" % re.escape(callback.encode()), re.DOTALL
    )

    def undress(body: bytes) -> bytes:
        found = pattern.fullmatch(body)
        if found is None:
            raise ServerFrameError(f"the server's response does not call {callback}: {shown(body)}")
        return _string(found[1])

    return ResponseReader(b"", undress, limit)


def _string(literal: bytes) -> bytes:
    """Decode a JavaScript string literal, as JSON writes it."""
    try:
        frame = parse(literal.decode(), 1)
    except ValueError:
        frame = None
    if not isinstance(frame, str):
        raise ServerFrameError(f"the server sent something that is not a string: {shown(literal)}")
    return frame.encode("utf-8", "surrogatepass")
