"""What redis-py would leave out of TLS."""

from typing import Any
from urllib.parse import parse_qs, urlsplit


def tls_options(url: str) -> dict[str, Any]:
    """Return the options that have redis-py compare the certificate's name with that of the host.

    Before version 6, it does so only if it is told.  A URL may still turn it off.
    """
    parts = urlsplit(url)
    first, *_ = parse_qs(parts.query).get("ssl_cert_reqs", [""])
    if parts.scheme != "rediss" or first == "none":
        return {}
    return {"ssl_check_hostname": True}  # an option of the URL has precedence
