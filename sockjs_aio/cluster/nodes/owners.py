"""The other nodes, and the owners of sessions, as far as this node knows them."""

import time
from collections import OrderedDict
from urllib.parse import urlsplit

import aiohttp

from sockjs_aio.cluster.nodes.node_record import NodeRecord, RecordForgedError, read_record
from sockjs_aio.cluster.relay.peers import Peer
from sockjs_aio.cluster.relay.signed_header import VALIDITY

MEMORY = 30.0
"""Seconds after which Redis is asked again for the owner of a session, if it is up."""

MAX_REMEMBERED = 10_000
"""Maximum number of sessions whose owners are remembered."""


def check_url(url: object) -> str:
    """Return the URL of a node, without a slash at its end.

    Raises:
        ValueError: If it is not valid.
    """
    if not isinstance(url, str):
        raise ValueError("it must be a str like http://10.0.0.5:8080")
    parts = urlsplit(url)
    if url != url.strip():
        raise ValueError("it must not begin or end with whitespace")
    if parts.hostname in ("0.0.0.0", "::"):
        raise ValueError("that is an address to listen at; give the one that other nodes use")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("it must be like http://10.0.0.5:8080")
    if "%" in parts.hostname and ":" not in parts.hostname:  # an IPv6 address may have a zone
        raise ValueError("its host must not have a %")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise ValueError("it must be a scheme, a host and a port, and nothing else")
    return url.rstrip("/")


class Node(Peer):
    """Another node, from its start to its end.

    Args:
        name: Its name, a new one at each start.
        record: The record that it has written.
        now: The time by the loop's clock.
        client: The client for requests to it.

    Raises:
        ValueError: If the record's URL is not valid.
    """

    def __init__(
        self, name: str, record: NodeRecord, now: float, client: aiohttp.ClientSession
    ) -> None:
        super().__init__(check_url(record.url), client, name=name)
        self.is_lost = False
        self.issued: float = record.issued
        self._renewed = now

    def is_renewed(self, record: NodeRecord, now: float, expiry: float) -> bool:
        """Tell whether it has reported within `expiry`, by our clock and not by its own."""
        if record.issued > self.issued:
            self.issued = record.issued
            self._renewed = now
        return now - self._renewed <= expiry


class KnownNodes:
    """The other nodes to which this one has sent requests.

    Args:
        key: The secret that all nodes share.
        expiry: Seconds after which a node that does not report is considered dead.
        client: The client for requests to them.
    """

    def __init__(self, key: bytes, expiry: float, client: aiohttp.ClientSession) -> None:
        self._key = key
        self._expiry = expiry
        self._client = client
        self._nodes: dict[str, Node] = {}
        # of nodes that have ended: when they last wrote a record, and when that becomes too old
        self._ended: dict[str, tuple[float, float]] = {}

    @property
    def names(self) -> list[str]:
        """Their names."""
        return list(self._nodes)

    def meet(self, name: str, record: str, now: float) -> Node:
        """Return the node that has written a record.

        Raises:
            RecordForgedError: If the record is forged or too old.
            ValueError: If its URL is not valid.
        """
        node = self._nodes.get(name)
        if node is None:
            read = self._read(name, record)
            if name in self._ended and read.issued <= self._ended[name][0]:
                raise RecordForgedError(
                    f"{read.url!r} has ended, and somebody has restored its record"
                )
            node = self._nodes[name] = Node(name, read, now, self._client)
        return node

    def check(self, name: str, record: str | None, now: float) -> Node | None:
        """Forget a node if it has ended or its record is forged; return it if it has ended.

        Args:
            name: The node's name.
            record: Its record now; None if Redis has none any more.
            now: The time by the loop's clock at which Redis was asked for it.

        Raises:
            RecordForgedError: If the record is forged or too old.
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
        """Tell whether a node has a valid record in Redis, and so has not ended."""
        try:
            return record is not None and bool(self._read(name, record))
        except RecordForgedError:
            return False

    def _read(self, name: str, record: str) -> NodeRecord:
        return read_record(self._key, name, record, now=time.time(), expiry=self._expiry)


class Owners:
    """Remembers for a while which node owns which session."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[Node, float]] = OrderedDict()

    def remember(self, key: str, node: Node, now: float) -> None:
        """Note that `node` owns the session of `key`."""
        self._known[key] = node, now + MEMORY
        self._known.move_to_end(key)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)

    def get(self, key: str, now: float) -> tuple[Node | None, bool]:
        """Return the remembered owner of a session, and whether Redis was asked recently."""
        node, until = self._known.get(key, (None, 0.0))
        if node is None or node.is_lost:
            self._known.pop(key, None)
            return None, False
        return node, now < until

    def forget(self, key: str) -> None:
        """Forget the owner of a session."""
        self._known.pop(key, None)
