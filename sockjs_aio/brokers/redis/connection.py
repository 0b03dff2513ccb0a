"""Connections that find the primary by themselves, and refuse servers that cannot be used."""

import re
from collections.abc import Callable
from typing import Any

import async_timeout
from redis.asyncio import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from sockjs_aio.brokers.redis.replies import CLUSTER, FAILURES, read_reply
from sockjs_aio.brokers.redis.sentinel import Place, Sentinels

_RUN_ID = re.compile(rb"^run_id:([0-9a-f]+)", re.MULTILINE)

_MODE = re.compile(rb"^(?:redis|server)_mode:(cluster|sentinel)", re.MULTILINE)

REFUSALS = {
    b"cluster": CLUSTER,
    b"sentinel": "it is a Sentinel: write redis+sentinel://host:port/service, with its service",
}


class _Checked:
    """A mix-in for redis-py's connections.

    Args:
        find: The Sentinels, which know the host and port to connect to; None without them.
        note_server: See `note_servers`.
        options: The options of redis-py's connection.
    """

    def __init__(
        self,
        *,
        find: Sentinels | None = None,
        note_server: Callable[[bytes | None], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._find = find
        self._note_server = note_server

    async def connect(self: Any) -> None:
        """Connect, if it is not connected."""
        while not self.is_connected:
            if self._find is not None:
                self.host, self.port = await self._find()
            await super().connect()  # type: ignore[misc]
            try:
                run_id = await _check_mode(self)
            except BaseException:
                await self.disconnect(nowait=True)
                raise
            if self._find is not None and self._find.named != (self.host, self.port):
                # the others were closed meanwhile, because the primary was replaced
                await self.disconnect(nowait=True)
            elif self._note_server is not None:
                self._note_server(run_id)


def check_connections(pool: ConnectionPool, find: Sentinels | None) -> None:
    """Have `pool` make connections that find the primary, and check what it is."""
    kind = pool.connection_class
    pool.connection_class = type(kind.__name__, (_Checked, kind), {})
    pool.connection_kwargs["find"] = find


def note_servers(pool: ConnectionPool, note: Callable[[bytes | None], None]) -> None:
    """Have `note` called for each new connection, with what identifies a running Redis.

    That is None if the user has no permission to ask for it, or the server has no such thing.
    """
    pool.connection_kwargs["note_server"] = note


async def named_primary(pool: ConnectionPool, timeout: float) -> Place | None:
    """Return the primary that the Sentinels name now; None without Sentinels, or if they do not.

    A primary that was replaced may work for 10 s more, until the Sentinels make it a replica.  What
    is written there meanwhile is lost.
    """
    find: Sentinels | None = pool.connection_kwargs.get("find")
    if find is None:
        return None
    try:
        async with async_timeout.timeout(timeout):
            return await find()
    except FAILURES:
        return None


async def _check_mode(connection: Any) -> bytes | None:
    """Refuse a server that cannot be used; return its run id, if it tells that."""
    await connection.send_command("INFO", "server", check_health=False)
    reply = await read_reply(connection)
    if isinstance(reply, ResponseError):  # the user has no permission for this command
        return None
    text = reply.encode("utf-8", "surrogateescape") if isinstance(reply, str) else reply
    if (found := _MODE.search(text)) is not None:
        raise RedisConnectionError(REFUSALS[found[1]])
    run_id = _RUN_ID.search(text)
    return None if run_id is None else bytes(run_id[1])
