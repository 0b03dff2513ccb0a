"""How and why a session ended, for `on_close` and for the log."""

from dataclasses import dataclass

from sockjs_aio.protocol.ends import Initiator


@dataclass(frozen=True, slots=True)
class CloseInfo:
    """The end of one session.

    As for WebSockets (RFC 6455, section 7.1.5), code 1005 means a close frame without a code, and
    1006 means that the connection ended without a close frame.
    """

    code: int
    """The close code, sent or received."""
    reason: str
    """The close reason; the client's own text if the client closed."""
    initiator: Initiator
    """Who or what ended the session."""
    seconds: float
    """How long the session was open."""
    transport: str
    """The name of the transport that opened the session, such as ``"websocket"``."""

    def __str__(self) -> str:
        return f"{self.initiator}, {self.code} {self.reason!r}, after {self.seconds:.3g} s"
