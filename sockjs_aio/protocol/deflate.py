"""permessage-deflate: compressed WebSocket messages (RFC 7692).  No I/O."""

import re
import sys
import zlib
from typing import NamedTuple

from sockjs_aio.protocol.ends import BROKEN_COMPRESSION, TOO_BIG, ClientEndedError

_NAME = "permessage-deflate"
_TAIL = b"\x00\x00\xff\xff"  # ends each message, and is not sent
_MAX_BITS = 15
_BITS = re.compile(r'"?(8|9|1[0-5])"?')


class Deflate(NamedTuple):
    """What server and client have agreed on."""

    bits: int = _MAX_BITS
    """The server's window is 2 to the power of this, in bytes."""
    keeps_ours: bool = True
    """Whether the server may refer to earlier messages."""
    keeps_theirs: bool = True
    """Whether the client may refer to earlier messages."""

    def __str__(self) -> str:
        text = _NAME
        if not self.keeps_ours:
            text += "; server_no_context_takeover"
        if not self.keeps_theirs:
            text += "; client_no_context_takeover"
        if self.bits < _MAX_BITS:
            text += f"; server_max_window_bits={self.bits}"
        return text


def agree(offers: str) -> Deflate | None:
    """Choose the first offer that we can accept; None if there is none.

    Args:
        offers: The value of ``Sec-WebSocket-Extensions``.
    """
    for offer in offers.split(","):
        name, *parameters = [part.strip(" \t") for part in offer.split(";")]
        if name == _NAME and (agreed := _accept(parameters)) is not None:
            return agreed
    return None


def _accept(parameters: list[str]) -> Deflate | None:
    agreed, seen = Deflate(), set()
    for parameter in parameters:
        name, equals, value = (part.strip(" \t") for part in parameter.partition("="))
        bits = _BITS.fullmatch(value)
        if name in seen:
            return None
        seen.add(name)
        if name == "server_no_context_takeover" and not equals:
            agreed = agreed._replace(keeps_ours=False)
        elif name == "client_no_context_takeover" and not equals:
            agreed = agreed._replace(keeps_theirs=False)
        elif name == "server_max_window_bits" and bits and bits[1] != "8":  # zlib has no 8
            agreed = agreed._replace(bits=int(bits[1]))
        elif name != "client_max_window_bits" or (equals and not bits):
            return None
    return agreed


class Inflater:
    """Unpacks the messages of one client."""

    __slots__ = ("_keeps", "_zlib")

    def __init__(self, agreed: Deflate) -> None:
        self._keeps = agreed.keeps_theirs
        self._zlib: zlib._Decompress | None = None

    def inflate(self, payload: bytes | bytearray, max_size: int) -> bytes:
        """Unpack one message.

        Raises:
            ClientEndedError: If it has more than `max_size` bytes, or cannot be unpacked.
        """
        unpacker = self._zlib or zlib.decompressobj(-_MAX_BITS)
        try:
            message = unpacker.decompress(payload + _TAIL, min(max_size + 1, sys.maxsize))
        except zlib.error:
            raise ClientEndedError(BROKEN_COMPRESSION, BROKEN_COMPRESSION.code) from None
        if len(message) > max_size:
            raise ClientEndedError(TOO_BIG, TOO_BIG.code)
        # a client may mark the last block of a message as the last of all
        self._zlib = unpacker if self._keeps and not unpacker.eof else None
        return message


class Deflater:
    """Packs the messages for one client."""

    __slots__ = ("_agreed", "_zlib")

    def __init__(self, agreed: Deflate) -> None:
        self._agreed = agreed
        self._zlib: zlib._Compress | None = None

    def deflate(self, payload: bytes) -> bytes:
        """Pack one message."""
        packer = self._zlib
        if packer is None:
            packer = zlib.compressobj(zlib.Z_BEST_SPEED, wbits=-self._agreed.bits)
            if self._agreed.keeps_ours:
                self._zlib = packer
        return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]
