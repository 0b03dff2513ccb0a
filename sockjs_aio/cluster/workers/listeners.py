"""The sockets that clients connect to: one per worker for each address, all on one port.

The supervisor keeps them open all the time.  If a worker dies, connections that the kernel has
assigned to it are not reset but wait for its replacement.  All workers share a Unix socket, and a
socket that was already open.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any

from aiohttp import web

from sockjs_aio.cluster.workers.unix_socket import UnixSocket

BACKLOG = 1024
"""Connections that may wait for a worker to accept them."""

_ACCEPTING = 3
"""Loop iterations until asyncio's server knows of a connection that it has accepted.  If it is
stopped sooner, the connection is reset."""

Address = tuple[Any, ...]


class Listeners:
    """Listening sockets over which the kernel spreads connections.

    Args:
        count: The number of workers.
        hosts: Addresses or names to listen at.
        port: The port for all of these.
        unix: A Unix socket to listen at as well.
        fds: File descriptors of sockets that are already open.

    Raises:
        OSError: If an address is in use, or the system cannot share ports.
        ValueError: If `port` is not a port.
    """

    def __init__(
        self,
        count: int,
        hosts: Sequence[str] = (),
        port: int = 0,
        *,
        unix: UnixSocket | None = None,
        fds: Iterable[int] = (),
    ) -> None:
        if not 0 <= port <= 65535:
            raise ValueError(f"port {port}: must be 0 to 65535")
        self._groups: list[list[socket.socket]] = []
        self._unix: UnixSocket | None = None
        self._done: set[tuple[int, Address]] = set()
        try:
            for host in hosts:
                port = self._listen(host, port, count)
            if unix is not None:
                self._groups.append([unix.listen(BACKLOG)])
                self._unix = unix
            for number in fds:
                self._groups.append([_take(number)])
        except BaseException:
            self.close()
            raise
        self.urls: list[str] = [_url(group[0]) for group in self._groups]
        """The addresses, as the log shows them."""

    def filenos(self, number: int) -> list[int]:
        """Return the file descriptors of a worker's sockets."""
        return [group[number % len(group)].fileno() for group in self._groups]

    def leave_out(self, number: int) -> None:
        """Have the kernel give no connections to a worker until it listens again."""
        for group in self._groups:
            if len(group) > 1:
                former = group[number]
                family, address = former.family, former.getsockname()
                group[number] = _bind(family, address, shared=True)
                former.close()

    def close(self) -> None:
        """Close all sockets."""
        for group in self._groups:
            for listener in group:
                listener.close()
        if self._unix is not None:
            self._unix.remove()

    def __enter__(self) -> "Listeners":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self, host: str, port: int, count: int) -> int:
        """Listen at all addresses of a host; return the port, a free one if `port` is 0."""
        if not hasattr(socket, "SO_REUSEPORT"):
            raise OSError("this system cannot share a port among processes (no SO_REUSEPORT)")
        flags = socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
        except OSError as error:
            raise OSError(f"cannot listen at host {host!r}: {error.strerror}") from None
        missing: OSError | None = None
        for family, _, _, _, address in dict.fromkeys(found):
            address = (address[0], port, *address[2:])
            if (family, address) in self._done:  # another host has the same
                continue
            try:
                port = self._listen_at(family, address, count)
            except OSError as error:
                wrong = OSError(f"cannot listen at port {port} of {host}: {error.strerror}")
                if error.errno != errno.EADDRNOTAVAIL:
                    raise wrong from None
                missing = wrong  # a name may have addresses of other machines
        if missing is not None and not self._groups:
            raise missing
        return port

    def _listen_at(self, family: int, address: Address, count: int) -> int:
        _check_free(family, address)
        group: list[socket.socket] = []
        self._groups.append(group)
        for _ in range(count):
            listener = _bind(family, address, shared=True)
            group.append(listener)
            listener.listen(BACKLOG)
            address = listener.getsockname()  # if the port was 0, the kernel has chosen one
        self._done.add((family, address))
        return int(address[1])


async def stop_accepting(sites: "list[tuple[web.SockSite, socket.socket]]") -> None:
    """Stop sites, given with their sockets, without losing connections already accepted."""
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
    """Raise OSError if another service has the port: only these workers should share it."""
    with _bind(family, address, shared=False) as probe:
        probe.listen(1)


def _take(number: int) -> socket.socket:
    """Use a socket that the parent process, such as systemd, has opened."""
    wrong = f"cannot listen at file descriptor {number}"
    try:
        # workers have another stdin
        listener = socket.socket(fileno=number if number else os.dup(number))
        if listener.type != socket.SOCK_STREAM:
            raise OSError(errno.EINVAL, "not a stream socket: use ListenStream= in the socket unit")
        if listener.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise OSError(errno.EINVAL, "neither a TCP nor a Unix socket")
        if _is_connected(listener):
            raise OSError(errno.EINVAL, "it is a connection: use Accept=no in the socket unit")
        listener.listen(BACKLOG)
    except OSError as error:
        raise OSError(f"{wrong}: {error.strerror}") from None
    return listener


def _is_connected(listener: socket.socket) -> bool:
    try:
        listener.getpeername()
    except OSError:
        return False
    return True


def _url(listener: socket.socket) -> str:
    name = listener.getsockname()
    if not isinstance(name, tuple):
        return f"unix:{os.fsdecode(name)}"
    return f"http://[{name[0]}]:{name[1]}" if ":" in name[0] else f"http://{name[0]}:{name[1]}"
