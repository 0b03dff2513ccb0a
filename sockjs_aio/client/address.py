"""The URLs of one service: the address that you connect to, and what is below it."""

import secrets

from yarl import URL

from sockjs_aio.errors import SettingsError


class Address:
    """Where a service is.

    Args:
        url: The URL of the service, such as ``https://example.com/chat?token=x``.  The query goes
            along with each request, as with sockjs-client.

    Raises:
        SettingsError: If it is not such a URL.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = URL(url)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"connect({url!r}): not a URL: {error}") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise SettingsError(
                f"connect({url!r}): write the URL of the service, such as https://example.com/chat "
                "(http or https for WebSockets too)"
            )
        self._query = parsed.raw_query_string
        self._base = str(parsed.with_query(None).with_fragment(None)).rstrip("/")
        self.is_secure: bool = parsed.scheme == "https"

    def __str__(self) -> str:
        """Return the URL without its query, which may have a secret, and without a password."""
        return str(URL(self._base, encoded=True).with_user(None))

    def below(self, path: str) -> URL:
        """Return the URL of `path` below the service."""
        query = f"?{self._query}" if self._query else ""
        return URL(f"{self._base}{path}{query}", encoded=True)


def session_path() -> str:
    """Return the path of a new session.  Who knows it can take the session over: log it never."""
    return f"/{secrets.randbelow(1000):03}/{secrets.token_hex(16)}"
