"""Keeps asyncio from flooding the log when file descriptors run out.

asyncio then tries as many times as its backlog is long, logs each failure with a traceback, and
begins again after a second.  That takes time from the clients that are connected.
"""

import asyncio
import errno
import logging
import math
from typing import Any

logger: logging.Logger = logging.getLogger("sockjs_aio")

NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors that end when something else is closed."""

_QUIET = 10.0
"""Seconds for which one line in the log is enough."""


def quiet_accept_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Log such failures in a line now and then; other errors go where they went before."""
    former = loop.get_exception_handler()
    next_at = -math.inf

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal next_at
        error = context.get("exception")
        is_accepting = "socket" in context and isinstance(error, OSError) and error.errno in NO_ROOM
        if not is_accepting:
            if former is None:
                loop.default_exception_handler(context)
            else:
                former(loop, context)
        elif loop.time() >= next_at:
            next_at = loop.time() + _QUIET
            logger.error(
                "socket.accept() out of system resource: %s. New clients wait until others leave; "
                "raise the limit on open files (ulimit -n, LimitNOFILE=)",
                error,
            )

    loop.set_exception_handler(handle)
