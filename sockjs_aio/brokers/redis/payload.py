"""The payload of a Redis message: the text in UTF-8, after a label if one of our servers sent it.

A label is ``NUL NODE:LINK NUL``.  NODE is the sender: 16 hexadecimal digits, new at each start.
LINK is the number of the sender's connection.  The label may be empty (``NUL NUL``), and a text
that begins with NUL needs one.  A message with a key has ``=KEY`` before the second NUL.  A lone
surrogate, which a client can send, is encoded as with Python's ``surrogatepass``.

An order to close a channel's sessions is a payload whose label ends with ``!CODE``, such as
``NUL !4001 NUL``; then the text is the reason.  ``!CODE+NUMBER`` says that the sender keeps some of
its own.  A label that ends with ``?``, such as ``NUL ? NUL``, is a notice: messages of the channel
did not reach Redis.  No message can look like an order or a notice, because a text that begins with
NUL has a label before it.  Servers that do not know them refuse the label.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from sockjs_aio.protocol.names import MAX_NAME, check_key

NODES = 1000
"""How many senders to remember."""

MAX_LABEL: int = 40 + MAX_NAME
"""The longest label, in bytes."""

_LABEL = re.compile(
    rb"\0(?:([0-9a-f]{16}):([0-9]{1,18}))?"
    rb"(?:=([^\0]{1,%d})|!([1-4][0-9]{3})(?:[+]([0-9]{1,18}))?|([?]))?\0" % MAX_NAME
)


class CloseOrder(NamedTuple):
    """Sessions are to be closed with this code and this reason."""

    code: int
    reason: str
    claim: int | None
    """The number of the order among those of its sender that keep sessions; None if it keeps none.
    """
    is_own: bool
    """Whether the node that reads it has sent it."""


class GapNotice:
    """Messages of the channel did not reach Redis; those that come now do."""


class PayloadError(ValueError):
    """The payload is not valid."""


def pack(text: str, label: bytes = b"") -> bytes:
    """Make the payload for `text`; without a label, it has no sender."""
    data = text.encode("utf-8", "surrogatepass")
    return label + data if label or not data.startswith(b"\0") else b"\0\0" + data


def make_label(node: str = "", link: int = 0, key: str | None = None) -> bytes:
    """Make the label for connection number `link` of the node `node`, if any, and for `key`."""
    sender = f"{node}:{link}" if node else ""
    return f"\0{sender}{'' if key is None else '=' + key}\0".encode()


def make_close_label(code: int, claim: int | None = None, label: bytes = b"") -> bytes:
    """Make the label of an order to close sessions.

    Args:
        code: The close code.
        claim: See `CloseOrder`.
        label: The label of the sender, if it has one.
    """
    number = b"" if claim is None else b"+%d" % claim
    return b"%b!%d%b\0" % (label[:-1] or b"\0", code, number)


def make_gap_notice(label: bytes) -> bytes:
    """Make the notice that the sender with `label` could not publish some messages."""
    return (label[:-1] or b"\0") + b"?\0"


class Reader:
    """Reads the payloads that one node receives.

    A message is late if its sender's next connection has brought one already: Redis kept it in a
    buffer while it did not answer.  Late messages would be out of order, so they are dropped.

    Args:
        node: The name of the node that reads.
        former: Names that it had before.
    """

    def __init__(self, node: str, former: Iterable[str] = ()) -> None:
        self._own = {name.encode() for name in (node, *former)}
        self._links: dict[bytes, int] = {}

    def read(self, payload: bytes) -> tuple[str, str | None] | CloseOrder | GapNotice | None:
        """Return the text and its key, or the order to close sessions, or the notice.

        Return None if it is late, or a text or notice that the node itself sent, or such an order
        that keeps no sessions.

        Raises:
            PayloadError: If the label is broken or the text is not UTF-8.
        """
        start, key, code, claim, is_own = 0, None, None, None, False
        if payload.startswith(b"\0"):
            label = _LABEL.match(payload)
            if label is None:
                raise PayloadError("a broken label")
            start, code, claim = label.end(), label[4], label[5]
            is_own = label[1] in self._own
            if (is_own and claim is None) or (label[1] is not None and self._is_late(label)):
                return None
            if label[6]:
                return GapNotice()
            key = _key(label)
        try:
            text = payload[start:].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise PayloadError("not UTF-8") from None
        if code is None:
            return text, key
        return CloseOrder(int(code), text, None if claim is None else int(claim), is_own)

    def _is_late(self, label: "re.Match[bytes]") -> bool:
        node, link = label[1], int(label[2])
        latest = self._links.pop(node, 0)
        self._links[node] = max(link, latest)  # at the end, so that the first is the oldest
        if len(self._links) > NODES:
            del self._links[next(iter(self._links))]
        return link < latest


def _key(label: "re.Match[bytes]") -> str | None:
    if label[3] is None:
        return None
    try:
        key = label[3].decode()
        check_key(key)
    except ValueError:  # UnicodeDecodeError is one, too
        raise PayloadError("a broken key") from None
    return key
