"""How and why a session ended: what `on_close` and the log are told."""

from dataclasses import dataclass
from typing import Literal

Initiator = Literal["client", "server", "timeout", "network", "shutdown", "overflow", "error"]
"""Who or what ended a session.

- ``client``: the client closed its WebSocket; over HTTP leaving cannot be told from ``network``.
- ``server``: the application called `close`, or `on_open` returned False.
- ``timeout``: no receiving request came within `disconnect_delay`, a ping was not answered, or
  the client took nothing of what waited for it for a whole `heartbeat_delay`.
- ``network``: the connection ended without a word.
- ``shutdown``: the server drains or stops.
- ``overflow``: `send_queue_limit` was reached.
- ``error``: a hook raised, or the client broke the protocol.
"""


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


End = tuple[int, str, Initiator]
"""Code, reason and initiator."""

LOST: End = (1006, "Connection lost", "network")
EXPIRED: End = (1006, "Session expired", "timeout")
UNANSWERED: End = (1006, "Ping not answered", "timeout")
STALLED: End = (1006, "Client takes nothing", "timeout")
