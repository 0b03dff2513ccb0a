"""What you can set of a connection: names, defaults and allowed values."""

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass

from sockjs_aio.errors import SettingsError

TRANSPORTS = ("websocket", "xhr_streaming", "eventsource", "htmlfile", "xhr", "jsonp")
"""The transports that are tried, in this order."""

_NAMES = (*TRANSPORTS, "rawwebsocket")


@dataclass(frozen=True)
class ClientOptions:
    """The options of a connection.  Times are in seconds, sizes in bytes.

    Raises:
        SettingsError: If a value is not a positive number.
    """

    open_timeout: float = 10
    """Seconds that ``/info`` may take, and that the last transport may take to open."""
    transport_timeout: float = 0.6
    """Seconds that each other transport has to open, at the least; on a slow network it has more,
    as much as sockjs-client gives it."""
    heartbeat_timeout: float = 60
    """Seconds without a sign of life from the server after which the connection counts as lost.
    Make it longer than the server's `heartbeat_delay`.  A WebSocket's server gets a ping after half
    of it."""
    close_timeout: float = 5
    """Seconds that `close` waits: until queued messages are sent, or until the server has answered
    the close frame."""
    reconnect_limit: float = 30
    """The longest pause between two attempts of ``async for socket in connect(...)``."""
    max_frame_size: int = 4 << 20
    """Bytes of one frame from the server.  Above it, the connection is closed with 1009."""
    receive_queue_limit: int = 1 << 20
    """Bytes received and not taken by you yet.  If the queue is full, nothing more is read."""
    send_queue_limit: int = 1 << 20
    """Bytes that wait to be sent, on the HTTP transports.  If the queue is full, `send` waits."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kinds = (int,) if field.type is int else (int, float)
            is_number = isinstance(value, kinds) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value) or value <= 0:
                unit = "a whole number of bytes" if field.type is int else "a number of seconds"
                raise SettingsError(
                    f"{field.name}={value!r} is not valid: it must be {unit} above 0"
                )


def checked_transports(names: Collection[str]) -> list[str]:
    """Return the names of transports, which are as in URLs.

    Raises:
        SettingsError: If there is no name, or one that no transport has.
    """
    if isinstance(names, str):
        names = [names]
    for name in names:
        if name not in _NAMES:
            raise SettingsError(
                f"there is no transport {name!r}: the names are {', '.join(_NAMES)} (as in URLs: "
                "for sockjs-client's xhr-polling write xhr, for its jsonp-polling write jsonp)"
            )
    if not names:
        raise SettingsError(f"name at least one transport, from {', '.join(_NAMES)}")
    return list(names)
