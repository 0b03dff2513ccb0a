"""What a node writes down of itself for the others, signed: Redis could send requests anywhere."""

import hashlib
import hmac
from dataclasses import dataclass

from sockjs_aio.cluster.relay.signed_header import VALIDITY

MIN_SECRET = 16
"""Bytes of a secret."""


class RecordForgedError(Exception):
    """Nobody who has the secret has written it, or that was long ago."""


def read_secret(secret: object) -> bytes:
    """Return a secret that all nodes share.

    Raises:
        TypeError: If it is neither `str` nor `bytes`.
        ValueError: If it is too short.
    """
    if not isinstance(secret, (str, bytes)):
        raise TypeError(f"secret has to be str or bytes, not {type(secret).__name__}")
    key = secret.encode() if isinstance(secret, str) else secret
    if len(key) < MIN_SECRET:
        raise ValueError(
            f"secret has {len(key)} bytes, and needs {MIN_SECRET}; to make one: "
            'python -c "import secrets; print(secrets.token_hex(32))"'
        )
    return key


def make_record(key: bytes, name: str, url: str, issued: float) -> str:
    """Write down where the node of a name is, at a time that its clock shows."""
    seconds = f"{issued:.3f}"
    return f"{url} {seconds} {_sign(key, name, url, seconds)}"


@dataclass(frozen=True)
class NodeRecord:
    """What a node has written of itself."""

    url: str
    issued: float
    """When, by the clock of that node's host."""


def read_record(key: bytes, name: str, record: str, *, now: float, expiry: float) -> NodeRecord:
    """Return what the node of a name has written, if it has done so a short time ago.

    A node that has ended cannot say so for certain: somebody who can write to Redis can repeat what
    it wrote.

    Args:
        key: A secret of all nodes.
        name: Which node it is.
        record: What is in Redis.
        now: The time that the clock of this host shows.
        expiry: Seconds for which Redis keeps it.

    Raises:
        RecordForgedError: If somebody else has written that, or it is too old.
    """
    url, _, rest = record.partition(" ")
    seconds, _, signature = rest.partition(" ")
    given = signature.encode("utf-8", "surrogateescape")
    if not hmac.compare_digest(given, _sign(key, name, url, seconds).encode()):
        raise RecordForgedError(f"{url!r} has another secret")
    issued = float(seconds)
    if not -VALIDITY <= now - issued <= expiry + VALIDITY:
        raise RecordForgedError(
            f"{url!r} has written it {now - issued:.0f} s ago, if the clocks are right: they may "
            f"not differ by more than {VALIDITY:g} s; or somebody repeats what a node that has "
            "ended wrote"
        )
    return NodeRecord(url, issued)


def _sign(key: bytes, name: str, url: str, seconds: str) -> str:
    # no signed has a line like the first, see `HeaderSigner`
    message = f"node\n{name}\n{url}\n{seconds}".encode("utf-8", "surrogateescape")
    return hmac.digest(key, message, hashlib.sha256).hex()
