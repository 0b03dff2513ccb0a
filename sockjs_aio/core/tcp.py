"""What the kernel and asyncio know about a TCP connection, with a default if they do not know.

All code that asks a transport which may be closed is here, because asyncio's TLS transport raises
`AttributeError` once it was closed twice (with Python 3.10: once it is lost).
"""

import asyncio
import contextlib
import math
import select
import socket
import struct
import sys
from collections.abc import Callable
from operator import methodcaller
from typing import Any

if sys.platform == "linux":
    import fcntl
    import termios

# struct tcp_info of <linux/tcp.h>: offsets of tcpi_state and of tcpi_last_data_recv (milliseconds)
_STATE = 0
_LAST_DATA_RECEIVED = 52
_ESTABLISHED = 1

PAUSE = 0.05
"""Seconds between two checks of a connection that does not tell when it takes data again."""

# Python 3.11 and later count only the TLS layer's own buffer; 3.10 counts only the one below it
_TLS_COUNTS_ITS_OWN = sys.version_info >= (3, 11)


plain_buffered_bytes: Callable[[asyncio.WriteTransport], int] = methodcaller(
    "get_write_buffer_size"
)
"""Return how many written bytes have not left asyncio, of a connection without TLS.

Micro-optimisation: it asks nothing else.
"""


def extra_info(transport: asyncio.BaseTransport, name: str, default: Any = None) -> Any:
    """Return what asyncio knows about the connection, or `default` once it is gone."""
    try:
        return transport.get_extra_info(name, default)
    except AttributeError:
        return default


def protocol_of(transport: asyncio.BaseTransport) -> asyncio.BaseProtocol | None:
    """Return the protocol of a connection, or None once the connection is lost.

    Over TLS, that protocol is told a turn of the loop later, and no other that is set meanwhile.
    """
    try:
        return transport.get_protocol()
    except AttributeError:
        return None


def pause_reading(transport: asyncio.ReadTransport) -> None:
    """Leave what comes to the kernel; once the connection is gone, do nothing."""
    with contextlib.suppress(AttributeError, RuntimeError):  # the second one from uvloop
        transport.pause_reading()


def resume_reading(transport: asyncio.ReadTransport) -> None:
    """Read again; once the connection is gone, do nothing."""
    with contextlib.suppress(AttributeError, RuntimeError):
        transport.resume_reading()


def buffered_bytes(transport: asyncio.WriteTransport) -> int:
    """Return how many written bytes have not left asyncio; 0 once the connection is gone."""
    if not is_tls(transport):
        return transport.get_write_buffer_size()
    try:
        buffered = transport.get_write_buffer_size()
    except AttributeError:
        return 0
    # TLS encrypts data at once, and does not count what the connection below it still buffers
    tls = getattr(transport, "_ssl_protocol", None)
    below = getattr(tls, "_transport", None)
    if below is not None and _TLS_COUNTS_ITS_OWN:
        buffered += below.get_write_buffer_size()
    return buffered


def is_tls(transport: asyncio.WriteTransport) -> bool:
    """Tell whether asyncio encrypts the connection."""
    return not transport.can_write_eof()


def limit_buffer(transport: asyncio.WriteTransport, high: int | None) -> None:
    """Let writers wait while more than `high` bytes are buffered; None is asyncio's default.

    Once the connection is gone, do nothing.
    """
    with contextlib.suppress(AttributeError, RuntimeError):  # the second one from uvloop
        transport.set_write_buffer_limits(high)


def unsent_bytes(transport: asyncio.WriteTransport) -> int:
    """Return how many written bytes the peer has not acknowledged.

    On other systems than Linux, return how many have not left this process.
    """
    unsent = buffered_bytes(transport)
    sock = _socket(transport)
    if sys.platform == "linux" and sock is not None:
        queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
        unsent += int.from_bytes(queued, sys.byteorder)
    return unsent


def has_unread_data(transport: asyncio.WriteTransport) -> bool:
    """Tell whether the peer has sent data that we have not read; on other systems, say no."""
    sock = _socket(transport)
    if sys.platform != "linux" or sock is None:
        return False
    unread = fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4))
    return any(unread)


def seconds_since_data(transport: asyncio.WriteTransport) -> float:
    """Return the seconds since the peer last sent data; infinity if unknown."""
    info = _tcp_info(transport)
    if info is None:
        return math.inf
    milliseconds: int = struct.unpack_from("=I", info, _LAST_DATA_RECEIVED)[0]
    return milliseconds / 1000


def is_left(transport: asyncio.WriteTransport) -> bool:
    """Tell whether the peer closed its side, even if there is data to read before the EOF."""
    sock = _socket(transport)
    if sys.platform == "linux" and sock is not None and sock.family == socket.AF_UNIX:
        poll = select.poll()
        poll.register(sock, select.POLLRDHUP)
        return bool(poll.poll(0))
    info = _tcp_info(transport)
    return info is not None and info[_STATE] != _ESTABLISHED


def is_left_unseen(transport: asyncio.WriteTransport) -> bool:
    """Tell whether the peer closed its side and writing to it will not fail.

    While its input is not read, TLS then drops written data without an error.
    """
    return is_tls(transport) and is_left(transport)


