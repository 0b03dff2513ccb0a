"""What a session keeps of the request that opened it."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeVar, overload

from aiohttp import web
from multidict import CIMultiDictProxy, MultiDictProxy

from sockjs_aio import ConnectionInfo

T = TypeVar("T")


class Request(MutableMapping[Any, Any]):
    """The value of `Session.request`: describes the request that opened the session.

    Like a request, it is a mapping: it contains what middlewares stored on the request, and you can
    store more.  ``aiohttp_session.get_session(session.request)`` stores the loaded session there.

    Args:
        info: The info of the session's connection.
    """

    __slots__ = ("_stored", "info")

    info: ConnectionInfo
    """The same information, as this package's own connections have it."""

    def __init__(self, info: ConnectionInfo) -> None:
        self.info = info
        self._stored = dict(info)

    @property
    def remote(self) -> str | None:
        """The client's address, as in aiohttp's requests."""
        return self.info.ip

    ip = remote

    @property
    def transport(self) -> str:
        """The transport's name, such as ``"websocket"`` or ``"xhr_streaming"``."""
        return self.info.transport

    @property
    def path(self) -> str:
        """Path of the URL, decoded, without the query."""
        return self.info.path

    @property
    def query(self) -> "MultiDictProxy[str]":
        """The query parameters of the URL, decoded."""
        return self.info.query

    @property
    def headers(self) -> "CIMultiDictProxy[str]":
        """The request's headers; names are case-insensitive."""
        return self.info.headers

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies of the request, by name."""
        return self.info.cookies

    @property
    def app(self) -> web.Application:
        """The application whose router matched, which may be a sub-application."""
        return self.info.app

    @property
    def identity(self) -> Any:
        """What `authorize` returned."""
        return self.info.identity

    @overload
    def __getitem__(self, key: "web.RequestKey[T]") -> T: ...

    @overload
    def __getitem__(self, key: object) -> Any: ...

    def __getitem__(self, key: Any) -> Any:
        return self._stored[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._stored[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._stored[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def __bool__(self) -> bool:
        return True

    # two requests with the same stored values are still different requests
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<Request {self.transport} from {self.remote}>"
