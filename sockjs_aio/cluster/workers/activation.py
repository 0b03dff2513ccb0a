"""Sockets that systemd has opened for this process: see sd_listen_fds(3)."""

import logging
import os
from collections.abc import MutableMapping

logger: logging.Logger = logging.getLogger("sockjs_aio.workers")

FIRST = 3
"""The file descriptor of the first one."""

_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES")


def take_sockets(environment: MutableMapping[str, str]) -> list[int]:
    """Return the file descriptors of the sockets that were passed to this process.

    The variables that tell of them leave the environment, so that no child takes them for its own.

    Raises:
        OSError: If the number of the sockets is not a number.
    """
    count, owner, *_ = [environment.pop(name, "") for name in _VARIABLES]
    if not count:
        return []
    if owner != str(os.getpid()):
        logger.warning(
            "sockets were passed to process %s, but this is process %d, which does not use them: "
            "start serve without a shell or another program in between, or with exec",
            owner or "?",
            os.getpid(),
        )
        return []
    if not (count.isascii() and count.isdigit()):
        raise OSError(f"LISTEN_FDS={count} must be the number of sockets that were passed")
    return list(range(FIRST, FIRST + int(count)))
