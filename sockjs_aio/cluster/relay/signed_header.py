"""What one process tells another along with a request that it hands on, signed by a shared key."""

import enum
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

HEADER = "Sockjs-Relay"

VALIDITY = 30.0
"""Seconds for which a signed is good; clocks may differ by as much."""


class SignatureForgedError(Exception):
    """Nobody who has the key has made it for this request, or that was long ago."""


class SignatureExpiredError(SignatureForgedError):
    """Somebody who has the key has made it for this request, too long ago."""


class Purpose(enum.Enum):
    """Why a process turns to another one."""

    RELAY = "relay"  # answer it, or have your predecessor do it
    ANSWER = "answer"  # answer it
    FIND = "find"  # do you have its session, or remember its end?
    RELEASE = "release"  # end the response that its session has now, so that the client asks anew


@dataclass(frozen=True)
class SignedHeader:
    """What the process at which a request has come in knows of it."""

    purpose: Purpose
    scheme: str
    remote: str
    recipient: str = ""
    """The only process for which it is good, by its name; all if it is empty."""


class HeaderSigner:
    """Issues signer, and verifies those of others.

    Args:
        key: A secret of all processes; there are no signer without one.
        now: The time that their clocks show.
    """

    def __init__(self, key: bytes, now: Callable[[], float] = time.time) -> None:
        if not key:
            raise ValueError("the processes need a secret that they share")
        self._key = key
        self._now = now

    def issue(self, signed: SignedHeader, method: str, target: str) -> str:
        """Return the header's value for a request of `method` for `target`, as it will be sent."""
        purpose, remote = signed.purpose.value, signed.remote or "-"
        fields = f"{purpose} {signed.scheme} {remote} {self._now():.0f}"
        if signed.recipient:
            fields += f" {signed.recipient}"
        return f"{fields} {self._sign(method, target, fields).decode()}"

    def verify(self, request: web.Request) -> SignedHeader:
        """Read the header of a request that has one.

        Raises:
            SignatureForgedError: If it is not to be believed.
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
