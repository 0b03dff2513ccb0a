"""Which worker owns which session, and the sockets by which workers reach each other."""

import contextlib
import hashlib
import os
import socket
from pathlib import Path

import aiohttp

from sockjs_aio.cluster.relay.peers import Peer, make_client
from sockjs_aio.cluster.workers.accepting import Listener
from sockjs_aio.cluster.workers.socket_directory import is_dead
from sockjs_aio.server.service import Service

BACKLOG = 4096
"""Connections that may wait for a worker to accept them: Linux's default maximum."""

START_PATIENCE = 5.0
"""Seconds that a request which may open a session waits for a worker that is starting."""

KEY_SIZE = 32


def new_key() -> bytes:
    """Make the key that all workers share: clients can neither choose nor imitate a worker."""
    return os.urandom(KEY_SIZE)


class HostPlacement:
    """Places each session at the worker that a keyed hash of its id determines.

    Args:
        directory: The directory of the sockets; no other user can enter it.
        count: The number of workers.
        own: The number of this worker.
        key: The key that all workers share.
    """

    def __init__(self, directory: str, count: int, own: int, key: bytes) -> None:
        self.own_path: str = _path(directory, own)
        self.previous_path: str = self.own_path + ".previous"
        self.own: int = own
        self.count: int = count
        self._key = key
        self._paths = [_path(directory, number) for number in range(count)]
        self._peers: dict[int, Peer] = {}
        self._hidden_path = f"{self.own_path}.{os.getpid()}"

    def number(self, session_id: str) -> int:
        """Return the number of the worker that owns a session."""
        name = session_id.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(name, digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "big") % self.count

    def handover_path(self, number: int) -> str:
        """Return the path of the socket on which a worker takes connections of others."""
        return self._paths[number] + ".clients"

    async def owner(self, session_id: str, service: Service, opens: bool) -> Peer | None:
        """Return the worker that owns a session; None if it is this one."""
        number = self.number(session_id)
        if number == self.own:
            return None
        peer = self._peers.get(number)
        if peer is None:
            peer = self._peers[number] = worker_at(self._paths[number])
        return peer

    async def close(self) -> None:
        """Close the connections to other workers."""
        for peer in self._peers.values():
            await peer.client.close()

    def listen(self) -> socket.socket:
        """Make this worker's socket; other workers do not find it before `publish`."""
        listener = Listener(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(self._hidden_path)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def publish(self, *, replaces: bool, inherits: bool = False) -> None:
        """Let other workers find this one.

        Args:
            replaces: Whether there is a predecessor; it is then found at `previous_path`.
            inherits: Whether it is found there already, because its successor has died.
        """
        if not inherits:
            Path(self.previous_path).unlink(missing_ok=True)
        if replaces:
            with contextlib.suppress(FileNotFoundError):  # it has died before it served
                os.link(self.own_path, self.previous_path)
        os.replace(self._hidden_path, self.own_path)

    def yield_place(self) -> None:
        """Keep a second name for this worker's socket, so that a successor can take the first."""
        with contextlib.suppress(FileExistsError):
            os.link(self.own_path, self._hidden_path)

    def reclaim(self) -> None:
        """Let other workers find this one again: its successor could not start."""
        os.replace(self._hidden_path, self.own_path)
        self.leave()

    def leave(self) -> None:
        """Remove the second name: no `reclaim` will follow."""
        Path(self._hidden_path).unlink(missing_ok=True)  # `os.replace` keeps both of one socket

    def clear_up(self) -> None:
        """Remove all files but sockets with a listener, and the directory once it is empty.

        Workers do this only if their supervisor was killed before it could.
        """
        directory = Path(self.own_path).parent
        with contextlib.suppress(OSError):  # another worker may be doing the same
            for path in directory.iterdir():
                if is_dead(path):
                    path.unlink(missing_ok=True)
            directory.rmdir()


def worker_at(path: str, patience: float = START_PATIENCE) -> Peer:
    """Return the worker that listens at `path`; close its client when done."""
    connector = aiohttp.UnixConnector(path, limit=0)
    return Peer("http://worker", make_client(connector), patience)


def _path(directory: str, number: int) -> str:
    return f"{directory}/{number}"
