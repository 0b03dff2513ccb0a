"""One client's connections: what the clients of all transports have in common.

What comes is given as events: ``("a", [messages])``, ``("o", None)``, ``("h", None)``,
``("c", [code, reason])``; None is the end.
"""

import asyncio
import json
import socket
import struct
from typing import Any

from tests.wire import Reply, Wire

Event = tuple[str, Any]

BUFFER = 65536
"""Bytes that asyncio reads ahead; and the kernel, for those that read slowly."""

GONE = (OSError, asyncio.IncompleteReadError)
"""How a connection tells that it has ended."""


class Gone(Exception):
    """The session is not there, not open, or not let in."""


def check_status(reply: Reply, *statuses: int) -> None:
    """See that a response is one of those that are expected.

    Raises:
        Gone: If the server knows no such session, or opens none as it shuts down.
    """
    if reply.status in (404, 503):
        raise Gone(f"{reply.status} {reply.body.decode().strip()}")
    assert reply.status in statuses, reply


async def connect(port: int, *, small: bool) -> Wire:
    """Open a connection, which is `small` if little of what nobody reads is to be buffered."""
    sock = socket.socket()
    sock.setblocking(False)
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return Wire(*await asyncio.open_connection(sock=sock, limit=BUFFER))
    except BaseException:  # perhaps a client that runs away
        sock.close()
        raise


def reset(wire: Wire | None) -> None:
    """End a connection by RST, whatever is on its way."""
    if wire is not None and not wire.writer.is_closing():
        sock = wire.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.abort()


def parsed(data: bytes) -> Event:
    """Take a frame apart."""
    kind = chr(data[0])
    return kind, json.loads(data[1:]) if kind in "ac" else None


class Link:
    """One session, seen from its client.

    Args:
        port: Where the server listens.
        token: Tells the server which client this is.
        small: Whether what is not read is to be felt by the server soon.
    """

    name: str
    is_http = True

    def __init__(self, port: int, token: int, *, small: bool = False) -> None:
        self.port = port
        self.token = token
        self.small = small
        self.down: Wire | None = None
        self.returns = True  # asks for the next response; answers pings
        self.pause = 0.0  # seconds, at most, before it asks

    async def open(self) -> None:
        """Connect, and see the open frame."""
        raise NotImplementedError

    async def receive(self) -> Event | None:
        raise NotImplementedError

    async def send(self, messages: list[str]) -> None:
        """Send messages in one payload.

        Raises:
            Gone: If the session does not take them.
        """
        raise NotImplementedError

    async def send_half(self) -> None:
        """Begin to send something, and do not finish."""
        raise NotImplementedError

    async def leave(self) -> None:
        """End the session as a client does; the reader reads on until the end."""
        self.close()

    def stop_reading(self) -> None:
        """Leave what comes to the kernel."""
        if self.down is not None:
            self.down.stop_reading()

    def abort(self) -> None:
        """Reset all connections."""
        reset(self.down)

    def close(self) -> None:
        """Close all connections."""
        if self.down is not None:
            self.down.close()
