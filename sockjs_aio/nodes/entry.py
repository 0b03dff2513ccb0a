"""What a node writes down of itself for the others, signed: Redis could send requests anywhere."""

import hashlib
import hmac

MIN_SECRET = 16
"""Bytes of a secret."""


class EntryForged(Exception):
    """Nobody who has the secret has written it."""


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


def make_entry(key: bytes, name: str, url: str) -> str:
    """Write down where the node of a name is."""
    return f"{url} {_sign(key, name, url)}"


def read_entry(key: bytes, name: str, entry: str) -> str:
    """Return where the node of a name is.

    Raises:
        EntryForged: If somebody else has written that.
    """
    url, _, signature = entry.partition(" ")
    given = signature.encode("utf-8", "surrogateescape")
    if not hmac.compare_digest(given, _sign(key, name, url).encode()):
        raise EntryForged(f"{url!r} has another secret")
    return url


def _sign(key: bytes, name: str, url: str) -> str:
    # no passport has a line like the first, see `Passports`
    message = f"node\n{name}\n{url}".encode("utf-8", "surrogateescape")
    return hmac.digest(key, message, hashlib.sha256).hex()
