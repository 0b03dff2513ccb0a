"""How and why a session ended: what `on_close` and the log are told."""

from dataclasses import dataclass

from sockjs_aio.protocol.ends import Initiator


@dataclass(frozen=True, slots=True)
class CloseInfo:
    """The end of one session.

    As everywhere in WebSockets (RFC 6455, section 7.1.5), code 1005 stands for a close frame
    without a code, and 1006 for an end without a close frame.
    """

    code: int
    """The close code, sent or received."""
    reason: str
    """The text with it; a client's own words if the client closed."""
    initiator: Initiator
    """Who or what ended the session."""
    seconds: float
    """How long it was open."""
    transport: str
    """Name of the transport that opened it, such as ``"websocket"``."""

    def __str__(self) -> str:
        return f"{self.initiator}, {self.code} {self.reason!r}, after {self.seconds:.3g} s"
