"""Other nodes, and which sessions they are known to have."""

import time
from collections import OrderedDict
from urllib.parse import urlsplit

import aiohttp

from sockjs_aio.cluster.nodes.node_record import NodeRecord, RecordForgedError, read_record
from sockjs_aio.cluster.relay.peers import Peer
from sockjs_aio.cluster.relay.signed_header import VALIDITY

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
        record: What it has said of itself.
        now: The time on the loop's clock.
        client: Makes the connections to it.

    Raises:
        ValueError: If `url` is none.
    """

    def __init__(
        self, name: str, record: NodeRecord, now: float, client: aiohttp.ClientSession
    ) -> None:
        super().__init__(check_url(record.url), client, name=name)
        self.is_lost = False
        self.issued = record.issued
        self._renewed = now

    def is_renewed(self, record: NodeRecord, now: float, expiry: float) -> bool:
        """Tell whether it has said within `expiry` that it is there, whatever its clock shows."""
        if record.issued > self.issued:
            self.issued = record.issued
            self._renewed = now
        return now - self._renewed <= expiry


class KnownNodes:
    """The other nodes to which this one has sent requests.

    Args:
        key: A secret of all nodes.
        expiry: Seconds after which a node that has not said that it is there has ended.
        client: Makes the connections to them.
    """

    def __init__(self, key: bytes, expiry: float, client: aiohttp.ClientSession) -> None:
        self._key = key
        self._expiry = expiry
        self._client = client
        self._nodes: dict[str, Node] = {}
        # what those that have ended wrote last, and until when it is not too old to be believed
        self._ended: dict[str, tuple[float, float]] = {}

    @property
    def names(self) -> list[str]:
        """What they call themselves."""
        return list(self._nodes)

    def meet(self, name: str, record: str, now: float) -> Node:
        """Return the node that has written an record.

        Raises:
            RecordForgedError: If it is not to be believed.
            ValueError: If there is no URL in it.
        """
        node = self._nodes.get(name)
        if node is None:
            read = self._read(name, record)
            if name in self._ended and read.issued <= self._ended[name][0]:
                raise RecordForgedError(
                    f"{read.url!r} has ended, and somebody repeats what it wrote"
                )
            node = self._nodes[name] = Node(name, read, now, self._client)
        return node

    def check(self, name: str, record: str | None, now: float) -> Node | None:
        """Forget a node that is not to be asked any more, and return it if it has ended.

        Args:
            name: Which one.
            record: What it says of itself now; None if Redis does not know it any more.
            now: The time on the loop's clock.

        Raises:
            RecordForgedError: If what it says is not to be believed.
        """
        node = self._nodes.pop(name, None)
        if node is None:
            return None
        node.is_lost = True
        if record is None or not node.is_renewed(self._read(name, record), now, self._expiry):
            self._note_end(name, node.issued, now)
            return node
        node.is_lost = False
        self._nodes[name] = node
        return None

    def _note_end(self, name: str, issued: float, now: float) -> None:
        self._ended = {one: what for one, what in self._ended.items() if what[1] > now}
        self._ended[name] = issued, now + self._expiry + 2 * VALIDITY

    def is_there(self, name: str, record: str | None) -> bool:
        """Tell whether a node of which Redis says something has not ended."""
        try:
            return record is not None and bool(self._read(name, record))
        except RecordForgedError:
            return False

    def _read(self, name: str, record: str) -> NodeRecord:
        return read_record(self._key, name, record, now=time.time(), expiry=self._expiry)


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
