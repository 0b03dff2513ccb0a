"""Every way a session ends, and every close frame that a client is told: one table.

`Session` says which of them happened, `CloseInfo` tells the application, and the documentation has
the same table for people (docs/lifecycle.md, "How a session ends").
"""

from typing import Literal, NamedTuple

Initiator = Literal["client", "server", "timeout", "network", "shutdown", "overflow", "error"]
"""Who or what ended a session.

- ``client``: the client closed its WebSocket; over HTTP, leaving looks like ``network``.
- ``server``: the application called `close`, or `on_open` returned False.
- ``timeout``: no receiving request came within `disconnect_delay`, a ping was not answered, or the
  client took no data that waited for it for a whole `heartbeat_delay`.
- ``network``: the connection ended without a close frame.
- ``shutdown``: the server drains or stops.
- ``overflow``: `send_queue_limit` was reached.
- ``error``: a hook raised, or the client broke the protocol.
"""


class End(NamedTuple):
    """How a session ended.

    As everywhere in WebSockets (RFC 6455, section 7.1.5), code 1005 stands for a close frame
    without a code, and 1006 for an end without a close frame.
    """

    code: int
    reason: str
    initiator: Initiator


# The server ends it: queued messages go out first, then a close frame with this code and reason.
GO_AWAY = End(3000, "Go away!", "server")
SERVICE_RESTART = End(1012, "Service restart", "shutdown")
HOOK_FAILED = End(1011, "Internal error", "error")
SLOW_CONSUMER = End(1008, "Slow consumer", "overflow")  # what is queued is dropped

# Nobody is there to be told.
LOST = End(1006, "Connection lost", "network")
EXPIRED = End(1006, "Session expired", "timeout")
UNANSWERED = End(1006, "Ping not answered", "timeout")
STALLED = End(1006, "Client takes nothing", "timeout")

# The client broke the protocol of WebSockets, or of SockJS on one: a close frame of the WebSocket.
PROTOCOL_ERROR = End(1002, "Protocol error", "error")
INVALID_CLOSE_CODE = End(1002, "Invalid close code", "error")
NOT_TEXT = End(1003, "SockJS messages are text", "error")
INVALID_UTF8 = End(1007, "Invalid UTF-8", "error")
BROKEN_JSON = End(1007, "Broken JSON encoding", "error")
BROKEN_COMPRESSION = End(1007, "Broken compression", "error")
TOO_BIG = End(1009, "Message too big", "error")

# The client ended it, with a code of its own, or without one.
NO_CODE = 1005
UNSUBSCRIBED = End(NO_CODE, "", "client")
"""Of a channel in `multiplex`."""

NORMAL = 1000
"""What a close frame without a code is answered with."""

ENDS = (
    GO_AWAY,
    SERVICE_RESTART,
    HOOK_FAILED,
    SLOW_CONSUMER,
    LOST,
    EXPIRED,
    UNANSWERED,
    STALLED,
    PROTOCOL_ERROR,
    INVALID_CLOSE_CODE,
    NOT_TEXT,
    INVALID_UTF8,
    BROKEN_JSON,
    BROKEN_COMPRESSION,
    TOO_BIG,
)


class Refusal(NamedTuple):
    """A close frame for a receiving request that gets nothing else."""

    code: int
    reason: str


ANOTHER_CONNECTION = Refusal(2010, "Another connection still open")
INTERRUPTED = Refusal(1002, "Connection interrupted")
"""The session ended with a connection, or with its process."""
SESSION_EXPIRED = Refusal(1002, "Session expired")

REFUSALS = (ANOTHER_CONNECTION, INTERRUPTED, SESSION_EXPIRED)
