"""Says who somebody is, so that others can read it and cannot alter it: for cookies and tokens.

Only the standard library is needed; an application that has itsdangerous, PyJWT or aiohttp-session
already can use that.
"""

import base64
import hashlib
import hmac
import json
import time


class Signer:
    """Signs the names of users.

    Args:
        key: Secret; the same in all processes, and after a restart.
        purpose: What the signed name is for, so that a token is of no use as a cookie.
        seconds: How long it is good for.
    """

    def __init__(self, key: bytes, purpose: str, seconds: float) -> None:
        self.key = hashlib.sha256(purpose.encode() + key).digest()
        self.seconds = seconds

    def sign(self, user: str) -> str:
        """Return a text of plain characters that stands for `user`."""
        claim = json.dumps([user, time.time() + self.seconds])
        payload = base64.urlsafe_b64encode(claim.encode()).decode()
        return f"{payload}.{self._signature(payload)}"

    def user(self, signed: str | None) -> str | None:
        """Return the user for whom `signed` stands; None if it is not ours, or too old."""
        payload, _, signature = (signed or "").partition(".")
        expected = self._signature(payload).encode()
        if not hmac.compare_digest(signature.encode(errors="replace"), expected):
            return None
        user, end = json.loads(base64.urlsafe_b64decode(payload))
        return user if time.time() < end else None

    def _signature(self, payload: str) -> str:
        return hmac.new(self.key, payload.encode(errors="replace"), "sha256").hexdigest()
