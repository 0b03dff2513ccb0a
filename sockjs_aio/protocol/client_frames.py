"""WebSocket frames as clients send them: masked, perhaps in fragments or compressed.  No I/O.

A server must be strict here, because proxies on the way may read the same bytes differently.
Source: RFC 6455, sections 5 and 7; RFC 7692 for compressed messages.
"""

from collections.abc import Callable
from typing import Any, NoReturn

from sockjs_aio.errors import PayloadError
from sockjs_aio.protocol.deflate import Inflater
from sockjs_aio.protocol.ends import (
    INVALID_CLOSE_CODE,
    INVALID_UTF8,
    NO_CODE,
    NORMAL,
    PROTOCOL_ERROR,
    TOO_BIG,
    ClientEndedError,
    End,
)
from sockjs_aio.protocol.websocket import (
    BINARY,
    CLOSE,
    COMPRESSED,
    CONTINUATION,
    CONTROL,
    FIN,
    PONG,
    TEXT,
    is_sendable_code,
)

Frame = tuple[int, Any]
"""Opcode and payload: `str` for a text message, `bytes` otherwise."""
Unmask = Callable[[bytes, bytearray], object]
"""Undoes the mask of a frame, given the mask and the payload, which it changes."""

_MASKED = 0x80
_RESERVED = 0x70
_SIMPLE = FIN | TEXT
_SMALL = 4096

PONG_START = FIN | PONG
"""The first byte of a pong."""

BATCH = 64
"""Frames to read before their messages are handled."""

_MAX_CONTROL = 125  # bytes of a control frame's payload


