"""The messages that handlers get, and sockjs' names of states and exceptions."""

import enum
from dataclasses import dataclass

from sockjs_aio import SockJSError


class SessionIsAcquired(SockJSError):
    """Never raised, but your ``except`` clauses still work.

    If a client sends a second receiving request, the transport answers it.
    """


class SessionIsClosed(SockJSError):
    """Never raised, but your ``except`` clauses still work: `Session.send` returns False."""


class MsgType(enum.Enum):
    """The type of a message that a handler gets."""

    OPEN = 1
    """A client has connected; the first message of each session."""
    MESSAGE = 2
    """The client has sent `SockjsMessage.data`."""
    CLOSE = 3
    """The session has ended, but the application did not close it; `CLOSED` follows at once."""
    CLOSED = 4
    """The session is over; the last message of each session."""


class SessionState(enum.Enum):
    """A session's state, as its handler sees it."""

    NEW = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


@dataclass(frozen=True)
class SockjsMessage:
    """A message for a handler: its type, and for `MsgType.MESSAGE` the client's text."""

    type: MsgType
    data: str | None

    @property
    def tp(self) -> MsgType:
        """The old name of `type`."""
        return self.type


OPEN_MESSAGE = SockjsMessage(MsgType.OPEN, None)
CLOSE_MESSAGE = SockjsMessage(MsgType.CLOSE, None)
CLOSED_MESSAGE = SockjsMessage(MsgType.CLOSED, None)
