"""Finds the primary of a service by asking its Sentinels, each time a connection is made."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, cast
from urllib.parse import parse_qsl, quote

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from sockjs_aio.brokers.redis.replies import FAILURES, ends_connection, reason
from sockjs_aio.brokers.redis.tls import tls_options

Place: TypeAlias = tuple[str, int]
"""A host and a port."""

SENTINEL_SCHEMES = ("redis+sentinel://", "rediss+sentinel://")

EXAMPLE = "redis+sentinel://host:26379,host:26379/service"

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\[\],]+)(?::([0-9]{1,5}))?")
_SERVICE = re.compile(r"[A-Za-z0-9._-]+")


class SentinelUrl(NamedTuple):
    """The parts of a URL such as `EXAMPLE`."""

    primary: str
    """A URL like one without Sentinel, with a host that means nothing."""
    sentinels: list[str]
    """For each Sentinel, a URL that leads to it, with the primary's TLS options."""
    names: str
    """The Sentinels' hosts and ports, for people."""
    service: str


def split_url(url: str) -> SentinelUrl:
    """Split a URL with one of `SENTINEL_SCHEMES`.

    Raises:
        ValueError: If it has no hosts or no service.  The text does not repeat the URL.
    """
    scheme, _, rest = url.partition("://")
    authority, _, rest = rest.partition("/")
    service, _, query = rest.partition("?")
    user, at, hosts = authority.rpartition("@")
    found = [_HOST.fullmatch(host) for host in hosts.split(",")]
    addresses = [f"{x[1]}:{x[2] or 26379}" for x in found if x is not None]
    if len(addresses) < len(found):
        raise ValueError(f"write the hosts of the Sentinels like {EXAMPLE}")
    if _SERVICE.fullmatch(service) is None:
        raise ValueError(f"write the name of the service behind the hosts, like {EXAMPLE}")
    scheme = scheme.lower().partition("+")[0]
    options = [x for x in query.split("&") if x]
    login = _login([x for x in options if x.startswith("sentinel_")])
    tls = "&".join(x for x in options if x.startswith("ssl_"))
    others = "&".join(x for x in options if not x.startswith("sentinel_"))
    return SentinelUrl(
        f"{scheme}://{user}{at}{addresses[0]}/" + (f"?{others}" if others else ""),
        [f"{scheme}://{login}{address}/" + (f"?{tls}" if tls else "") for address in addresses],
        ", ".join(addresses),
        service,
    )


def _login(options: list[str]) -> str:
    values = dict(parse_qsl("&".join(options), keep_blank_values=True))
    user = values.pop("sentinel_username", "")
    password = values.pop("sentinel_password", "")
    if values:
        raise ValueError("for the Sentinels it may set sentinel_username and sentinel_password")
    return f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""


class Sentinels:
    """The Sentinels of one service.

    Args:
        url: Where they are.
        timeout: Seconds within which one of them must answer.
    """

    def __init__(self, url: SentinelUrl, timeout: float) -> None:
        self.named: Place | None = None
        """What they have named last: a connection that leads to another place is left."""
        self.service: str = url.service
        self.names: str = url.names
        share = timeout / (len(url.sentinels) + 1)  # so that all are asked in time
        self._clients: list[Redis] = [
            Redis.from_url(
                sentinel,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=share,
                socket_connect_timeout=share,
                protocol=2,
                **tls_options(sentinel),
            )
            for sentinel in url.sentinels
        ]

    def __str__(self) -> str:
        return f"{self.service} (Sentinels: {self.names})"

    async def __call__(self) -> Place:
        """Ask one Sentinel after the other, and return the host and port of the primary.

        One for which there was no time is asked last the next time.

        Raises:
            RedisError: If none of them knows one that works.
        """
        silent: list[str] = []
        strangers: set[str] = set()  # services that Sentinels know which do not know this one
        is_down = False
        for client in list(self._clients):
            try:
                masters = await _masters(client)
            except asyncio.CancelledError:
                self._clients.remove(client)
                self._clients.append(client)
                raise
            except FAILURES as error:
                silent.append(f"{_address(client)}: {_why(error)}")
                continue
            master = masters.get(self.service)
            if master is None:
                strangers.update(masters)
            elif _works(master):
                self._clients.remove(client)  # next time it is asked first
                self._clients.insert(0, client)
                self.named = str(master["ip"]), int(master["port"])
                return self.named
            is_down = is_down or master is not None
        raise RedisConnectionError(self._complaint(silent, sorted(strangers), is_down))

    def _complaint(self, silent: Sequence[str], strangers: Sequence[str], is_down: bool) -> str:
        if is_down:
            return "the Sentinels know no primary that works at the moment; wait for a failover"
        if len(silent) < len(self._clients):
            known = f"only {', '.join(strangers)}" if strangers else "nor any other"
            return (
                f"the Sentinels do not know the service {self.service!r}, {known}: correct its "
                "name in the URL"
            )
        return (
            f"no Sentinel answers ({'; '.join(silent)}): check that they run, and their hosts, "
            "ports and password in the URL"
        )


async def _masters(client: Redis) -> dict[str, Any]:
    """Ask over a connection of its own: many may ask at the same time, and each hangs up."""
    kind, options = (
        client.connection_pool.connection_class,
        client.connection_pool.connection_kwargs,
    )
    pool: ConnectionPool = ConnectionPool(connection_class=kind, **options)
    try:
        answer: Any = await Redis(connection_pool=pool).sentinel_masters()
        return cast("dict[str, Any]", answer)
    finally:
        # `pool.disconnect` makes tasks, which never start if there is no time left
        for connection in (*pool._available_connections, *pool._in_use_connections):
            await connection.disconnect(nowait=True)


def _works(master: dict[str, Any]) -> bool:
    return master["is_master"] and not master["is_sdown"] and not master["is_odown"]


def _why(error: BaseException) -> str:
    if isinstance(error, ResponseError) and "unknown command" in str(error):
        return "it is not a Sentinel"
    text = reason(error)
    return text if ends_connection(error) else text.partition("\n")[0]


def _address(client: Redis) -> str:
    options = client.connection_pool.connection_kwargs
    return f"{options['host']}:{options['port']}"
