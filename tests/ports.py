"""Ports for servers that have to be told theirs."""

import errno
import os
import random
import socket

FIRST, LAST = 20_000, 32_000
"""Below what Linux gives to connections and to whoever asks for any port: those are in use at any
moment, by the tests beside this one."""

MAX_WORKERS = 16

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % MAX_WORKERS
_ports = list(range(FIRST + _worker, LAST, MAX_WORKERS))
random.shuffle(_ports)


def free_port() -> int:
    """Return a port that nobody listens on, another one at each call."""
    while True:
        port = _ports.pop()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
