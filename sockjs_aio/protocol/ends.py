"""Every way a session ends, and every close frame that a client can get: one table.

`Session` picks one of them and `CloseInfo` tells the application.  The documentation has the same
table (docs/lifecycle.md, "How a session ends").
"""

from typing import Literal, NamedTuple

Initiator = Literal[
    "client", "server", "timeout", "network", "shutdown", "overflow", "deadline", "gap", "error"
]
"""Who or what ended a session.

- ``client``: the client closed its WebSocket.  With HTTP transports, a client that leaves looks
  like ``network``.
- ``server``: the application called `close`, or `on_open` returned False.
- ``timeout``: no receiving request came within `disconnect_delay`, a ping was not answered, or data
  was waiting for the client and it took none of it for a whole `heartbeat_delay`.
- ``network``: the TCP connection ended without a close frame.
- ``shutdown``: the server drains or stops.
- ``overflow``: `send_queue_limit` was reached, or `message_rate` if the policy is to close.
- ``deadline``: `max_session_age` or the end of its authorization was reached.
- ``gap``: messages of a channel may have been missed, and the setting `on_gap` is to close.
- ``error``: a hook raised, or the client broke the protocol.
"""


class End(NamedTuple):
    """How a session ended.

    As for WebSockets (RFC 6455, section 7.1.5), code 1005 means a close frame without a code, and
    1006 means that the connection ended without a close frame.
    """

    code: int
    reason: str
    initiator: Initiator


def check_close(code: object, reason: object) -> None:
    """Check a code and a reason with which an application closes a session.

    Raises:
        TypeError: If `code` is not an `int` or `reason` is not a `str`.
        ValueError: If `code` is not 1000 to 4999.
    """
    if not isinstance(code, int) or not isinstance(reason, str):
        raise TypeError(f"close({code!r}, {reason!r}) must be close(code: int, reason: str)")
    if not 1000 <= code <= 4999:
        raise ValueError(f"close code {code!r} is out of range: it must be 1000 to 4999")


class ClientEndedError(Exception):
    """The client has ended its WebSocket, by a close frame or because it broke the protocol.

    Args:
        end: How the session ends.
        code: The code for the close frame that answers.
        reason: The reason for that frame.
    """

    def __init__(self, end: End, code: int, reason: str = "") -> None:
        super().__init__(end, code, reason)
        self.end = end
        self.code = code
        self.reason = reason


# The server ends the session: queued messages are sent, then a close frame with code and reason.
GO_AWAY = End(3000, "Go away!", "server")
SERVICE_RESTART = End(1012, "Service restart", "shutdown")
TOO_OLD = End(1012, "Session too old", "deadline")
AUTHORIZATION_EXPIRED = End(4401, "Authorization expired", "deadline")
MESSAGES_MISSED = End(1012, "Messages missed", "gap")
HOOK_FAILED = End(1011, "Internal error", "error")
SLOW_CONSUMER = End(1008, "Slow consumer", "overflow")  # queued messages are dropped
TOO_MANY = End(1008, "Too many messages", "overflow")  # messages not handled yet are dropped

# The client is gone; it cannot be told.
LOST = End(1006, "Connection lost", "network")
EXPIRED = End(1006, "Session expired", "timeout")
UNANSWERED = End(1006, "Ping not answered", "timeout")
STALLED = End(1006, "Client takes nothing", "timeout")

# The client broke the WebSocket protocol, or SockJS on a WebSocket: a WebSocket close frame.
PROTOCOL_ERROR = End(1002, "Protocol error", "error")
INVALID_CLOSE_CODE = End(1002, "Invalid close code", "error")
NOT_TEXT = End(1003, "SockJS messages are text", "error")
INVALID_UTF8 = End(1007, "Invalid UTF-8", "error")
BROKEN_JSON = End(1007, "Broken JSON encoding", "error")
BROKEN_COMPRESSION = End(1007, "Broken compression", "error")
TOO_BIG = End(1009, "Message too big", "error")

# The client ended the session, with or without a close code.
NO_CODE = 1005
UNSUBSCRIBED = End(NO_CODE, "", "client")
"""The client unsubscribed from a channel of `multiplex`."""

NORMAL = 1000
"""The code that answers a close frame without a code."""

ENDS = (
    GO_AWAY,
    SERVICE_RESTART,
    TOO_OLD,
    AUTHORIZATION_EXPIRED,
    MESSAGES_MISSED,
    HOOK_FAILED,
    SLOW_CONSUMER,
    TOO_MANY,
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

_STATUSES = {
    GO_AWAY: "go_away",
    SERVICE_RESTART: "service_restart",
    TOO_OLD: "too_old",
    AUTHORIZATION_EXPIRED: "authorization_expired",
    MESSAGES_MISSED: "messages_missed",
    HOOK_FAILED: "hook_failed",
    SLOW_CONSUMER: "slow_consumer",
    TOO_MANY: "too_many_messages",
    LOST: "lost",
    EXPIRED: "expired",
    UNANSWERED: "unanswered",
    STALLED: "stalled",
    PROTOCOL_ERROR: "protocol_error",
    INVALID_CLOSE_CODE: "invalid_close_code",
    NOT_TEXT: "not_text",
    INVALID_UTF8: "invalid_utf8",
    BROKEN_JSON: "broken_json",
    BROKEN_COMPRESSION: "broken_compression",
    TOO_BIG: "too_big",
}


def status_of(end: End) -> str:
    """Return the name under which sessions that ended like this are counted.

    There are few names, whatever codes and reasons an application or its clients choose.
    """
    if end in _STATUSES:
        return _STATUSES[end]
    if end.initiator == "error":
        return "too_big" if end.code == TOO_BIG.code else "protocol_error"
    return end.initiator


class Refusal(NamedTuple):
    """A close frame that is all that a receiving request gets."""

    code: int
    reason: str


ANOTHER_CONNECTION = Refusal(2010, "Another connection still open")
INTERRUPTED = Refusal(1002, "Connection interrupted")
"""The session ended because its TCP connection broke, or its process ended."""
SESSION_EXPIRED = Refusal(1002, "Session expired")

REFUSALS = (ANOTHER_CONNECTION, INTERRUPTED, SESSION_EXPIRED)
