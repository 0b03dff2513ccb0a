"""Where the sessions of a host's workers belong, and the sockets by which they reach each other."""

import contextlib
import errno
import hashlib
import os
import socket
import sys
import tempfile
from pathlib import Path

import aiohttp

from sockjs_aio.cluster.relay.peers import Peer, make_client
from sockjs_aio.cluster.workers.accepting import Listener
from sockjs_aio.server.service import Service

BACKLOG = 4096
"""Connections that may wait for a worker to accept them: the kernel allows no more as a rule."""

START_PATIENCE = 5.0
"""Seconds that a request which may open a session waits for a worker that is being restarted."""

KEY_SIZE = 32

MAX_PATH = 107 if sys.platform == "linux" else 103
"""Bytes that the path of a Unix socket may have."""

_LONGEST_NAME = "/9999.9999999"


def new_key() -> bytes:
    """Make a key that all workers share, so that no client can choose its worker or be one."""
    return os.urandom(KEY_SIZE)


def make_directory() -> str:
    """Make the directory for the workers' sockets, for this user alone.

    Raises:
        OSError: If there is none with a path that is short enough.
    """
    wanted = tempfile.gettempdir()
    for place in dict.fromkeys((wanted, "/tmp")):
        with contextlib.suppress(OSError):
            directory = tempfile.mkdtemp(prefix="sockjs-aio-", dir=place)
            if len(os.fsencode(directory + _LONGEST_NAME)) <= MAX_PATH:
                return directory
            os.rmdir(directory)
    raise OSError(
        f"no directory for the sockets between workers: the path of {wanted} is too long, and "
        "/tmp cannot be used; set TMPDIR to a directory with a shorter path"
    )


class HostPlacement:
    """The placement of one host's workers: a session belongs where its id hashes to.

    Args:
        directory: Where the sockets are; nobody else may enter it.
        count: How many workers there are.
        own: The number of this one.
        key: Shared by all.
    """

    def __init__(self, directory: str, count: int, own: int, key: bytes) -> None:
        self.own_path = _path(directory, own)
        self.previous_path = self.own_path + ".previous"
        self.ended_ids_path = self.own_path + ".ended"
        self._own = own
        self._count = count
        self._key = key
        self._paths = [_path(directory, number) for number in range(count)]
        self._peers: dict[int, Peer] = {}
        self._hidden_path = f"{self.own_path}.{os.getpid()}"

    def number(self, session_id: str) -> int:
        """Return the number of the worker that a session belongs to."""
        name = session_id.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(name, digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "big") % self._count

    async def owner(self, session_id: str, service: Service, opens: bool) -> Peer | None:
        """Return the worker that a session belongs to; None if it is this one."""
        number = self.number(session_id)
        if number == self._own:
            return None
        peer = self._peers.get(number)
        if peer is None:
            peer = self._peers[number] = worker_at(self._paths[number])
        return peer

    async def close(self) -> None:
        """End the connections to other workers."""
        for peer in self._peers.values():
            await peer.client.close()

    def listen(self) -> socket.socket:
        """Make the socket of this worker; others do not find it before `publish`."""
        listener = Listener(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(self._hidden_path)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def publish(self, *, replaces: bool) -> None:
        """Let others find this worker.

        Args:
            replaces: Whether there is one that goes on for a while; it is at `previous_path` then.
        """
        Path(self.previous_path).unlink(missing_ok=True)
        if replaces:
            os.link(self.own_path, self.previous_path)
        os.replace(self._hidden_path, self.own_path)

    def yield_place(self) -> None:
        """Let a successor be found instead, from when it wants to."""
        with contextlib.suppress(FileExistsError):
            os.link(self.own_path, self._hidden_path)

    def reclaim(self) -> None:
        """Let others find this worker again."""
        os.replace(self._hidden_path, self.own_path)
        self.leave()

    def leave(self) -> None:
        """There will be no need to `reclaim`."""
        Path(self._hidden_path).unlink(missing_ok=True)  # two names of one socket are not replaced

    def clear_up(self) -> None:
        """Remove the sockets at which nobody listens, and the directory with the last of them.

        This is for workers whose supervisor has not lived to do that.
        """
        directory = Path(self.own_path).parent
        with contextlib.suppress(OSError):  # another worker does the same
            for path in directory.iterdir():
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                    probe.setblocking(False)
                    if probe.connect_ex(str(path)) == errno.ECONNREFUSED:
                        path.unlink(missing_ok=True)
            directory.rmdir()


def worker_at(path: str, patience: float = START_PATIENCE) -> Peer:
    """Return the worker that listens at `path`; its client has to be closed."""
    connector = aiohttp.UnixConnector(path, limit=0)
    return Peer("http://worker", make_client(connector), patience)


def _path(directory: str, number: int) -> str:
    return f"{directory}/{number}"
