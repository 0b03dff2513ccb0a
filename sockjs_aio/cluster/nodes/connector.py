"""Connections to other nodes, which the kernel closes if the other side is silent for too long.

When a cable is cut or a firewall starts to drop packets, no error is reported.  Without a limit
the kernel would resend a request for a quarter of an hour, and a poll would wait for ever.
"""

import math
import socket
from collections.abc import Callable
from typing import Any

import aiohttp

from sockjs_aio.server.forks import keep_from_forks

MAX_SILENCE = 10.0
"""Seconds within which the other kernel must acknowledge what was sent, at most."""

PROBES = 4
"""How many times an idle connection is probed within the seconds that it may be silent."""


def silence_limit(expiry: float) -> float:
    """Return how long another node's kernel may be silent.

    Unless limited by `MAX_SILENCE`, this is longer than `expiry`.  So a node that has died is known
    to be dead by then, and its clients are told that their sessions have ended.  Any other silent
    node lives but cannot be reached.
    """
    return min(1.5 * expiry + 1, MAX_SILENCE)


def make_connector(silence: float) -> aiohttp.TCPConnector:
    """Make the connector for connections to other nodes.

    Args:
        silence: Seconds within which the other kernel must acknowledge what was sent.
    """
    return aiohttp.TCPConnector(limit=0, socket_factory=_socket_factory(silence))


def _socket_factory(silence: float) -> Callable[[Any], socket.socket]:
    interval = max(1, math.floor(silence / PROBES))
    options = {
        "TCP_KEEPIDLE": interval,
        "TCP_KEEPALIVE": interval,  # the name on macOS
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
        keep_from_forks(made)  # the other node learns of this one's end by it
        return made

    return make
