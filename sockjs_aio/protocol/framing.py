"""How a session's messages become frames: as SockJS frames, or unframed on a raw WebSocket.

Each `SessionMachine` has a framing.  No I/O, no state.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from sockjs_aio.protocol import frames, json_text, websocket
from sockjs_aio.protocol.names import check_key

_CONTROL = re.compile("[\x00-\x1f]")


class Framing(Protocol):
    """What `SessionMachine` needs to know about frames."""

    @property
    def greeting(self) -> bytes | None:
        """The first frame of a session; None if there is none."""

    @property
    def heartbeat(self) -> bytes | None:
        """The frame to send after a time of silence; None if there is none."""

    def encode(self, message: str | bytes) -> bytes:
        """Encode `message` as the piece to queue.  Raises `TypeError` for a wrong type."""
        ...

    def encode_json(self, text: str | bytes) -> bytes:
        """Like `encode`, for JSON text whose value the client gets."""
        ...

    def join(self, pieces: Sequence[bytes]) -> bytes:
        """Join one or more queued pieces into the bytes of one write."""
        ...

    def alone(self, piece: bytes) -> bytes:
        """Do what `join` does with only one piece."""
        ...


class SockJSFraming:
    """The frames ``o``, ``h``, ``a[...]`` and ``c[...]``; messages are JSON strings."""

    greeting = frames.OPEN
    heartbeat = frames.HEARTBEAT

    encode: "staticmethod[[str | bytes], bytes]" = staticmethod(json_text.quote)

    @staticmethod
    def encode_json(text: str | bytes) -> bytes:
        """Escape `text` as `json_text.quote` does, and put it on one line."""
        if not isinstance(text, str):
            raise TypeError(f"JSON text is a str, not {type(text).__name__}")
        # JSON allows control characters only between values; a line break would end the frame
        for blank in "\n\r\t":  # the legal ones; the regular expression is slow for a megabyte
            text = text.replace(blank, " ")
        return json_text.escape(_CONTROL.sub(" ", text))

    @staticmethod
    def join(pieces: Sequence[bytes]) -> bytes:
        """Make an array frame."""
        return SockJSFraming.alone(pieces[0]) if len(pieces) == 1 else frames.array_frame(pieces)

    @staticmethod
    def alone(piece: bytes) -> bytes:
        """Make an array frame; a shared message has one already."""
        return piece.frame if type(piece) is frames.SharedMessage else b"a[%b]" % piece


class RawFraming:
    """No SockJS frames: each message is one WebSocket message."""

    greeting = None
    heartbeat = None

    @staticmethod
    def encode(message: str | bytes) -> bytes:
        """Make the WebSocket frame for `message`: text for `str`, binary for `bytes`."""
        if not isinstance(message, (str, bytes)):
            raise TypeError(
                f"a WebSocket message is a str or bytes, not {type(message).__name__}: "
                "encode it first, for example with json.dumps()"
            )
        return websocket.message_frame(message)

    encode_json = encode

    @staticmethod
    def join(pieces: Sequence[bytes]) -> bytes:
        """Concatenate the WebSocket frames."""
        return b"".join(pieces)

    @staticmethod
    def alone(piece: bytes) -> bytes:
        """Return the WebSocket frame as it is."""
        return piece


SOCKJS: Framing = SockJSFraming()
RAW: Framing = RawFraming()


class PreparedMessage:
    """A message for many sessions, encoded once for each framing that they use.

    Args:
        message: Text.  Raw WebSockets also take `bytes`.
        is_json: Whether `message` is JSON text and the client gets its value, such as an object,
            instead of a string.
        key: A message replaces the one that is still queued with the same key.

    Raises:
        TypeError, ValueError: If `key` is not valid; see `SockJSConnection.send`.
    """

    __slots__ = ("message", "key", "_is_json", "_sockjs", "_raw", "_behind")

    def __init__(
        self, message: str | bytes, *, is_json: bool = False, key: str | None = None
    ) -> None:
        if key is not None:
            check_key(key)
        self.message: str | bytes = message
        self.key: str | None = key
        self._is_json = is_json
        self._sockjs: frames.SharedMessage | None = None
        self._raw: bytes | None = None
        self._behind: dict[str, PreparedMessage] | None = None

    def encoded(self, framing: Framing) -> bytes:
        """Return the piece that a session with `framing` queues.

        Raises:
            TypeError: If the framing cannot carry a message of this type.
        """
        if framing is RAW:
            if self._raw is None:
                self._raw = framing.encode(self.message)
            return self._raw
        if self._sockjs is None:
            encode = framing.encode_json if self._is_json else framing.encode
            self._sockjs = frames.SharedMessage(encode(self.message))
        return self._sockjs

    def behind(self, prefix: str) -> "PreparedMessage":
        """Return a message with `prefix` before this one's text, and before its key.

        It is made once for each prefix, from the text that is encoded already.

        Raises:
            TypeError: If this message is not a `str`.
        """
        if not isinstance(self.message, str):
            raise TypeError(
                f"a channel's message is a str, not {type(self.message).__name__}: encode it "
                "first, for example with json.dumps()"
            )
        if self._behind is None:
            self._behind = {}
        message = self._behind.get(prefix)
        if message is None:
            message = self._behind[prefix] = PreparedMessage(prefix + self.message)
            message.key = None if self.key is None else prefix + self.key
            text = json_text.quote(self.message) if self._is_json else self.encoded(SOCKJS)
            parts = json_text.quote(prefix)[:-1], memoryview(text)[1:]
            message._sockjs = frames.SharedMessage(b"".join(parts))
        return message
