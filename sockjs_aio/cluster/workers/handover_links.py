"""The sockets over which workers hand connections over to each other.

Beside its socket for relayed requests, each worker has one for connections.  Another worker sends a
client's socket, with the bytes that it has read from it, as one message.  The answer is one byte,
and until it has come the sender keeps the connection too: if the other worker refuses it, or ends,
nothing of the request was answered, and the sender goes on with it.

No key is needed: only processes of this user can enter the directory of the sockets.
"""

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

logger: logging.Logger = logging.getLogger("sockjs_aio.workers")

MAX_DATA = 65536
"""Bytes that may have been read from a connection that is handed over."""

BACKLOG = 1024
"""Workers that may wait to connect: many more than there are."""

PAUSE = 1.0
"""Seconds to wait after a worker could not be accepted, because this one lacks resources."""

_NEEDED = ("send_fds", "SOCK_SEQPACKET", "MSG_CMSG_CLOEXEC")

_TAKEN = b"+"
_REFUSED = b"-"


class Offer(Protocol):
    """A connection that is offered to another worker."""

    def taken(self) -> None:
        """The other worker has it."""

    def refused(self) -> None:
        """The other worker has done nothing with it, and never will."""


def is_possible() -> bool:
    """Tell whether this system can pass sockets in messages."""
    return all(hasattr(socket, name) for name in _NEEDED)


class Link:
    """The way to one other worker.

    Args:
        path: The path of its socket; it may not exist yet, or be replaced.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._offers: deque[Offer] = deque()  # in the order in which they will be answered

    def send(self, offer: Offer, client: int, data: bytes) -> bool:
        """Offer a connection; return False if that cannot be done now.

        Args:
            offer: Is told the answer.
            client: The file descriptor of the connection.
            data: All that was read from it and not handled.
        """
        if len(data) > MAX_DATA:
            return False
        try:
            link = self._socket or self._connect()
            socket.send_fds(link, [data], [client])
        except OSError:  # it has ended, it refuses all, its queue is full, or we lack resources
            return False
        self._offers.append(offer)
        return True

    def close(self) -> None:
        """Close it; what was not answered is refused."""
        link, self._socket = self._socket, None
        if link is not None:
            asyncio.get_running_loop().remove_reader(link)
            link.close()
        offers, self._offers = self._offers, deque()
        for offer in offers:
            offer.refused()

    def _connect(self) -> socket.socket:
        link = _new_socket()
        try:
            link.connect(self._path)
        except BaseException:
            link.close()
            raise
        self._socket = link
        asyncio.get_running_loop().add_reader(link, self._read)
        return link

    def _read(self) -> None:
        while self._socket is not None:
            try:
                answer = self._socket.recv(1)
            except BlockingIOError:
                return
            except ConnectionResetError:  # it has closed without reading all: its answers follow
                continue
            if not answer:
                self.close()
            elif answer == _TAKEN:
                self._offers.popleft().taken()
            else:
                self._offers.popleft().refused()


class Intake:
    """Takes connections from other workers.

    Args:
        path: The path of this worker's socket.
        take: Called with each connection, and with the bytes that were read from it.
    """

    def __init__(self, path: str, take: Callable[[socket.socket, bytes], None]) -> None:
        self._path = path
        self._take = take
        self._listener: socket.socket | None = None
        self._workers: set[socket.socket] = set()

    def open(self) -> None:
        """Begin.  If that fails, log it: then other workers relay all requests."""
        try:
            listener = _new_socket()
            try:
                Path(self._path).unlink(missing_ok=True)
                listener.bind(self._path)
                listener.listen(BACKLOG)
            except BaseException:
                listener.close()
                raise
        except OSError as error:
            logger.warning(
                "cannot take over connections, so other workers relay requests: %s", error
            )
            return
        self._listener = listener
        self._watch(listener)

    def close(self) -> None:
        """Take no more: other workers find nobody, and what is still in the sockets is refused."""
        listener, self._listener = self._listener, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        for worker in list(self._workers):
            self._end(worker)

    def _watch(self, listener: socket.socket) -> None:
        if self._listener is listener:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            worker, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError:  # no file descriptors: do not try again at once
            loop.remove_reader(listener)
            loop.call_later(PAUSE, self._watch, listener)
            return
        worker.setblocking(False)
        self._workers.add(worker)
        loop.add_reader(worker, self._receive, worker)

    def _end(self, worker: socket.socket) -> None:
        self._workers.discard(worker)
        asyncio.get_running_loop().remove_reader(worker)
        worker.close()

    def _receive(self, worker: socket.socket) -> None:
        """Receive one connection; the loop calls this again for the next."""
        flags = socket.MSG_CMSG_CLOEXEC
        try:
            data, numbers, _, _ = socket.recv_fds(worker, MAX_DATA, 1, flags)
        except BlockingIOError:
            return
        except OSError:
            data, numbers = b"", []
        if not data:
            self._end(worker)
            return
        client = _connected(numbers[0]) if numbers else None
        try:
            worker.send(_TAKEN if client is not None else _REFUSED)
        except OSError:  # it has ended, or does not read: then it will not learn that we took this
            self._end(worker)
            if client is not None:
                client.close()
            return
        if client is not None:
            self._take(client, data)


def _new_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.setblocking(False)
    return made


def _connected(number: int) -> socket.socket | None:
    """Return the socket of a file descriptor.

    Return None, and close it, if it is not connected any more: then it has no address, and only the
    other worker still knows that.
    """
    try:
        client = socket.socket(fileno=number)
    except OSError:
        os.close(number)
        return None
    try:
        client.getpeername()
    except OSError:
        client.close()
        return None
    return client
