"""Follows the response of another process to its end, without changing a byte of it.

Nothing here does I/O.  The peer is this package on aiohttp: what it never sends is an error.
"""

import re

MAX_HEAD = 65536
"""Bytes that the head of a response may have."""

_STATUS = re.compile(rb"HTTP/1\.([01]) ([2-5][0-9][0-9]) ([^\r\n]*)\r\n")
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}\r\n")
_BODILESS = (204, 304)
_LONGEST_SIZE = 20  # characters of the line with a chunk's size


class ReplyBroken(Exception):
    """It is no response that this package sends."""


class Reply:
    """One response to GET or POST; `feed` it what comes."""

    __slots__ = (
        "status",
        "reason",
        "is_complete",
        "keeps_alive",
        "is_at_boundary",
        "_head",
        "_is_chunked",
        "_rest",
        "_line",
    )

    def __init__(self) -> None:
        self.status = 0
        """0 until the head is there."""
        self.reason = ""
        self.is_complete = False
        self.keeps_alive = False
        self.is_at_boundary = False
        """Whether a chunk of ours could follow what has come."""
        self._head = b""
        self._is_chunked = False
        self._rest: int | None = 0  # bytes that the chunk or the body lacks; None: till the end
        self._line = b""  # the beginning of a line with a chunk's size

    def feed(self, data: bytes) -> None:
        """Take in what has come.

        Raises:
            ReplyBroken: If it is no response, or something follows it.
        """
        if self.is_complete:
            raise ReplyBroken("something follows the response")
        if not self.status:
            data = self._feed_head(data)
            if not self.status:
                return
        if self._is_chunked:
            self._feed_chunks(data)
        elif self._rest is not None:
            self._rest -= len(data)
            if self._rest < 0:
                raise ReplyBroken("it is longer than it says")
            self.is_complete = self._rest == 0

    def end(self) -> bool:
        """The connection has ended; return whether that is the end of the response."""
        if self.status and self._rest is None and not self._is_chunked:
            self.is_complete = True
        return self.is_complete

    def _feed_head(self, data: bytes) -> bytes:
        """Take the head from `data`; return what is left, once it is complete."""
        head, separator, rest = (self._head + data).partition(b"\r\n\r\n")
        if len(head) > MAX_HEAD:
            raise ReplyBroken("its head is too long")
        if not separator:
            self._head = head
            return b""
        self._head = b""
        found = _STATUS.match(head + b"\r\n")
        if found is None:
            raise ReplyBroken("it has no status")
        headers = head[found.end() :].lower()
        self._read_framing(headers, int(found[2]))
        connection = _value(headers, b"connection")
        self.keeps_alive = connection == b"keep-alive" or (found[1] == b"1" and not connection)
        self.status, self.reason = int(found[2]), found[3].decode("latin-1")
        return rest

    def _read_framing(self, headers: bytes, status: int) -> None:
        length = _value(headers, b"content-length")
        if status in _BODILESS or length == b"0":
            self.is_complete = True
        elif _value(headers, b"transfer-encoding") == b"chunked":
            self._is_chunked = self.is_at_boundary = True
        elif length is None:
            self._rest = None
        elif length.isdigit():
            self._rest = int(length)
        else:
            raise ReplyBroken("it has no length")

    def _feed_chunks(self, data: bytes) -> None:
        """Go from size to size; the line end behind a chunk counts with it."""
        position, end = 0, len(data)
        while position < end:
            if self.is_complete:
                raise ReplyBroken("something follows the last chunk")
            if self._rest:
                step = min(self._rest, end - position)
                self._rest -= step
                position += step
                continue
            found = data.find(b"\n", position)
            line = self._line + data[position : end if found < 0 else found + 1]
            if len(line) > _LONGEST_SIZE:
                raise ReplyBroken("a chunk has no size")
            if found < 0:
                self._line = line
                break
            self._line = b""
            position = found + 1
            self._begin_chunk(line)
        self.is_at_boundary = self._rest == 0 and not self._line and not self.is_complete

    def _begin_chunk(self, line: bytes) -> None:
        if self._rest is None:  # the size was 0
            self.is_complete = True
            return
        if _SIZE.fullmatch(line) is None:
            raise ReplyBroken("a chunk has no size")
        size = int(line, 16)
        self._rest = size + 2 if size else None


def _value(headers: bytes, name: bytes) -> bytes | None:
    """Find the value of a header in lines without case."""
    _, found, rest = (b"\r\n" + headers).partition(b"\r\n" + name + b":")
    return rest.partition(b"\r\n")[0].strip() if found else None
