"""A listening socket that keeps asyncio from flooding the log when file descriptors run out."""

import socket
import time
from typing import Any

from sockjs_aio.server.accept_errors import NO_ROOM
from sockjs_aio.server.forks import keep_listener_from_forks

_QUIET = 0.5
"""Seconds for which one such error is enough: asyncio tries again after one second."""


class Listener(socket.socket):
    """Fails once, where asyncio would try and fail as many times as its backlog is long.

    asyncio logs each failure with a traceback, and tries again at once.  With a backlog of 1,024
    this blocks the loop for a tenth of a second, again and again.
    """

    _quiet_until = 0.0

    @classmethod
    def take(cls, number: int) -> "Listener":
        """Take what the supervisor has passed; what the application forks or starts must not."""
        listener = cls(fileno=number)
        listener.setblocking(False)  # as an event loop's are: `forks` looks for that
        listener.set_inheritable(False)
        keep_listener_from_forks(listener)
        return listener

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        Raises:
            BlockingIOError: If none is waiting, or if it has just failed for lack of resources.
        """
        try:
            return super().accept()
        except OSError as error:
            now = time.monotonic()
            if error.errno in NO_ROOM:
                if now < self._quiet_until:
                    raise BlockingIOError from None
                self._quiet_until = now + _QUIET
            raise
