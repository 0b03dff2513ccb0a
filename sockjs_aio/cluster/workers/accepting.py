"""A listening socket that keeps asyncio from flooding the log when file descriptors run out."""

import socket
import time
from typing import Any

from sockjs_aio.server.accept_errors import NO_ROOM

_QUIET = 0.5
"""Seconds for which one such error is enough: asyncio tries again after one second."""


class Listener(socket.socket):
    """Fails once, where asyncio would try and fail as many times as its backlog is long.

    asyncio logs each failure with a traceback, and tries again at once.  With a backlog of 1,024
    this blocks the loop for a tenth of a second, again and again.
    """

    _quiet_until = 0.0

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
