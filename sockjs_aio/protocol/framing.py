"""How a session's messages become frames: the SockJS way, or none at all on the raw WebSocket.

A machine asks its framing; nothing here does I/O or keeps state.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from sockjs_aio.protocol import frames, json_text, websocket

_CONTROL = re.compile("[\x00-\x1f]")


class Framing(Protocol):
    """What `SessionMachine` needs to know about the way frames are written."""

    @property
    def greeting(self) -> bytes | None:
        """The first frame of a session, if there is one."""

    @property
    def heartbeat(self) -> bytes | None:
        """The frame that is sent after a time of silence, if there is one."""

    def encode(self, message: str | bytes) -> bytes:
        """Make of `message` the piece that is queued.  Raises `TypeError` for a wrong type."""
        ...

    def encode_json(self, text: str | bytes) -> bytes:
        """As `encode`, for JSON text that stands for itself."""
        ...

    def join(self, pieces: Sequence[bytes]) -> bytes:
        """Make one write of one or more queued pieces."""
        ...


class SockJSFraming:
    """The frames ``o``, ``h``, ``a[...]`` and ``c[...]``; messages are JSON strings."""

    greeting = frames.OPEN
    heartbeat = frames.HEARTBEAT

    @staticmethod
    def encode(message: str | bytes) -> bytes:
        """Quote `message`."""
        if not isinstance(message, str):
            raise TypeError(
                f"a SockJS message is a str, not {type(message).__name__}: encode it first, "
                "for instance with json.dumps() (bytes go over the raw WebSocket only)"
            )
        return json_text.quote(message)

    @staticmethod
    def encode_json(text: str | bytes) -> bytes:
        """Escape in `text` what `json_text.quote` escapes in a string, and make one line of it."""
        if not isinstance(text, str):
            raise TypeError(f"JSON text is a str, not {type(text).__name__}")
        # JSON has control characters between values only; a line break would end the frame there
        for blank in "\n\r\t":  # the legal ones; one by one, a megabyte of them would take long
            text = text.replace(blank, " ")
        return json_text.escape(_CONTROL.sub(" ", text))

    @staticmethod
    def join(pieces: Sequence[bytes]) -> bytes:
        """Make an array frame, or take the ready one of a message that is shared."""
        if len(pieces) == 1 and type(pieces[0]) is frames.SharedMessage:
            return pieces[0].frame
        return frames.array_frame(pieces)


class RawFraming:
    """No frames: each message goes out as it is, as a WebSocket message of its own."""

    greeting = None
    heartbeat = None

    @staticmethod
    def encode(message: str | bytes) -> bytes:
        """Make the WebSocket frame of `message`: text for `str`, binary for `bytes`."""
        if not isinstance(message, (str, bytes)):
            raise TypeError(
                f"a WebSocket message is a str or bytes, not {type(message).__name__}: "
                "encode it first, for instance with json.dumps()"
            )
        return websocket.message_frame(message)

    encode_json = encode

    @staticmethod
    def join(pieces: Sequence[bytes]) -> bytes:
        """Write the WebSocket frames one behind the other."""
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


SOCKJS: Framing = SockJSFraming()
RAW: Framing = RawFraming()


class PreparedMessage:
    """A message for many sessions: encoded once for each framing that they use.

    Args:
        message: Text, or for raw WebSockets only `bytes`.
        is_json: Whether `message` is JSON text that goes out as the value it stands for, so that
            the client gets an object, say, and not a string.
    """

    __slots__ = ("message", "_is_json", "_sockjs", "_raw", "_behind")

    def __init__(self, message: str | bytes, *, is_json: bool = False) -> None:
        self.message = message
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
        """Return the message of `prefix` and this one's text; made once, and of what is encoded.

        Raises:
            TypeError: If this one is no text.
        """
        if not isinstance(self.message, str):
            raise TypeError(
                f"a channel's message is a str, not {type(self.message).__name__}: encode it "
                "first, for instance with json.dumps()"
            )
        if self._behind is None:
            self._behind = {}
        message = self._behind.get(prefix)
        if message is None:
            message = self._behind[prefix] = PreparedMessage(prefix + self.message)
            text = json_text.quote(self.message) if self._is_json else self.encoded(SOCKJS)
            parts = json_text.quote(prefix)[:-1], memoryview(text)[1:]
            message._sockjs = frames.SharedMessage(b"".join(parts))
        return message
