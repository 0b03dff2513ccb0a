"""A listening socket that does not let asyncio shout when no more files can be opened."""

import errno
import socket
import time
from typing import Any

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_QUIET = 0.5
"""Seconds for which one such error says all: asyncio tries again after one second."""


class Listener(socket.socket):
    """Fails once where asyncio would have it fail as often as its backlog is long.

    asyncio logs each failure with a traceback, and goes on to the next at once: with a backlog of
    1,024 that holds the loop up for a tenth of a second, again and again.
    """

    _quiet_until = 0.0

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        Raises:
            BlockingIOError: If there is none, or it has just failed for want of room.
        """
        try:
            return super().accept()
        except OSError as error:
            now = time.monotonic()
            if error.errno in _NO_ROOM:
                if now < self._quiet_until:
                    raise BlockingIOError from None
                self._quiet_until = now + _QUIET
            raise
