"""What the kernel and asyncio know about a connection, with an answer for when they cannot tell.

Every question to a transport that may be closed is asked here: asyncio's TLS transport raises
`AttributeError` at questions once it has been closed twice (Python 3.10: once it is lost).
"""

import asyncio
import contextlib
import math
import select
import socket
import struct
import sys

if sys.platform == "linux":
    import fcntl
    import termios

# struct tcp_info of <linux/tcp.h>: where tcpi_state is, and tcpi_last_data_recv in milliseconds
_STATE = 0
_LAST_DATA_RECEIVED = 52
_ESTABLISHED = 1

PAUSE = 0.05
"""Seconds between two looks at a connection that does not tell when it takes data again."""

_TLS_COUNTS_ITS_OWN = sys.version_info >= (3, 11)  # alone; before, what is below it alone


def buffered_bytes(transport: asyncio.WriteTransport) -> int:
    """Return how many written bytes have not left asyncio; 0 once the connection is gone."""
    if not is_tls(transport):
        return transport.get_write_buffer_size()
    try:
        buffered = transport.get_write_buffer_size()
    except AttributeError:
        return 0
    # TLS encrypts what is written at once, and does not count what the connection below it keeps
    tls = getattr(transport, "_ssl_protocol", None)
    below = getattr(tls, "_transport", None)
    if below is not None and _TLS_COUNTS_ITS_OWN:
        buffered += below.get_write_buffer_size()
    return buffered


def is_tls(transport: asyncio.WriteTransport) -> bool:
    """Tell whether the connection is encrypted by asyncio."""
    return not transport.can_write_eof()


def limit_buffer(transport: asyncio.WriteTransport, high: int | None) -> None:
    """Have writers wait from `high` buffered bytes on, if the connection is still there; None
    stands for asyncio's default.
    """
    with contextlib.suppress(AttributeError):
        transport.set_write_buffer_limits(high)


def unsent_bytes(transport: asyncio.WriteTransport) -> int:
    """Return how many written bytes the peer has not acknowledged (elsewhere than on Linux:
    how many have not left this process).
    """
    unsent = buffered_bytes(transport)
    sock = _socket(transport)
    if sys.platform == "linux" and sock is not None:
        queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
        unsent += int.from_bytes(queued, sys.byteorder)
    return unsent


def has_unread_data(transport: asyncio.WriteTransport) -> bool:
    """Tell whether the peer has sent what nobody here has read (elsewhere than on Linux: no)."""
    sock = _socket(transport)
    if sys.platform != "linux" or sock is None:
        return False
    unread = fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4))
    return any(unread)


def seconds_since_data(transport: asyncio.WriteTransport) -> float:
    """Return how long ago the peer has last sent anything; infinity where nobody knows."""
    info = _tcp_info(transport)
    if info is None:
        return math.inf
    milliseconds: int = struct.unpack_from("=I", info, _LAST_DATA_RECEIVED)[0]
    return milliseconds / 1000


def is_left(transport: asyncio.WriteTransport) -> bool:
    """Tell whether the peer has ended the connection, be there input before the end to read."""
    sock = _socket(transport)
    if sys.platform == "linux" and sock is not None and sock.family == socket.AF_UNIX:
        poll = select.poll()
        poll.register(sock, select.POLLRDHUP)
        return bool(poll.poll(0))
    info = _tcp_info(transport)
    return info is not None and info[_STATE] != _ESTABLISHED


def is_left_unseen(transport: asyncio.WriteTransport) -> bool:
    """Tell whether the peer has ended the connection, and writing to it will not show it.

    TLS drops what is written after that while its input is not read, without an error.
    """
    return is_tls(transport) and is_left(transport)


def give_up_after(transport: asyncio.WriteTransport, seconds: float) -> None:
    """Have the kernel end the connection when the peer acknowledges nothing for that long, or has
    no room for more (RFC 5482); elsewhere than on Linux, do nothing.
    """
    sock = _socket(transport)
    if sys.platform == "linux" and sock is not None:
        try:
            milliseconds = min(math.ceil(seconds * 1000), 2**31 - 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        except OSError:
            pass  # a Unix socket has no such option; to ask for its family takes twice as long


def read_at_most(transport: asyncio.BaseTransport, size: int) -> None:
    """Have asyncio read no more than `size` bytes at once, where its transport can be told.

    It makes room for 256 KiB before it knows how much has come.  The C library takes so much from
    the kernel and gives it back each time, which is dearer than reading what most clients send.
    """
    if hasattr(transport, "max_size"):  # of the selector loop, without TLS
        transport.max_size = size


def _counts_bytes(transport: asyncio.WriteTransport) -> bool:
    sock = _socket(transport)  # a Unix socket counts what it needs to keep them, which is far more
    return sys.platform != "linux" or sock is None or sock.family != socket.AF_UNIX


def _tcp_info(transport: asyncio.WriteTransport) -> bytes | None:
    sock = _socket(transport)
    if sys.platform != "linux" or sock is None or sock.family == socket.AF_UNIX:
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED + 4)
    return info if len(info) == _LAST_DATA_RECEIVED + 4 else None


def _socket(transport: asyncio.WriteTransport) -> socket.socket | None:
    try:
        sock: socket.socket | None = transport.get_extra_info("socket")
    except AttributeError:
        return None
    return sock if sock is not None and sock.fileno() >= 0 else None


class Delivery:
    """Watches whether the peer takes what was written to it."""

    __slots__ = (
        "written",
        "is_unfinished",
        "is_finished",
        "has_passed",
        "_transport",
        "_taken",
        "_was_replied_to",
    )

    def __init__(self, transport: asyncio.WriteTransport | None) -> None:
        self.written = 0  # bytes; counted by whoever writes more than once
        self.is_unfinished = False  # a response has begun, and its end has not left for the kernel
        self.is_finished = False  # that end has left
        # another request has come since: what is on its way then is not for this one's session
        self.has_passed = False
        self._transport = transport
        self._taken: float = -math.inf
        self._was_replied_to = False

    def finish(self) -> None:
        """The response has ended; the connection may be used for others."""
        self.is_unfinished, self.is_finished = False, True

    def is_pending(self) -> bool:
        """Tell whether the peer still has to take something."""
        return self._look()[0] > 0

    def assume_taken(self) -> None:
        """Reckon that the peer has taken all, as something else tells; the kernel is not asked."""
        self._taken = self.written

    def has_arrived(self, position: int) -> bool:
        """Tell whether the peer has taken the first `position` bytes of what was written."""
        return self.written - self._unsent() >= position

    def progresses(self) -> bool:
        """Tell whether the peer has taken something since the last question and still has to."""
        unsent, has_taken = self._look()
        return unsent > 0 and has_taken

    def is_replied_to(self) -> bool:
        """Tell, once, whether the peer has sent something since that has not been read so far.

        It does not count again: where reading has stopped, it would count for ever.
        """
        if self._was_replied_to or self._transport is None or self.has_passed:
            return False
        self._was_replied_to = has_unread_data(self._transport)
        return self._was_replied_to

    def is_stalled(self) -> bool:
        """Tell whether the peer has taken nothing since the last question, though it has to.

        Where only what fills the buffers can be told for sure, only that counts.
        """
        unsent, has_taken = self._look()
        if self._transport is None or unsent == 0 or has_taken:
            return False
        return _counts_bytes(self._transport) or buffered_bytes(self._transport) > 0

    def is_kept(self, high: int) -> bool:
        """Tell whether more than `high` bytes are buffered."""
        return self._transport is not None and buffered_bytes(self._transport) > high

    async def passes_on(self, high: int) -> None:
        """Wait until no more than `high` bytes are buffered, or the connection is gone.

        aiohttp's ``drain`` has done it already, but for what TLS does not count.
        """
        while self.is_kept(high):
            await asyncio.sleep(PAUSE)

    def abort(self) -> None:
        """Cut the connection if its response is unfinished; another one may follow otherwise."""
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
