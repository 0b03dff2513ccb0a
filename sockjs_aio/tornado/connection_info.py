"""The argument of `on_open`: the request that opened a session."""

import contextlib
import functools
from collections.abc import Mapping
from http.cookies import CookieError, Morsel, SimpleCookie

import sockjs_aio


class ConnectionInfo:
    """Describes the request that opened a session.

    Args:
        ip: The client's address.
        cookies: Morsels by cookie name.
        arguments: The query's parameters: lists of `bytes` by name.
        headers: Values by header name; names are case-insensitive.
        path: Path of the URL, without the query.
    """

    protocol: str | None = None
    """The WebSocket subprotocol that the server selected from the setting `protocols`."""

    def __init__(
        self,
        ip: str | None,
        cookies: "Mapping[str, Morsel[str]]",
        arguments: Mapping[str, list[bytes]],
        headers: Mapping[str, str],
        path: str,
    ) -> None:
        self.ip = ip
        self.cookies = cookies
        self.arguments = arguments
        self.headers = headers
        self.path = path

    @classmethod
    def of(cls, info: sockjs_aio.ConnectionInfo) -> "ConnectionInfo":
        """Make one from the asynchronous API's info."""
        return _RequestInfo(info)

    def get_argument(self, name: str) -> bytes | None:
        """Return the first value of a query parameter, or None."""
        values = self.arguments.get(name)
        return values[0] if values else None

    def get_cookie(self, name: str) -> "Morsel[str] | None":
        """Return the morsel of a cookie, or None; the cookie's text is ``morsel.value``."""
        return self.cookies.get(name)

    def get_header(self, name: str) -> str | None:
        """Return the value of a header, or None."""
        return self.headers.get(name)


class _RequestInfo(ConnectionInfo):
    """Makes morsels only when `cookies` is read; aiohttp has parsed the header already."""

    def __init__(self, info: sockjs_aio.ConnectionInfo) -> None:
        self._info = info
        self.ip, self.path, self.protocol = info.ip, info.path, info.protocol
        self.arguments = {
            name: [v.encode() for v in info.query.getall(name)] for name in info.query
        }
        self._values = info.cookies

    @property
    def headers(self) -> Mapping[str, str]:  # type: ignore[override]
        return self._info.headers

    @functools.cached_property
    def cookies(self) -> "SimpleCookie":  # type: ignore[override]
        # not SimpleCookie.load: on Pythons without the fix for CVE-2024-7592, it takes time
        # quadratic in the length of what the client sends
        cookies = SimpleCookie()
        for name, value in self._values.items():
            with contextlib.suppress(CookieError):  # http.cookies does not allow this name
                cookies[name] = value
        return cookies
