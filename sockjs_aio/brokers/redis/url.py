"""Which URLs of Redis are valid.  Errors never repeat the URL, since it may have a password."""

import contextlib
import copy
import re
from collections.abc import Iterator
from typing import Any, TypeGuard, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from redis import ConnectionPool as SyncPool
from redis import Redis
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError
from redis.sentinel import Sentinel, SentinelConnectionPool

from sockjs_aio.brokers.redis.connection import check_connections
from sockjs_aio.brokers.redis.sentinel import EXAMPLE, SENTINEL_SCHEMES, Sentinels, split_url
from sockjs_aio.brokers.redis.tls import tls_options

Pool = TypeVar("Pool", bound=ConnectionPool)
AnyPool = TypeVar("AnyPool", bound=ConnectionPool | SyncPool)

OPTIONS = ("client_name", "db", "password", "socket_keepalive", "username")
"""The options that may follow the ``?``; with ``rediss://`` also those that begin with `TLS`."""

TLS = "ssl_"

HINT = (
    "characters such as # / ? : @ and % in the user name or password must be percent-encoded, "
    "as urllib.parse.quote(password, safe='') does"
)


def make_pool(kind: type[Pool], url: object, **options: Any) -> Pool:
    """Make a pool for `url`, and check that it can create connections.

    Args:
        kind: The pool's class.
        url: A URL for redis-py, or one with Sentinels.
        options: Options that the URL cannot set, with `socket_connect_timeout`.

    Raises:
        ValueError: If `url` is not valid.  The text does not repeat it.
    """
    if not is_of_sentinels(url):
        pool = plain_pool(kind, url, **options)
        check_connections(pool, None)
        return pool
    parts = split_url(url)
    pool = plain_pool(kind, parts.primary, **options)
    with _redis_refusing():
        check_connections(pool, Sentinels(parts, options["socket_connect_timeout"]))
    return pool


def make_sync_pool(url: object, **options: Any) -> SyncPool:
    """Do what `make_pool` does, for programs without an event loop."""
    if not is_of_sentinels(url):
        return plain_pool(SyncPool, url, **options)
    parts = split_url(url)
    pool = plain_pool(SyncPool, parts.primary, **options)
    primary = {k: v for k, v in pool.connection_kwargs.items() if k not in ("host", "port")}
    primary["max_connections"] = pool.max_connections
    if parts.primary.startswith("rediss"):
        primary["ssl"] = True
    sentinels = _Sentinels([])  # type: ignore[no-untyped-call]
    share = options["socket_connect_timeout"] / (len(parts.sentinels) + 1)
    options |= {"socket_timeout": share, "socket_connect_timeout": share}  # as in `Sentinels`
    with _redis_refusing():
        sentinels.sentinels = [
            Redis.from_url(x, **options, **tls_options(x)) for x in parts.sentinels
        ]
    return SentinelConnectionPool(  # type: ignore[no-untyped-call]
        parts.service, sentinels, **primary
    )


class _Sentinels(Sentinel):
    """Sentinels for several threads, and for processes that they fork.

    redis-py changes the order of its list while it asks, so each call gets a list of its own.  With
    a lock instead, threads would wait for each other while a Sentinel is silent, and a fork would
    wait for a thread that it does not have.
    """

    def discover_master(self, service_name: str) -> Any:
        """Ask for the primary; the Sentinel that answers is asked first from then on."""
        own = copy.copy(self)
        own.sentinels = list(self.sentinels)
        found = Sentinel.discover_master(own, service_name)  # type: ignore[no-untyped-call]
        self.sentinels = own.sentinels
        return found


def is_of_sentinels(url: object) -> TypeGuard[str]:
    """Tell whether `url` is one with Sentinels.

    Raises:
        ValueError: If it is one, but not encoded as it must be.
    """
    if not isinstance(url, str) or not url.lower().startswith(SENTINEL_SCHEMES):
        return False
    _check_encoding(url)
    return True


def plain_pool(kind: type[AnyPool], url: object, **options: Any) -> AnyPool:
    """Make a pool for a URL without Sentinels, and check that it can create connections."""
    checked = checked_url(url)
    with _redis_refusing():
        options = {**options, **tls_options(checked)}
        pool: AnyPool = kind.from_url(checked, **options)  # type: ignore[assignment]
        connection: Any = pool.connection_class(**pool.connection_kwargs)
        context = getattr(connection, "ssl_context", None)
        if context is not None:
            context.get()  # reads certificates; otherwise every attempt to connect would fail
    return pool


@contextlib.contextmanager
def _redis_refusing() -> Iterator[None]:
    try:
        yield
    except (RedisError, ValueError, TypeError, LookupError, OSError) as error:
        raise ValueError(f"redis-py refuses it: {error}") from None


def checked_url(url: object) -> str:
    """Return `url` if it is complete and correct.

    With a missing or extra character, redis-py may silently read another URL.

    Raises:
        ValueError: If `url` is not valid.
    """
    if not isinstance(url, str):
        raise ValueError(f"it must be a str, not {type(url).__name__}")
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in ("redis", "rediss", "unix"):
        raise ValueError(
            f"write it like redis://host:6379, rediss://host:6379, unix:///path or {EXAMPLE}"
        )
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError(f"it cannot be read: the port must be a number, and {HINT}") from None
    _check_encoding(url)
    is_local = scheme.lower() == "unix"
    if parts.fragment or url.endswith("#") or ("@" in parts.path and not is_local):
        raise ValueError(f"it cannot be read: {HINT}")
    if is_local and (parts.netloc.rpartition("@")[2] or len(parts.path) < 2):
        raise ValueError(f"write it like unix:///path, with three slashes; {HINT}")
    if not is_local and not re.fullmatch(r"(/\d*)?", parts.path):
        raise ValueError(f"after the host, only a database number is allowed; {HINT}")
    _check_options([name for name, _ in query], "@" in parts.query, scheme.lower() == "rediss")
    return url


def _check_encoding(url: str) -> None:
    """Check that each % begins an escape, and all escapes are text."""
    try:
        is_bare = re.search("%(?![0-9A-Fa-f]{2})", url) is not None
        if not is_bare and "\0" not in unquote(url, errors="strict"):
            return
    except UnicodeDecodeError:
        pass
    raise ValueError(f"it cannot be read: {HINT}")


def address(pool: ConnectionPool | SyncPool) -> str:
    """Return the server's address, without its password."""
    if isinstance(pool, SentinelConnectionPool):
        return f"{pool.service_name} (Sentinel)"
    options = pool.connection_kwargs
    if options.get("find") is not None:
        return str(options["find"])
    host, port = options.get("host", "localhost"), options.get("port", 6379)
    return str(options.get("path") or f"{host}:{port}")


def _check_options(names: list[str], is_doubtful: bool, has_tls: bool) -> None:
    for name in names:
        if name in OPTIONS or (name.startswith(TLS) and has_tls):
            continue
        if is_doubtful or not re.fullmatch(r"[a-z_]{1,40}", name):  # perhaps part of a password
            raise ValueError(f"it cannot be read: {HINT}")
        if name.startswith(TLS):
            raise ValueError(f"{name} needs rediss://")
        raise ValueError(f"it cannot set {name}; it may set {', '.join(OPTIONS)} and, with "
                         f"rediss://, {TLS}...")  # fmt: skip
