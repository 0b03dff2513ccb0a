"""What a service manager such as systemd is told, at its ``NOTIFY_SOCKET``: see sd_notify(3)."""

import contextlib
import logging
import os
import socket
import time
from collections.abc import MutableMapping

from sockjs_aio.cluster.workers.control import BEAT

logger: logging.Logger = logging.getLogger("sockjs_aio.workers")

PATIENCE = 1.0
"""Seconds for which the queue of a busy manager may be full."""


class ServiceManager:
    """Tells the service manager what this process does, if there is one that wants to know.

    It takes the variables out of the environment, because they concern this process only and not
    the workers.

    Args:
        environment: The environment.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", "")
        self._watchdog = _watchdog(environment) if self._address else None
        self._beat_at = 0.0
        self._has_warned = False

    def ready(self, status: str) -> None:
        """Say that it serves, after its start or a reload."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload begins; the manager waits for `ready`."""
        # the time tells the manager which of its requests this answers
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=reloading")

    def stopping(self, limit: float) -> None:
        """Say that it ends, within `limit` seconds: the manager then waits for so long at least."""
        usec = int(min(limit, 86_400) * 1e6)
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={usec}", "STATUS=closing sessions")

    def beat(self) -> None:
        """Say that it is alive, if the manager watches that; call this every `BEAT` seconds."""
        now = time.monotonic()
        if self._watchdog is not None and now + BEAT > self._beat_at:
            self._beat_at = now + self._watchdog / 2
            self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):  # an abstract name
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(PATIENCE)
                sender.sendto("\n".join(lines).encode("utf-8", "replace"), address)
        except OSError as error:
            if not self._has_warned:  # the next attempt may succeed: without it, we are killed
                self._has_warned = True
                logger.warning("cannot tell the service manager at %s: %s", self._address, error)


def _watchdog(environment: MutableMapping[str, str]) -> float | None:
    """Return the seconds within which the manager wants to hear a beat; None if it does not."""
    usec = environment.pop("WATCHDOG_USEC", "")
    number = environment.pop("WATCHDOG_PID", "")
    if number not in ("", str(os.getpid())):
        return None
    with contextlib.suppress(ValueError):
        return int(usec) / 1e6
    return None
