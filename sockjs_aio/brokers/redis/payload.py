"""What stands in a Redis message: the text in UTF-8, behind a label if a server has sent it.

A label is ``NUL NODE:LINK NUL``: who has sent it, 16 hexadecimal digits made anew at each start,
and over which of its connections, by their number.  It may be empty, and has to be there if the
text begins with NUL.  Half a surrogate pair, which a client can send, is written as Python's
``surrogatepass`` does.
"""

import re

NODES = 1000
"""Senders that are remembered."""

MAX_LABEL = 40
"""Bytes of a label."""

_LABEL = re.compile(rb"\0(?:([0-9a-f]{16}):([0-9]{1,18}))?\0")


class PayloadError(ValueError):
    """It cannot be read."""


def pack(text: str, label: bytes = b"") -> bytes:
    """Make the payload of `text`, which nobody in particular has sent unless there is a label."""
    data = text.encode("utf-8", "surrogatepass")
    return label + data if label or not data.startswith(b"\0") else b"\0\0" + data


def make_label(node: str, link: int) -> bytes:
    """Name the node `node` and its connection number `link`."""
    return f"\0{node}:{link}\0".encode()


class Reader:
    """Reads the payloads that come to one node.

    What a sender's earlier connection brings after a later one is late: Redis had it in a buffer
    while it did not answer, and it would come out of order.

    Args:
        node: The reader's own name.
    """

    def __init__(self, node: str) -> None:
        self._own = node.encode()
        self._links: dict[bytes, int] = {}

    def read(self, payload: bytes) -> str | None:
        """Return the text; None if the message is the node's own, or late.

        Raises:
            PayloadError: If the label is broken, or the text is not UTF-8.
        """
        start = 0
        if payload.startswith(b"\0"):
            label = _LABEL.match(payload)
            if label is None:
                raise PayloadError("a broken label")
            if label[1] is not None and (label[1] == self._own or self._is_late(label)):
                return None
            start = label.end()
        try:
            return payload[start:].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise PayloadError("no UTF-8") from None

    def _is_late(self, label: "re.Match[bytes]") -> bool:
        node, link = label[1], int(label[2])
        latest = self._links.pop(node, 0)
        self._links[node] = max(link, latest)  # at the end: the others are older
        if len(self._links) > NODES:
            del self._links[next(iter(self._links))]
        return link < latest
