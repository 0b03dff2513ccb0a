"""Where Redis is, and how to connect to it."""

from collections.abc import Sequence
from typing import Any, cast

import async_timeout
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from sockjs_aio.brokers.redis.commands import Command
from sockjs_aio.brokers.redis.connection import named_primary
from sockjs_aio.brokers.redis.replies import FAILURES, read_reply, reason
from sockjs_aio.brokers.redis.url import address, make_pool
from sockjs_aio.errors import BrokerUnavailableError


class Server:
    """Where Redis is, and how to connect to it.

    Args:
        url: A URL for redis-py: ``redis://``, ``rediss://`` or ``unix://``.
        timeout: Seconds that connecting may take.
        probe: A command that checks the server: a usable one answers, or refuses only this command.

    Raises:
        ValueError: If `url` is not valid.
    """

    def __init__(self, url: str, timeout: float, probe: Command) -> None:
        self.probe = probe
        self._timeout = timeout
        self._pool = make_pool(
            ConnectionPool,
            url,
            # nothing may be sent twice, and the link itself notices silence
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=timeout,
            health_check_interval=0,
            # the form of replies that `Subscriber` reads
            decode_responses=False,
            protocol=2,
        )

    def __str__(self) -> str:
        return address(self._pool)

    async def connection(self) -> AbstractConnection:
        """Connect, log in, and check that the server is usable."""
        connection: Any = self._pool.connection_class(**self._pool.connection_kwargs)
        try:
            async with async_timeout.timeout(self._timeout):
                await connection.connect()
                await connection.send_command(*self.probe, check_health=False)
                await read_reply(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return cast(AbstractConnection, connection)

    async def check_primary(self, connections: Sequence[AbstractConnection]) -> None:
        """Raise `ConnectionError` if one of `connections` leads to another server than it should.

        Only Sentinels know that; without them, this does nothing.
        """
        place = await named_primary(self._pool, self._timeout)
        if place is None:
            return
        for connection in cast("Sequence[Any]", connections):
            if place != (connection.host, connection.port):
                raise ConnectionError("the Sentinels name another primary now")

    async def call(self, command: Command) -> Any:
        """Run one command on a connection of its own and return the answer.

        Raises:
            BrokerUnavailableError: If Redis cannot be reached, does not answer in time or refuses.
        """
        try:
            connection = await self.connection()
            try:
                async with async_timeout.timeout(self._timeout):
                    await connection.send_command(*command, check_health=False)
                    reply = await read_reply(connection)
            finally:
                await connection.disconnect()
        except FAILURES as error:
            raise BrokerUnavailableError(f"Redis at {self}: {reason(error)}") from error
        if isinstance(reply, ResponseError):
            raise BrokerUnavailableError(f"Redis at {self} refuses: {reason(reply)}")
        return reply