def unmask(mask: bytes, payload: bytearray) -> None:
    """Undo the mask of a frame (RFC 6455, section 5.3), as one operation on large integers."""
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    payload[:] = (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")


class ClientFrames:
    """Takes bytes as they come, and returns messages and pings once they are complete.

    Args:
        max_size: Maximum size of a message in bytes, also when unpacked.
        inflater: Unpacks compressed messages; None if compression was not agreed on.
        unmask: A faster `unmask`, if there is one.
    """

    __slots__ = ("data", "_max_size", "_inflater", "_unmask", "_start", "_opcode", "_message")

    def __init__(
        self, max_size: int, inflater: Inflater | None = None, unmask: Unmask = unmask
    ) -> None:
        self._max_size = max_size
        self._inflater = inflater
        self._unmask = unmask
        self.data: bytes | bytearray = b""
        """What has come and is not read yet, after `_start`."""
        self._start = 0
        # the message whose first fragments have come; its opcode with the bit for compression
        self._opcode = 0
        self._message: bytearray | None = None

    def __len__(self) -> int:
        """Return how many bytes have come and are not read yet."""
        return len(self.data) - self._start

    def is_pong(self, data: bytes) -> bool:
        """Tell whether `data`, which has just come, is a pong and all that there is to read.

        Micro-optimisation: from most idle clients nothing else comes.
        """
        size = len(data)
        return (
            data[0] == PONG_START
            and 6 <= size <= _MAX_CONTROL + 6
            and data[1] - _MASKED == size - 6
            and not self.data
        )

    def feed(self, data: bytes) -> None:
        """Add bytes that have come."""
        if not self.data:
            self.data = data
            return
        if self._start * 2 > len(self.data) and self._start > _SMALL:
            self.data, self._start = self.data[self._start :], 0  # free what is read
        if len(self.data) < _SMALL:
            self.data = bytes(self.data) + data
        else:
            if not isinstance(self.data, bytearray):  # which grows without being copied each time
                self.data = bytearray(self.data)
            self.data += data

    def texts(self, decode: Callable[[str, int], list[str]], max_messages: int) -> list[str]:
        """Read the frames that come first and are whole text messages.

        Return their messages, the last one first.

        Micro-optimisation: most clients send only such frames.  What is longer than 64 KiB, is not
        valid, or comes after `BATCH` frames, is left to `next`.

        Args:
            decode: Returns the messages in the text of a frame.
            max_messages: Its second argument.
        """
        messages: list[str] = []
        data, start, unmask = self.data, self._start, self._unmask
        if self._message is not None or not isinstance(data, bytes):
            return messages
        size, limit = len(data), self._max_size
        for _ in range(BATCH):
            if size < start + 6 or data[start] != _SIMPLE:
                break
            length, mask = data[start + 1] - _MASKED, start + 2
            if length == 126:
                length, mask = data[start + 2] << 8 | data[start + 3], start + 4
                if length < 126:  # not the shortest form
                    break
            elif not 0 <= length < 126:
                break
            body = mask + 4
            end = body + length
            if end > size or length > limit:
                break
            payload = bytearray(data[body:end])
            unmask(data[mask:body], payload)
            try:
                messages += decode(payload.decode(), max_messages)
            except (UnicodeDecodeError, PayloadError):
                break
            start = end
        if start == size:
            self.data, self._start = b"", 0
        else:
            self._start = start
        messages.reverse()
        return messages

    def next(self) -> Frame | None:
        """Read the next frame.

        Return the opcode and payload of a ping, a pong, or a message that is complete with this
        frame.  For a fragment that completes none, the opcode is `CONTINUATION`.  Return None if
        more bytes must come first.

        Raises:
            ClientEndedError: If it is a close frame, or breaks the protocol.
        """
        data, start = self.data, self._start
        size = len(data) - start
        if size < 6:  # not even a header with a mask
            if size > 1:
                self._check_first(data[start], data[start + 1])
            self._keep()
            return None
        first, second = data[start], data[start + 1]
        self._check_first(first, second)
        header, length = self._lengths(second & ~_MASKED)
        if not first & CLOSE:  # it is part of a message
            self._check_size(length)
        if size < header + length:
            self._keep()
            return None
        body = start + header
        payload = bytearray(data[body : body + length])
        self._unmask(bytes(data[body - 4 : body]), payload)
        self._advance(body + length)
        return self._frame(first, payload)

    def _keep(self) -> None:
        """Keep the part of a frame that has come, not what was read together with it."""
        if self._start:
            self.data, self._start = self.data[self._start :], 0

    def _check_first(self, first: int, second: int) -> None:
        opcode = first & 0xF
        reserved = first & _RESERVED
        if opcode in CONTROL:
            is_valid = first & FIN and not reserved and second & ~_MASKED <= _MAX_CONTROL
        elif opcode == CONTINUATION:
            is_valid = self._message is not None and not reserved
        elif opcode in (TEXT, BINARY):
            is_allowed = reserved == 0 or (reserved == COMPRESSED and self._inflater is not None)
            is_valid = self._message is None and is_allowed
        else:
            is_valid = False
        if not (is_valid and second & _MASKED):
            _fail(PROTOCOL_ERROR)

    def _lengths(self, length: int) -> tuple[int, int]:
        """Return the lengths of the header and the payload; `length` is the first that is given."""
        if length <= _MAX_CONTROL:
            return 6, length
        start, header = self._start + 2, 4 if length == 126 else 10
        given = self.data[start : start + header - 2]
        if len(given) < header - 2:
            return header + 4, 0  # more must come anyway
        length = int.from_bytes(given, "big")
        is_shortest = length > (_MAX_CONTROL if header == 4 else 0xFFFF)
        if not is_shortest or length >= 2**63:
            _fail(PROTOCOL_ERROR)
        return header + 4, length

    def _check_size(self, length: int) -> None:
        if self._message is not None:
            length += len(self._message)
        if length > self._max_size:
            _fail(TOO_BIG)

    def _advance(self, position: int) -> None:
        """Note that the bytes up to `position` are read."""
        if position == len(self.data):
            self.data, self._start = b"", 0
        else:
            self._start = position

    def _frame(self, first: int, payload: bytearray) -> Frame:
        opcode = first & 0xF
        if opcode == CLOSE:
            _end(payload)
        if opcode in CONTROL:
            return opcode, bytes(payload)
        if self._message is None:
            self._opcode = first & ~FIN
            if first & FIN:
                return self._complete(payload)
            self._message = payload
            return CONTINUATION, b""
        self._message += payload
        if not first & FIN:
            return CONTINUATION, b""
        payload, self._message = self._message, None
        return self._complete(payload)

    def _complete(self, payload: bytes | bytearray) -> Frame:
        opcode = self._opcode & 0xF
        if self._opcode & COMPRESSED:
            assert self._inflater is not None, "_check_first allows no other compressed messages"
            payload = self._inflater.inflate(payload, self._max_size)
        return opcode, _text(payload) if opcode == TEXT else bytes(payload)


def _text(payload: bytes | bytearray) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        _fail(INVALID_UTF8)


def _fail(end: End) -> NoReturn:
    raise ClientEndedError(end, end.code) from None


def _end(payload: bytearray) -> NoReturn:
    """Read the payload of a close frame."""
    if not payload:
        raise ClientEndedError(End(NO_CODE, "", "client"), NORMAL)
    if len(payload) == 1:
        _fail(PROTOCOL_ERROR)
    code, reason = int.from_bytes(payload[:2], "big"), _text(payload[2:])
    if not is_sendable_code(code):
        _fail(INVALID_CLOSE_CODE)
    # browsers report our reply to the page
    raise ClientEndedError(End(code, reason, "client"), code, reason)
