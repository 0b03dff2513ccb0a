"""Signed user names, for cookies and tokens: anyone can read them, only the server can make them.

This needs only the standard library.  If your application already uses itsdangerous, PyJWT or
aiohttp-session, use that.
"""

import base64
import hashlib
import hmac
import json
import time


class Signer:
    """Signs the names of users.

    Args:
        key: A secret; use the same one in all processes and after a restart.
        purpose: What the signed names are for, so that a token cannot be used as a cookie.
        seconds: How long a signed name is valid.
    """

    def __init__(self, key: bytes, purpose: str, seconds: float) -> None:
        self.key = hashlib.sha256(purpose.encode() + key).digest()
        self.seconds = seconds

    def sign(self, user: str) -> str:
        """Return the signed name of `user`, in characters that cookies and URLs allow."""
        claim = json.dumps([user, time.time() + self.seconds])
        payload = base64.urlsafe_b64encode(claim.encode()).decode()
        return f"{payload}.{self._signature(payload)}"

    def user(self, signed: str | None) -> str | None:
        """Return the user that `signed` names, or None if it is forged or has expired."""
        payload, _, signature = (signed or "").partition(".")
        expected = self._signature(payload).encode()
        if not hmac.compare_digest(signature.encode(errors="replace"), expected):
            return None
        user, end = json.loads(base64.urlsafe_b64decode(payload))
        return user if time.time() < end else None

    def _signature(self, payload: str) -> str:
        return hmac.new(self.key, payload.encode(errors="replace"), "sha256").hexdigest()
