"""What names of channels, members and numbers are valid."""

import math

from sockjs_aio.errors import SettingsError
from sockjs_aio.protocol.names import CONTROL, MAX_NAME, fits

MAX_MEMBER = 1000
"""The longest member, in bytes of UTF-8."""


def check_channel(name: object) -> None:
    """Check that `name` is a valid name for a channel.

    Raises:
        TypeError: If it is not a `str`.
        ValueError: If it is empty, too long, or has control characters or a lone surrogate.
    """
    if not isinstance(name, str):
        raise TypeError(f"a channel's name must be a str, not {name!r}")
    if not fits(name, MAX_NAME):
        raise ValueError(
            f"channel {name!r:.80} is not valid: it must be 1 to {MAX_NAME} bytes of UTF-8"
        )
    if CONTROL.search(name):
        raise ValueError(f"channel {name!r:.80} is not valid: it has control characters")


def check_member(member: object) -> None:
    """Check that `member` is a valid member.

    Raises:
        TypeError: If it is not a `str`.
        ValueError: If it is empty, too long, or has a lone surrogate.
    """
    if not isinstance(member, str):
        raise TypeError(f"a member must be a str, not {member!r}: use json.dumps(), for example")
    if not fits(member, MAX_MEMBER):
        raise ValueError(
            f"member {member!r:.80} is not valid: it must be 1 to {MAX_MEMBER} bytes of UTF-8"
        )


def check_message(message: object, limit: int) -> None:
    """Check that `message` can be published.

    Args:
        message: A text.
        limit: How many bytes of UTF-8 it may have.

    Raises:
        TypeError: If it is not a `str`.
        ValueError: If it is too large.
    """
    if not isinstance(message, str):
        raise TypeError(
            f"publish(channel, message) takes a str, not {type(message).__name__}: encode it "
            "first, for example with json.dumps()"
        )
    if len(message) * 4 > limit and len(message.encode("utf-8", "surrogatepass")) > limit:
        raise ValueError(f"the message is larger than max_message_size={limit} bytes")


def check_prefix(prefix: object) -> None:
    """Raise `SettingsError` unless `prefix` can begin the names of keys."""
    if not isinstance(prefix, str) or not prefix.isascii() or not prefix.isprintable():
        raise SettingsError(f"prefix={prefix!r} is not valid: it must be printable ASCII")


def check_size(name: str, value: object) -> None:
    """Raise `SettingsError` unless `value` is a whole number above 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise SettingsError(f"{name}={value!r} is not valid: it must be a whole number above 0")


def check_delay(name: str, value: object) -> None:
    """Raise `SettingsError` unless `value` is a number of seconds above 0."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:  # type: ignore[operator]
        raise SettingsError(f"{name}={value!r} is not valid: it must be a number above 0 (seconds)")
