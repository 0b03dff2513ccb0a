"""The header that one process adds to a request that it relays, signed with a shared key."""

import enum
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

HEADER = "Sockjs-Relay"

RELAYED = web.RequestKey("relayed by another process", bool)
"""Set if another process has relayed the request: that one got it from the client, and logs it."""

VALIDITY = 30.0
"""Seconds for which a signed header is valid; clocks may differ by as much."""


class SignatureForgedError(Exception):
    """The header was not signed with our key for this request, or not within `VALIDITY`."""


class SignatureExpiredError(SignatureForgedError):
    """The header was signed with our key for this request, but too long ago."""


class Purpose(enum.Enum):
    """What a process wants from another one."""

    RELAY = "relay"  # answer it, or relay it to your predecessor or successor
    ANSWER = "answer"  # answer it yourself
    FIND = "find"  # tell whether you have its session, or remember its end
    RELEASE = "release"  # end its session's response, so that the client sends a new request


@dataclass(frozen=True)
class SignedHeader:
    """What the process that received a request knows about it."""

    purpose: Purpose
    scheme: str
    remote: str
    recipient: str = ""
    """The name of the only process that may accept it; empty for any process."""


class HeaderSigner:
    """Signs headers, and verifies those of other processes.

    Args:
        key: The secret that all processes share; it must not be empty.
        now: Returns the time of day; the clocks of all processes should agree.
    """

    def __init__(self, key: bytes, now: Callable[[], float] = time.time) -> None:
        if not key:
            raise ValueError("key must not be empty: the processes need a secret that they share")
        self._key = key
        self._now = now

    def issue(self, signed: SignedHeader, method: str, target: str) -> str:
        """Return the header's value for a request; `target` must be exactly as it is sent."""
        purpose, remote = signed.purpose.value, signed.remote or "-"
        fields = f"{purpose} {signed.scheme} {remote} {self._now():.0f}"
        if signed.recipient:
            fields += f" {signed.recipient}"
        return f"{fields} {self._sign(method, target, fields).decode()}"

    def verify(self, request: web.Request) -> SignedHeader:
        """Read the header of a request that has one.

        Raises:
            SignatureForgedError: If it is not valid.
            SignatureExpiredError: If it is too old; on one host, because this process was blocked.
        """
        values = request.headers.getall(HEADER)
        fields, _, signature = values[0].rpartition(" ")
        expected = self._sign(request.method, request.raw_path, fields)
        given = signature.encode("utf-8", "surrogateescape")
        if len(values) > 1 or not hmac.compare_digest(expected, given):
            raise SignatureForgedError
        purpose, scheme, remote, issued, *recipient = fields.split(" ")
        age = self._now() - int(issued)
        if age > VALIDITY:
            raise SignatureExpiredError
        if age < -VALIDITY:
            raise SignatureForgedError
        remote = "" if remote == "-" else remote
        return SignedHeader(Purpose(purpose), scheme, remote, *recipient)

    def _sign(self, method: str, target: str, fields: str) -> bytes:
        message = f"{method} {target}\n{fields}".encode("utf-8", "surrogateescape")
        return hmac.digest(self._key, message, hashlib.sha256).hex().encode()
