"""WebSocket frames of clients, against a reader that is slow and plain, and cut in other places."""

import zlib
from collections.abc import Iterator

from sockjs_aio.errors import PayloadBrokenError
from sockjs_aio.protocol.client_frames import ClientFrames, unmask
from sockjs_aio.protocol.deflate import Deflate, Inflater
from sockjs_aio.protocol.ends import ClientEndedError
from sockjs_aio.protocol.websocket import PONG, TEXT
from sockjs_aio.server import aiohttp_internals

LIMIT = 300  # bytes of a message: inputs are small
Outcome = list[tuple[int, str | bytes]]


def fuzz_client_frames(data: bytes) -> None:
    """The first byte says whether compression was agreed on, and where to cut the rest."""
    if not data:
        return
    first, stream = data[0], data[1:]
    is_packed = bool(first & 1)
    expected = list(read(stream, is_packed))
    for step in (1, 1 + (first >> 1) % 64, len(stream) or 1):
        pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
        for by_texts in (False, True):
            assert outcome(pieces, is_packed, by_texts) == expected


def outcome(pieces: list[bytes], is_packed: bool, by_texts: bool) -> Outcome:
    """Return the frames that our parser finds, and last the code of the close frame in answer.

    If `by_texts`, read text messages and single pongs in the fast way as far as it goes.
    """
    inflater = Inflater(Deflate()) if is_packed else None
    frames = ClientFrames(LIMIT, inflater, (len(pieces) % 2 and aiohttp_internals.unmask) or unmask)
    found: Outcome = []
    try:
        for piece in pieces:
            if by_texts and frames.is_pong(piece):
                payload = bytearray(piece[6:])
                unmask(piece[2:6], payload)
                found.append((PONG, bytes(payload)))
                continue
            frames.feed(piece)
            while True:
                if by_texts:
                    found += [(TEXT, text) for text in reversed(frames.texts(all_but_long, 1))]
                frame = frames.next()
                if frame is None:
                    break
                found.append(frame)
    except ClientEndedError as ended:
        found.append((ended.code, ended.end.reason))
    return found


def all_but_long(text: str, _most: int) -> list[str]:
    if len(text) > LIMIT // 4:
        raise PayloadBrokenError("it is left to the other way")
    return [text]


def read(data: bytes, is_packed: bool) -> Iterator[tuple[int, str | bytes]]:
    """Read frames as RFC 6455 and RFC 7692 describe them, one rule after the other."""
    unpacker = zlib.decompressobj(-15)
    message: bytes | None = None
    kind, is_compressed = 0, False
    while len(data) >= 2:
        fin, rsv, opcode = data[0] >> 7, data[0] >> 4 & 7, data[0] & 15
        is_masked, size = data[1] >> 7, data[1] & 127
        is_control = opcode >= 8
        may_compress = is_packed and opcode in (1, 2)
        if (
            opcode not in (0, 1, 2, 8, 9, 10)
            or not is_masked
            or (is_control and (not fin or size > 125))
            or rsv not in ((0, 4) if may_compress else (0,))
            or (opcode == 0 and message is None)
            or (opcode in (1, 2) and message is not None)
        ):
            yield 1002, "Protocol error"
            return
        more = {126: 2, 127: 8}.get(size, 0)
        header = 2 + more + 4
        if len(data) < 2 + more or len(data) < 6:
            return
        if more:
            size = int.from_bytes(data[2 : 2 + more], "big")
            if size < (126 if more == 2 else 65536) or size >> 63:
                yield 1002, "Protocol error"
                return
        if not is_control and len(message or b"") + size > LIMIT:
            yield 1009, "Message too big"
            return
        if len(data) < header + size:
            return
        mask = data[header - 4 : header]
        payload = bytes(
            byte ^ mask[index % 4] for index, byte in enumerate(data[header : header + size])
        )
        data = data[header + size :]
        if opcode == 8:
            yield close(payload)
            return
        if is_control:
            yield opcode, payload
            continue
        if message is None:
            message, kind, is_compressed = b"", opcode, rsv == 4
        message += payload
        if not fin:
            yield 0, b""
            continue
        whole, message = message, None
        if is_compressed:
            try:
                whole = unpacker.decompress(whole + b"\0\0\xff\xff", LIMIT + 1)
            except zlib.error:
                yield 1007, "Broken compression"
                return
            if len(whole) > LIMIT:
                yield 1009, "Message too big"
                return
            if unpacker.eof:
                unpacker = zlib.decompressobj(-15)
        if kind == 2:
            yield 2, whole
            continue
        try:
            yield 1, whole.decode()
        except UnicodeDecodeError:
            yield 1007, "Invalid UTF-8"
            return


def close(payload: bytes) -> tuple[int, str]:
    """Return the code of our answer, and the reason for which the session ends."""
    if not payload:
        return 1000, ""
    if len(payload) == 1:
        return 1002, "Protocol error"
    code = int.from_bytes(payload[:2], "big")
    try:
        reason = payload[2:].decode()
    except UnicodeDecodeError:
        return 1007, "Invalid UTF-8"
    if 3000 <= code <= 4999 or code in (1000, 1001, 1002, 1003, *range(1007, 1015)):
        return code, reason
    return 1002, "Invalid close code"
