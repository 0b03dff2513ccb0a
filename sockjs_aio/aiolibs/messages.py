"""What handlers are told, and the states and exceptions that they know."""

import enum
from dataclasses import dataclass

from sockjs_aio import SockJSError


class SessionIsAcquired(SockJSError):
    """Never raised here: transports answer a second receiver.  For ``except`` clauses."""


class SessionIsClosed(SockJSError):
    """Never raised here: `Session.send` returns False.  For ``except`` clauses."""


class MsgType(enum.Enum):
    """What a handler is told."""

    OPEN = 1
    """A client is in; the first message of each session."""
    MESSAGE = 2
    """`SockjsMessage.data` has come from the client."""
    CLOSE = 3
    """The session has ended otherwise than by the application; `CLOSED` follows at once."""
    CLOSED = 4
    """The session is over; the last message of each session."""


class SessionState(enum.Enum):
    """Where a session is, seen from its handler."""

    NEW = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


@dataclass(frozen=True)
class SockjsMessage:
    """What a handler gets: a type, and with `MsgType.MESSAGE` the client's text."""

    type: MsgType
    data: str | None

    @property
    def tp(self) -> MsgType:
        """The old name of `type`."""
        return self.type


OPEN_MESSAGE = SockjsMessage(MsgType.OPEN, None)
CLOSE_MESSAGE = SockjsMessage(MsgType.CLOSE, None)
CLOSED_MESSAGE = SockjsMessage(MsgType.CLOSED, None)
