"""What the hooks are told about a session: the request that opened it, and how it ended."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from multidict import CIMultiDict, CIMultiDictProxy, MultiDictProxy
from yarl import URL

from sockjs_aio.grant import Grant, Until
from sockjs_aio.protocol.ends import End, Initiator, status_of

if TYPE_CHECKING:
    from aiohttp import web

T = TypeVar("T")
U = TypeVar("U")

_NOTHING: Mapping[Any, Any] = MappingProxyType({})
_END = "\0"  # aiohttp lets no client send it


class ConnectionInfo(Mapping[Any, Any]):
    """A snapshot of the request that opened a session.  It does not keep the request alive.

    As a mapping, it has what middlewares stored on the request: ``info["user"]`` is what was stored
    as ``request["user"]``.

    Args:
        request: The request to copy from.
        transport: The name of its transport, as in the URL.
        identity: What `authorize` returned.
        protocol: The WebSocket subprotocol that the server selected.
    """

    __slots__ = (
        "ip",
        "transport",
        "path",
        "app",
        "identity",
        "until",
        "protocol",
        "_headers",
        "_query",
        "_cookies",
        "_stored",
    )

    ip: str | None
    """The client's address: aiohttp's ``request.remote``.  Behind a proxy, aiohttp-remotes can
    correct it."""
    transport: str
    """The name of the transport, such as ``"websocket"`` or ``"xhr_streaming"``."""
    path: str
    """The path of the URL, decoded, without the query."""
    app: "web.Application"
    """The application whose router matched; it may be a sub-application."""

    identity: Any
    """What `authorize` returned, such as a user.  None if it returned True or is not set."""

    until: Until
    """The time in the `Grant` that `authorize` returned; None if the session has no such end."""

    protocol: str | None
    """The WebSocket subprotocol that the server selected from the setting `protocols`."""

    def __init__(
        self,
        request: "web.Request",
        transport: str,
        identity: Any = None,
        protocol: str | None = None,
    ) -> None:
        self.ip = request.remote
        self.transport = transport
        self.path = request.path
        self._headers = _packed(request.headers)
        self.app = request.app
        self.until = identity.until if isinstance(identity, Grant) else None
        self.identity = identity.identity if isinstance(identity, Grant) else identity
        self.protocol = protocol
        self._query = request.rel_url.raw_query_string
        self._cookies = request.cookies if "Cookie" in request.headers else _NOTHING
        self._stored: Mapping[Any, Any] = dict(request) if len(request) else _NOTHING

    @classmethod
    def of_head(
        cls,
        *,
        ip: str | None,
        transport: str,
        path: str,
        query: str,
        headers: Sequence[str],
        cookies: Mapping[str, str],
        app: "web.Application",
    ) -> "ConnectionInfo":
        """Return the info of a request that was read without aiohttp, and so has no middlewares.

        Args:
            ip: The attribute of that name, as are `transport`, `path`, `cookies` and `app`.
            transport: See `ip`.
            path: See `ip`.
            query: The URL's query, as it came.
            headers: Names and values, alternately.
            cookies: See `ip`.
            app: See `ip`.
        """
        made = cls.__new__(cls)
        made.ip, made.transport, made.path, made.app = ip, transport, path, app
        made.identity = made.until = made.protocol = None
        made._headers = _END.join(headers).encode()
        made._query, made._cookies, made._stored = query, cookies, _NOTHING
        return made

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The request's headers; names are case-insensitive.

        They are unpacked each time you ask for this.
        """
        return _unpacked(self._headers)

    @property
    def query(self) -> "MultiDictProxy[str]":
        """The parameters of the URL's query, decoded."""
        return URL.build(query_string=self._query, encoded=True).query

    @property
    def cookies(self) -> Mapping[str, str]:
        """The request's cookies, by name."""
        return self._cookies

    @overload
    def __getitem__(self, key: "web.RequestKey[T]") -> T: ...

    @overload
    def __getitem__(self, key: Any) -> Any: ...

    def __getitem__(self, key: Any) -> Any:
        return self._stored[key]

    @overload
    def get(self, key: "web.RequestKey[T]", default: None = None) -> T | None: ...

    @overload
    def get(self, key: "web.RequestKey[T]", default: U) -> T | U: ...

    @overload
    def get(self, key: Any, default: Any = None) -> Any: ...

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value that a middleware stored under `key`, or `default`."""
        return self._stored.get(key, default)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def __bool__(self) -> bool:
        return True

    # two snapshots with the same stored values are still of two requests
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        # the path has the session's id, which must not get into logs
        return f"<ConnectionInfo {self.transport} from {self.ip}>"


def _packed(headers: CIMultiDictProxy[str]) -> bytes | CIMultiDictProxy[str]:
    """Return what `_unpacked` takes.  A session keeps it, so it is small: one object, not dozens.

    A middleware may have put `_END` into one; then they stay as they are.
    """
    text = _END.join(chain.from_iterable(headers.items()))
    is_plain = text.count(_END) == max(2 * len(headers) - 1, 0)
    return text.encode("utf-8", "surrogatepass") if is_plain else headers


def _unpacked(headers: bytes | CIMultiDictProxy[str]) -> CIMultiDictProxy[str]:
    if not isinstance(headers, bytes):
        return headers
    parts = headers.decode("utf-8", "surrogatepass").split(_END) if headers else []
    return CIMultiDictProxy(CIMultiDict(zip(parts[::2], parts[1::2], strict=True)))


@dataclass(frozen=True, slots=True)
class CloseInfo:
    """The end of one session.

    As for WebSockets (RFC 6455, section 7.1.5), code 1005 means a close frame without a code, and
    1006 means that the connection ended without a close frame.
    """

    code: int
    """The close code, sent or received."""
    reason: str
    """The close reason; the client's own text if the client closed."""
    initiator: Initiator
    """Who or what ended the session."""
    seconds: float
    """How long the session was open."""
    transport: str
    """The name of the transport that opened the session, such as ``"websocket"``."""

    @property
    def status(self) -> str:
        """A name for this kind of end, such as ``"expired"``: one of few, made for statistics.

        ``"client"`` if the client closed the session; ``"server"`` if you closed it with a code or
        reason of your own.  docs/observing.md lists the names.
        """
        return status_of(End(self.code, self.reason, self.initiator))

    def __str__(self) -> str:
        return f"{self.initiator}, {self.code} {self.reason!r}, after {self.seconds:.3g} s"
