"""What the kernel knows about a connection, with an answer for when it cannot tell."""

import asyncio
import math
import socket
import struct
import sys

if sys.platform == "linux":
    import fcntl
    import termios

# struct tcp_info of <linux/tcp.h>: where tcpi_last_data_recv is, in milliseconds
_LAST_DATA_RECEIVED = 52


def unsent_bytes(transport: asyncio.WriteTransport) -> int:
    """Return how many written bytes the peer has not acknowledged (elsewhere than on Linux:
    how many have not left this process).
    """
    unsent = transport.get_write_buffer_size()
    sock = _socket(transport)
    if sys.platform == "linux" and sock is not None:
        queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
        unsent += int.from_bytes(queued, sys.byteorder)
    return unsent


def seconds_since_data(transport: asyncio.WriteTransport) -> float:
    """Return how long ago the peer has last sent anything; infinity where nobody knows."""
    sock = _socket(transport)
    if sys.platform != "linux" or sock is None or sock.family == socket.AF_UNIX:
        return math.inf
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED + 4)
    if len(info) < _LAST_DATA_RECEIVED + 4:
        return math.inf
    milliseconds: int = struct.unpack_from("=I", info, _LAST_DATA_RECEIVED)[0]
    return milliseconds / 1000


def _socket(transport: asyncio.WriteTransport) -> socket.socket | None:
    sock: socket.socket | None = transport.get_extra_info("socket")
    return sock if sock is not None and sock.fileno() >= 0 else None


class Delivery:
    """Watches whether the peer takes what was written to it."""

    __slots__ = ("_transport", "_unsent")

    def __init__(self, transport: asyncio.WriteTransport | None) -> None:
        self._transport = transport
        self._unsent: float = math.inf

    def progresses(self) -> bool:
        """Tell whether the peer has taken something since the last call and still has to."""
        unsent = 0 if self._transport is None else unsent_bytes(self._transport)
        progress = 0 < unsent < self._unsent
        self._unsent = unsent
        return progress
