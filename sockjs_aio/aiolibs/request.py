"""The request that opened a session, as far as it is remembered."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeVar, overload

from aiohttp import web
from multidict import CIMultiDictProxy, MultiDictProxy

from sockjs_aio import ConnectionInfo

T = TypeVar("T")


class Request(MutableMapping[Any, Any]):
    """What `Session.request` is: about the request that opened the session, which is over.

    As a mapping it has what middlewares stored on the request, and takes more, as requests do:
    ``aiohttp_session.get_session(session.request)`` keeps there what it has loaded.

    Args:
        info: What the session's connection knows.
    """

    __slots__ = ("_stored", "info")

    info: ConnectionInfo
    """What connections of this package have for it."""

    def __init__(self, info: ConnectionInfo) -> None:
        self.info = info
        self._stored = dict(info)

    @property
    def remote(self) -> str | None:
        """Address of the client, as with aiohttp's requests."""
        return self.info.ip

    ip = remote

    @property
    def transport(self) -> str:
        """Name of the transport, such as ``"websocket"`` or ``"xhr_streaming"``."""
        return self.info.transport

    @property
    def path(self) -> str:
        """Path of the URL, decoded, without the query."""
        return self.info.path

    @property
    def query(self) -> "MultiDictProxy[str]":
        """The parameters of the URL's query, decoded."""
        return self.info.query

    @property
    def headers(self) -> "CIMultiDictProxy[str]":
        """The request's headers; names are case-insensitive."""
        return self.info.headers

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies that the request carried, by name."""
        return self.info.cookies

    @property
    def app(self) -> web.Application:
        """The application whose router matched, a sub-application perhaps."""
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

    # each is about a request of its own, whatever is stored
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<Request {self.transport} from {self.remote}>"
