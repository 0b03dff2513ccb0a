"""Makes connections to other nodes, which the kernel gives up once they are silent.

A cable that is cut, or a firewall that starts to drop packets, tells nobody.  Without a limit the
kernel would repeat a request for a quarter of an hour, and a poll would wait for ever.
"""

import math
import socket
from collections.abc import Callable
from typing import Any

import aiohttp

MAX_SILENCE = 10.0
"""Seconds within which the other side's kernel has to acknowledge what was sent, at most."""

PROBES = 4
"""How often a connection on which nothing is sent is looked after, within the time it may be
silent."""


def silence_limit(expiry: float) -> float:
    """Return how long another node's kernel may be silent.

    A node that has vanished is taken for dead before: its clients are told that their sessions have
    ended.  One that has not, but cannot be reached, is found out after that.
    """
    return min(1.5 * expiry + 1, MAX_SILENCE)


def make_connector(silence: float) -> aiohttp.TCPConnector:
    """Make what connects to other nodes.

    Args:
        silence: Seconds within which their kernels have to acknowledge something.
    """
    return aiohttp.TCPConnector(limit=0, socket_factory=_socket_factory(silence))


def _socket_factory(silence: float) -> Callable[[Any], socket.socket]:
    interval = max(1, math.floor(silence / PROBES))
    options = {
        "TCP_KEEPIDLE": interval,
        "TCP_KEEPALIVE": interval,  # what macOS calls the same
        "TCP_KEEPINTVL": interval,
        "TCP_KEEPCNT": PROBES,
        "TCP_USER_TIMEOUT": math.ceil(silence * 1000),
    }
    known = [
        (getattr(socket, name), value) for name, value in options.items() if hasattr(socket, name)
    ]

    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, _ = info
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in known:
                made.setsockopt(socket.IPPROTO_TCP, option, value)
        except BaseException:
            made.close()
            raise
        return made

    return make
