"""The sockets that clients connect to: one for each worker, all on one port.

The supervisor has them open from beginning to end.  A connection that the kernel has given to a
worker which ends waits there for the next one, instead of being reset.
"""

import asyncio
import socket
from typing import Any

from aiohttp import web

BACKLOG = 1024
"""Connections that may wait for a worker."""

_ACCEPTING = 3
"""Turns of the loop that asyncio needs before a server knows of a connection it has accepted: one
that it stops earlier is reset."""

Address = tuple[Any, ...]


class Listeners:
    """Listening sockets among which the kernel spreads connections.

    Raises:
        OSError: If the address is in use, or the system cannot do that.
        ValueError: If there is no such port.
    """

    def __init__(self, host: str, port: int, count: int) -> None:
        if not hasattr(socket, "SO_REUSEPORT"):
            raise OSError("this system cannot share a port among processes (SO_REUSEPORT)")
        if not 0 <= port <= 65535:
            raise ValueError(f"port {port} cannot be: 0 to 65535")
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
        family = found[0][0]
        address: Address = found[0][4]
        try:
            _check_free(family, address)
        except OSError as error:
            raise OSError(
                f"port {port} of {host} cannot be listened at: {error.strerror}"
            ) from None
        self._sockets: list[socket.socket] = []
        try:
            for _ in range(count):
                listener = _bind(family, address, shared=True)
                self._sockets.append(listener)
                listener.listen(BACKLOG)
                address = listener.getsockname()  # of port 0, the one that was found
        except BaseException:
            self.close()
            raise
        name, self.port = str(address[0]), int(str(address[1]))
        self.url = f"http://[{name}]:{self.port}" if ":" in name else f"http://{name}:{self.port}"

    @property
    def urls(self) -> list[str]:
        """Where it listens, for people."""
        return [self.url]

    def filenos(self, number: int) -> list[int]:
        """Return the file descriptors of a worker's sockets."""
        return [self._sockets[number].fileno()]

    def close(self) -> None:
        """Close all."""
        for listener in self._sockets:
            listener.close()

    def __enter__(self) -> "Listeners":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def stop_accepting(sites: "list[tuple[web.SockSite, socket.socket]]") -> None:
    """Stop sites, each with its listening socket, and lose no connection that was accepted."""
    loop = asyncio.get_running_loop()
    for _, listener in sites:
        loop.remove_reader(listener.fileno())
    for _ in range(_ACCEPTING):
        await asyncio.sleep(0)
    for site, _ in sites:
        await site.stop()


def _bind(family: int, address: Address, *, shared: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


def _check_free(family: int, address: Address) -> None:
    """Sharing a port is for these workers: another service on it is a mistake."""
    with _bind(family, address, shared=False) as probe:
        probe.listen(1)
