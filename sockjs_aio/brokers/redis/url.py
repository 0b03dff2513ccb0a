"""Which URLs of Redis are valid.  Errors never repeat the URL, since it may have a password."""

import re
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from sockjs_aio.brokers.redis.connection import check_connections
from sockjs_aio.brokers.redis.sentinel import EXAMPLE, SENTINEL_SCHEMES, Sentinels, split_url

Pool = TypeVar("Pool", bound=ConnectionPool)

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
    sentinels, plain = None, url
    if isinstance(url, str) and url.lower().startswith(SENTINEL_SCHEMES):
        _check_encoding(url)
        parts = split_url(url)
        sentinels, plain = parts, parts.primary
    checked = checked_url(plain)
    try:
        pool = kind.from_url(checked, **options)
        connection: Any = pool.connection_class(**pool.connection_kwargs)
        context = getattr(connection, "ssl_context", None)
        if context is not None:
            context.get()  # reads certificates; otherwise every attempt to connect would fail
        find = sentinels and Sentinels(sentinels, options["socket_connect_timeout"])
    except (RedisError, ValueError, TypeError, LookupError, OSError) as error:
        raise ValueError(f"redis-py refuses it: {error}") from None
    check_connections(pool, find)
    return pool


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


def address(pool: ConnectionPool) -> str:
    """Return the server's address, without its password."""
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
