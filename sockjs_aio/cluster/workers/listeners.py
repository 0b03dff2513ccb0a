"""The sockets that clients connect to: of each address one for each worker, all on one port.

The supervisor has them open from beginning to end.  A connection that the kernel has given to a
worker which ends waits there for the next one, instead of being reset.  Of a Unix socket, or one
that was open already, there is a single one for all workers.
"""

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Iterable, Sequence
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

    Args:
        count: How many workers there are.
        hosts: Addresses or names to listen at.
        port: Of all of these.
        unix: Path of a socket to listen at, too.
        fds: File descriptors of sockets that are there already.

    Raises:
        OSError: If an address is in use, or the system cannot do that.
        ValueError: If there is no such port.
    """

    def __init__(
        self,
        count: int,
        hosts: Sequence[str] = (),
        port: int = 0,
        *,
        unix: str | None = None,
        fds: Iterable[int] = (),
    ) -> None:
        if not 0 <= port <= 65535:
            raise ValueError(f"port {port} cannot be: 0 to 65535")
        self._groups: list[list[socket.socket]] = []
        self._unix: str | None = None
        self._done: set[tuple[int, Address]] = set()
        try:
            for host in hosts:
                port = self._listen(host, port, count)
            if unix is not None:
                self._groups.append([_bind_unix(unix)])
                self._unix = unix
            for number in fds:
                self._groups.append([_take(number)])
        except BaseException:
            self.close()
            raise
        self.urls = [_url(group[0]) for group in self._groups]
        """Where it listens, for people."""

    def filenos(self, number: int) -> list[int]:
        """Return the file descriptors of a worker's sockets."""
        return [group[number % len(group)].fileno() for group in self._groups]

    def leave_out(self, number: int) -> None:
        """Have the kernel give no connections to a worker, until it listens by itself."""
        for group in self._groups:
            if len(group) > 1:
                former = group[number]
                family, address = former.family, former.getsockname()
                former.close()
                group[number] = _bind(family, address, shared=True)

    def close(self) -> None:
        """Close all."""
        for group in self._groups:
            for listener in group:
                listener.close()
        if self._unix is not None:
            _remove_unix(self._unix)

    def __enter__(self) -> "Listeners":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self, host: str, port: int, count: int) -> int:
        """Listen at all addresses of a host; return the port, which was found if it is 0."""
        if not hasattr(socket, "SO_REUSEPORT"):
            raise OSError("this system cannot share a port among processes (SO_REUSEPORT)")
        flags = socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
        except OSError as error:
            raise OSError(f"host {host!r} cannot be listened at: {error.strerror}") from None
        missing: OSError | None = None
        for family, _, _, _, address in dict.fromkeys(found):
            address = (address[0], port, *address[2:])
            if (family, address) in self._done:  # of another host
                continue
            try:
                port = self._listen_at(family, address, count)
            except OSError as error:
                wrong = OSError(f"port {port} of {host} cannot be listened at: {error.strerror}")
                if error.errno != errno.EADDRNOTAVAIL:
                    raise wrong from None
                missing = wrong  # a name may have more addresses than this machine
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
            address = listener.getsockname()  # of port 0, the one that was found
        self._done.add((family, address))
        return int(address[1])


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


def _bind_unix(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_unix(path)
        listener.bind(path)
        os.chmod(path, 0o666)  # a proxy may be another user; the directory says who may come
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(f"{path} cannot be listened at: {error.strerror or error}") from None
    return listener


def _remove_unix(path: str) -> None:
    """Remove a socket at which nobody listens, left by a process that was killed, perhaps."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            os.unlink(path)


def _take(number: int) -> socket.socket:
    """Take a socket that whoever started this process has opened."""
    try:
        listener = socket.socket(fileno=number)
        if listener.type != socket.SOCK_STREAM:
            raise OSError(errno.EINVAL, "it is no stream socket")
        listener.listen(BACKLOG)
    except OSError as error:
        raise OSError(f"file descriptor {number} cannot be listened at: {error.strerror}") from None
    return listener


def _url(listener: socket.socket) -> str:
    name = listener.getsockname()
    if not isinstance(name, tuple):
        return f"unix:{os.fsdecode(name)}"
    return f"http://[{name[0]}]:{name[1]}" if ":" in name[0] else f"http://{name[0]}:{name[1]}"
