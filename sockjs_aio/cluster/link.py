"""Connections to other processes: each carries one request at a time, and is kept for the next."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Protocol, cast

IDLE_LIMIT = 60.0
"""Seconds after which a connection that nobody uses is closed: before its other end does so."""

MAX_IDLE = 100
"""Connections to one process that are kept for later."""

CROWD_PATIENCE = 5.0
"""Seconds to wait for a process with which many others want to speak at the same time."""

RETRY_INTERVAL = 0.05
"""Seconds between two attempts to reach a process that is being started."""


class LinkUser(Protocol):
    """Who uses a link."""

    def received(self, data: bytes) -> None:
        """Take what has come."""

    def lost(self) -> None:
        """The connection has ended."""

    def writable(self, is_writable: bool) -> None:
        """The connection takes no more at present, or does so again."""


class Link(asyncio.Protocol):
    """One connection to another process."""

    def __init__(self, key: "Key", idle: "dict[Key, list[Link]]") -> None:
        self.transport: asyncio.Transport
        self.is_lost = False
        self.user: LinkUser | None = None
        self._key = key
        self._idle = idle
        self._idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand on what comes."""
        if self.user is None:
            self.cut()  # nobody has asked
        else:
            self.user.received(data)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever uses it."""
        self.is_lost = True
        kept = self._idle.get(self._key, [])
        if self in kept:
            kept.remove(self)
        if not kept:
            self._idle.pop(self._key, None)
        user, self.user = self.user, None
        if user is not None:
            user.lost()

    def pause_writing(self) -> None:
        """The other process does not read."""
        if self.user is not None:
            self.user.writable(False)

    def resume_writing(self) -> None:
        """It reads again."""
        if self.user is not None:
            self.user.writable(True)

    def cut(self) -> None:
        """End it at once."""
        self.user = None
        self.transport.abort()

    def keep(self) -> None:
        """Keep it for another request: the response to this one is complete."""
        self.user = None
        kept = self._idle.setdefault(self._key, [])
        if self.is_lost or self.transport.is_closing() or len(kept) >= MAX_IDLE:
            self.transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._idle_since = loop.time()
        kept.append(self)
        while kept and kept[0]._idle_since < self._idle_since - IDLE_LIMIT:
            kept.pop(0).cut()


Key = tuple[str, int]
"""A path, and which of the files that have had it."""


class Links:
    """The connections of this process to the Unix sockets of others."""

    def __init__(self) -> None:
        self._idle: dict[Key, list[Link]] = {}

    async def get(self, path: str, patience: float) -> Link:
        """Return a connection to `path`: one that was kept, or a new one.

        Args:
            path: Of a Unix socket.
            patience: Seconds to wait for somebody to listen there.

        Raises:
            OSError: If nobody does.
        """
        loop = asyncio.get_running_loop()
        start = loop.time()
        while True:
            try:
                return await self._get(path, loop)
            except (ConnectionRefusedError, FileNotFoundError):
                if loop.time() >= start + patience:
                    raise
            except BlockingIOError:  # it is there, and has not accepted others so far
                if loop.time() >= start + CROWD_PATIENCE:
                    raise
            await asyncio.sleep(RETRY_INTERVAL)

    async def _get(self, path: str, loop: asyncio.AbstractEventLoop) -> Link:
        key = (path, os.stat(path).st_ino)  # a successor listens at the same path
        kept = self._idle.get(key)
        while kept:
            link = kept.pop()
            if link._idle_since > loop.time() - IDLE_LIMIT and not link.transport.is_closing():
                return link
            link.cut()
        connection = _connect(path)
        make: Callable[[], Link] = lambda: Link(key, self._idle)  # noqa: E731
        try:
            _, link = await loop.create_unix_connection(make, sock=connection)
        except BaseException:
            connection.close()
            raise
        return link

    def close(self) -> None:
        """End those that nobody uses."""
        for kept in list(self._idle.values()):
            for link in list(kept):
                link.cut()


def _connect(path: str) -> socket.socket:
    """Connect to a Unix socket, which takes no time.

    asyncio would take a connection for made which has found no place in the queue.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection
