"""The connections of a node to Redis, and how long it waits for an answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import async_timeout
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from sockjs_aio.brokers.redis.connection import note_servers
from sockjs_aio.brokers.redis.replies import FAILURES
from sockjs_aio.brokers.redis.url import make_pool

T = TypeVar("T")

MAX_CONNECTIONS = 4
"""Maximum number of connections to Redis; further commands wait."""


class ServerReplacedError(RedisConnectionError):
    """Another server has taken the place of the last one; nothing was sent to it yet."""


class NodePool(BlockingConnectionPool):
    """A pool whose connections can be replaced although some are in use.

    Args:
        is_outdated: Tells whether the command that gets a connection must be made again.
        options: The options of redis-py's pool.
    """

    def __init__(self, *, is_outdated: Callable[[], bool], **options: Any) -> None:
        super().__init__(**options)
        self._is_outdated = is_outdated
        self._left: set[AbstractConnection] = set()

    async def get_connection(self, *arguments: Any, **options: Any) -> AbstractConnection:
        """Return a connection for a command.

        Raises:
            ServerReplacedError: If Redis was replaced since the command was made.
        """
        connection: AbstractConnection = await super().get_connection(  # type: ignore[no-untyped-call]
            *arguments, **options
        )
        if self._is_outdated():
            await self.release(connection)
            raise ServerReplacedError("it was replaced meanwhile")
        return connection

    async def replace(self) -> None:
        """Leave all connections: the idle ones now, and those in use when they are given back.

        If its connection is closed under it, redis-py may fail with any error.
        """
        self._left.update(self._in_use_connections)
        for connection in list(self._available_connections):
            await connection.disconnect(nowait=True)  # or it would be used while it waits

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back."""
        if connection in self._left:
            self._left.remove(connection)
            await connection.disconnect(nowait=True)
        await super().release(connection)


def make_node_pool(
    url: str,
    timeout: float,
    note_server: Callable[[bytes | None], None],
    is_outdated: Callable[[], bool],
) -> NodePool:
    """Make the pool of connections.

    Args:
        url: The URL of Redis.
        timeout: Seconds within which Redis must answer.
        note_server: See `note_servers`.
        is_outdated: See `NodePool`.

    Raises:
        ValueError: If `url` is not valid.
    """
    pool = make_pool(
        NodePool,
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=timeout,
        is_outdated=is_outdated,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        health_check_interval=0,
        decode_responses=True,
        encoding_errors="surrogateescape",
    )
    note_servers(pool, note_server)
    return pool


async def in_time(ask: Callable[[], Awaitable[T]], limit: float) -> T:
    """Send a command, and again if it timed out because this process was blocked, not Redis."""
    now = asyncio.get_running_loop().time
    start = now()
    try:
        async with async_timeout.timeout(limit):
            return await ask()
    except ServerReplacedError:
        raise
    except FAILURES:
        if now() < start + 1.5 * limit:
            raise
    async with async_timeout.timeout(limit):
        return await ask()
