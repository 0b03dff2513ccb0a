"""The states of a session."""

import enum


class State(enum.Enum):
    """Where a session is in its life."""

    CONNECTING = 0  # created by the first request; nothing is written yet
    OPEN = 1  # the open frame is written or about to be
    CLOSING = 2  # closed: every later receiver gets the close frame
    CLOSED = 3  # ended: the registry forgets it


# plain names, because attribute access on the class takes three times as long (Python 3.11)
CONNECTING, OPEN, CLOSING, CLOSED = State
