"""A node's record in Redis: where it is.  Signed, so that Redis cannot redirect requests."""

import hashlib
import hmac
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from sockjs_aio.cluster.relay.signed_header import VALIDITY

MIN_SECRET = 16
"""Minimum length of a secret in bytes."""


class RecordForgedError(Exception):
    """The record was not written with our secret, or it is too old."""


def read_secret(secret: object) -> bytes:
    """Return a secret as bytes.

    Raises:
        TypeError: If it is neither `str` nor `bytes`.
        ValueError: If it is too short.
    """
    if not isinstance(secret, (str, bytes)):
        raise TypeError(f"secret must be str or bytes, not {type(secret).__name__}")
    key = secret.encode() if isinstance(secret, str) else secret
    if len(key) < MIN_SECRET:
        raise ValueError(
            f"secret must have at least {MIN_SECRET} bytes, not {len(key)}; to make one: "
            'python -c "import secrets; print(secrets.token_hex(32))"'
        )
    return key


def make_record(key: bytes, name: str, url: str, issued: float) -> str:
    """Make the record of the node `name`; `issued` is the time by its own clock."""
    seconds = f"{issued:.3f}"
    return f"{url} {seconds} {_sign(key, name, url, seconds)}"


class RecordMaker:
    """Makes the records of one node, each with a later time than the one before.

    Otherwise the node would be taken for dead if its host's clock is set back.

    Args:
        key: The secret that all nodes share.
        name: The node's name.
        url: Where it is.
        now: Returns the time of day.
    """

    def __init__(
        self, key: bytes, name: str, url: str, now: Callable[[], float] = time.time
    ) -> None:
        self._node = key, name, url
        self._now = now
        self._last = -math.inf

    def __call__(self) -> str:
        """Make the record with the present time."""
        now = self._now()
        if now <= self._last < now + VALIDITY:  # if it was later, other nodes have refused it
            now = self._last + 0.001
        self._last = now
        return make_record(*self._node, now)


@dataclass(frozen=True)
class NodeRecord:
    """What a node has recorded about itself."""

    url: str
    issued: float
    """When it was written, by the clock of that node's host."""


def read_record(key: bytes, name: str, record: str, *, now: float, expiry: float) -> NodeRecord:
    """Verify and return the record of the node `name`.

    Old records are refused, because anybody who can write to Redis could restore the record of a
    node that has ended.

    Args:
        key: The secret that all nodes share.
        name: The node's name.
        record: The text in Redis.
        now: The time by the clock of this host.
        expiry: Seconds for which Redis keeps a record.

    Raises:
        RecordForgedError: If it was not written with the secret, or is too old.
    """
    url, _, rest = record.partition(" ")
    seconds, _, signature = rest.partition(" ")
    given = signature.encode("utf-8", "surrogateescape")
    if not hmac.compare_digest(given, _sign(key, name, url, seconds).encode()):
        raise RecordForgedError(f"{url!r} uses another secret")
    issued = float(seconds)
    if not -VALIDITY <= now - issued <= expiry + VALIDITY:
        raise RecordForgedError(
            f"{url!r} wrote it {now - issued:.0f} s ago, by its clock. Either the hosts' clocks "
            f"differ by more than {VALIDITY:g} s, or somebody has restored the record of a node "
            "that has ended."
        )
    return NodeRecord(url, issued)


def _sign(key: bytes, name: str, url: str, seconds: str) -> str:
    # the first line keeps it apart from what `HeaderSigner` signs
    message = f"node\n{name}\n{url}\n{seconds}".encode("utf-8", "surrogateescape")
    return hmac.digest(key, message, hashlib.sha256).hex()