def give_up_after(transport: asyncio.WriteTransport, seconds: float) -> None:
    """Let the kernel end the connection if the peer acknowledges nothing, or has no room, for
    `seconds` (RFC 5482).  On other systems than Linux, do nothing.
    """
    sock = _socket(transport)
    if sys.platform == "linux" and sock is not None:
        try:
            milliseconds = math.ceil(min(seconds * 1000, 2**31 - 1))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        except OSError:
            pass  # a Unix socket has no such option; checking its family would take twice as long


def read_at_most(transport: asyncio.BaseTransport, size: int = 65536) -> None:
    """Limit one read of asyncio to `size` bytes, if its transport can be told.

    By default asyncio allocates 256 KiB before it knows how much data there is.  The C library gets
    that from the kernel and returns it each time, which costs more than reading what most clients
    send.
    """
    if hasattr(transport, "max_size"):  # of the selector loop, without TLS
        transport.max_size = size


def _counts_bytes(transport: asyncio.WriteTransport) -> bool:
    sock = _socket(transport)  # a Unix socket counts the memory of its buffers, which is far more
    return sys.platform != "linux" or sock is None or sock.family != socket.AF_UNIX


def _tcp_info(transport: asyncio.WriteTransport) -> bytes | None:
    sock = _socket(transport)
    if sys.platform != "linux" or sock is None or sock.family == socket.AF_UNIX:
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED + 4)
    return info if len(info) == _LAST_DATA_RECEIVED + 4 else None


def _socket(transport: asyncio.WriteTransport) -> socket.socket | None:
    sock: socket.socket | None = extra_info(transport, "socket")
    return sock if sock is not None and sock.fileno() >= 0 else None


class Delivery:
    """Tells whether the peer takes what was written to it."""

    __slots__ = (
        "written",
        "is_unfinished",
        "is_written",
        "is_finished",
        "has_passed",
        "_transport",
        "_taken",
        "_was_replied_to",
    )

    def __init__(self, transport: asyncio.WriteTransport | None) -> None:
        self.written: int = 0  # bytes; writers that write more than once count them
        # a response has begun, and the kernel does not have its end yet
        self.is_unfinished: bool = False
        self.is_written: bool = False  # asyncio has its end, or gets it in this turn of the loop
        self.is_finished: bool = False  # the kernel has its end
        # another request uses the connection now: its data is not for this session
        self.has_passed: bool = False
        self._transport = transport
        self._taken: float = -math.inf
        self._was_replied_to = False

    def finish(self) -> None:
        """The response has ended; other requests may use the connection."""
        self.is_unfinished, self.is_finished = False, True

    @property
    def is_leaving(self) -> bool:
        """Whether a response has begun, and its end is still in this process.

        The coroutine that writes it notices the end later than the client may, over TLS by `PAUSE`.
        """
        transport = self._transport
        if not (self.is_unfinished and self.is_written) or transport is None:
            return self.is_unfinished
        # what a lost connection had buffered never leaves, although its buffer is empty
        is_there = not transport.is_closing() and _socket(transport) is not None
        return not is_there or buffered_bytes(transport) > 0

    def is_pending(self) -> bool:
        """Tell whether there is data that the peer has not taken."""
        return self._look()[0] > 0

    def assume_taken(self) -> None:
        """Note that the peer has taken everything, without asking the kernel."""
        self._taken = self.written

    def has_arrived(self, position: int) -> bool:
        """Tell whether the peer has taken the first `position` bytes of what was written."""
        return self.written - self._unsent() >= position

    def progresses(self) -> bool:
        """Tell whether the peer took data since the last check, and there is more to take."""
        unsent, has_taken = self._look()
        return unsent > 0 and has_taken

    def is_replied_to(self) -> bool:
        """Tell whether the peer has sent data that we have not read yet; True only once.

        If reading has stopped, the same data would otherwise count forever.
        """
        if self._was_replied_to or self._transport is None or self.has_passed:
            return False
        self._was_replied_to = has_unread_data(self._transport)
        return self._was_replied_to

    def is_stalled(self) -> bool:
        """Tell whether the peer took nothing since the last check, although there is data.

        On Unix sockets, whose unsent bytes are not known exactly, only data that is still buffered
        in this process counts.
        """
        unsent, has_taken = self._look()
        if self._transport is None or unsent == 0 or has_taken:
            return False
        return _counts_bytes(self._transport) or buffered_bytes(self._transport) > 0

    def is_kept(self, high: int) -> bool:
        """Tell whether more than `high` bytes are buffered."""
        return self._transport is not None and buffered_bytes(self._transport) > high

    async def passes_on(self, high: int) -> None:
        """Wait until at most `high` bytes are buffered, or the connection is gone.

        Only TLS needs this: aiohttp's ``drain`` does not see all that it buffers.
        """
        while self.is_kept(high):
            await asyncio.sleep(PAUSE)

    def abort(self) -> None:
        """Cut the connection if its response is unfinished; else other requests may use it."""
        if self.is_unfinished and self._transport is not None:
            self._transport.abort()

    def _look(self) -> tuple[int, bool]:
        unsent = self._unsent()
        before, self._taken = self._taken, self.written - unsent
        return unsent, self._taken > before

    def _unsent(self) -> int:
        if self._transport is None or self.has_passed:
            return 0
        return unsent_bytes(self._transport)
