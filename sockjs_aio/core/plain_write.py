"""Writes to a connection without TLS, where possible without asyncio's layers in between.

Most writes find that everything before them has left.  asyncio's `write` then does nothing but
send, and takes longer for its checks than for all that the session has done.  So we send on the
transport's own socket, under the conditions under which asyncio would.  asyncio gets what the
kernel does not take, and all errors: it buffers, pauses, and ends the connection.

We never use a file descriptor, which might be that of another connection by now.  A socket object
that is closed has none, and stays closed.

Nothing else uses these private names of asyncio.  `tests/test_plain_write.py` has a test for each
thing that is assumed of them.  On a loop, or a Python, that has others, this is asyncio's `write`.
"""

import asyncio
from asyncio import selector_events
from typing import Any

_SELECTOR_TRANSPORT = getattr(selector_events, "_SelectorSocketTransport", None)


def write_plain(connection: asyncio.WriteTransport, data: bytes) -> int:
    """Write `data`, or nothing if the connection is closing; return how much is buffered then.

    Args:
        connection: A transport without TLS, to which no EOF was written.
        data: At least one byte.
    """
    transport: Any = connection
    rest: bytes | memoryview = data
    if type(transport) is _SELECTOR_TRANSPORT:
        try:
            if not (transport._buffer or transport._closing):
                sent = transport._sock.send(data)
                if sent == len(data):
                    return 0
                rest = memoryview(data)[sent:]
        except (OSError, AttributeError):
            pass  # asyncio meets the same error, and knows what follows from it
    if not transport.is_closing():
        transport.write(rest)  # may call `pause_writing`
    buffered: int = transport.get_write_buffer_size()
    return buffered
