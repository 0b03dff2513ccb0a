"""The payload of a Redis message: the text in UTF-8, after a label if one of our servers sent it.

A label is ``NUL NODE:LINK NUL``.  NODE is the sender: 16 hexadecimal digits, new at each start.
LINK is the number of the sender's connection.  The label may be empty (``NUL NUL``), and a text
that begins with NUL needs one.  A message with a key has ``=KEY`` before the second NUL.  A lone
surrogate, which a client can send, is encoded as with Python's ``surrogatepass``.
"""

import re

from sockjs_aio.protocol.names import MAX_NAME, check_key

NODES = 1000
"""How many senders to remember."""

MAX_LABEL: int = 40 + MAX_NAME
"""The longest label, in bytes."""

_LABEL = re.compile(rb"\0(?:([0-9a-f]{16}):([0-9]{1,18}))?(?:=([^\0]{1,%d}))?\0" % MAX_NAME)


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


class Reader:
    """Reads the payloads that one node receives.

    A message is late if its sender's next connection has brought one already: Redis kept it in a
    buffer while it did not answer.  Late messages would be out of order, so they are dropped.

    Args:
        node: The name of the node that reads.
    """

    def __init__(self, node: str) -> None:
        self._own = node.encode()
        self._links: dict[bytes, int] = {}

    def read(self, payload: bytes) -> tuple[str, str | None] | None:
        """Return the text and its key; None if the node itself sent it, or it is late.

        Raises:
            PayloadError: If the label is broken or the text is not UTF-8.
        """
        start, key = 0, None
        if payload.startswith(b"\0"):
            label = _LABEL.match(payload)
            if label is None:
                raise PayloadError("a broken label")
            if label[1] is not None and (label[1] == self._own or self._is_late(label)):
                return None
            start, key = label.end(), _key(label)
        try:
            return payload[start:].decode("utf-8", "surrogatepass"), key
        except UnicodeDecodeError:
            raise PayloadError("not UTF-8") from None

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
