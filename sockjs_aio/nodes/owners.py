"""Other nodes, and which sessions they are known to have."""

from collections import OrderedDict
from urllib.parse import urlsplit

import aiohttp

from sockjs_aio.relay.peers import Peer

MEMORY = 30.0
"""Seconds after which Redis is asked anew who has a session, if it can be asked."""

MAX_REMEMBERED = 10_000
"""Sessions of other nodes that one remembers."""


def check_url(url: object) -> str:
    """Return the URL of a node, as others use it.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(url, str):
        raise ValueError("it has to be a str like http://10.0.0.5:8080")
    parts = urlsplit(url)
    if url != url.strip():
        raise ValueError("there is a blank at one of its ends")
    if parts.hostname in ("0.0.0.0", "::"):
        raise ValueError("that is where to listen, not where others reach this process")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("it has to be like http://10.0.0.5:8080")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise ValueError("it is a scheme, a host and a port, and nothing else")
    return url.rstrip("/")


class Node(Peer):
    """Another node, from its start to its end.

    Args:
        name: Its own, another one at each start.
        url: Where it is.
        client: Makes the connections to it.

    Raises:
        ValueError: If `url` is none.
    """

    def __init__(self, name: str, url: str, client: aiohttp.ClientSession) -> None:
        super().__init__(check_url(url), client, name=name)
        self.is_lost = False


class Owners:
    """Remembers, for a while, which nodes have which sessions."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[Node, float]] = OrderedDict()

    def remember(self, key: str, node: Node, now: float) -> None:
        """Note that `node` has the session of `key`."""
        self._known[key] = node, now + MEMORY
        self._known.move_to_end(key)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)

    def get(self, key: str, now: float) -> tuple[Node | None, bool]:
        """Return who was said to have a session, and whether that is a short time ago."""
        node, until = self._known.get(key, (None, 0.0))
        if node is None or node.is_lost:
            self._known.pop(key, None)
            return None, False
        return node, now < until

    def forget(self, key: str) -> None:
        """What is known is wrong."""
        self._known.pop(key, None)
