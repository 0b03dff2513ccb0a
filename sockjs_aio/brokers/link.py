"""The link to Redis: two connections, one that listens and one that asks, both there or neither.

When one of them ends, or something asked for is not answered in time, both are given up and made
anew, after a delay that grows.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

import async_timeout
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sockjs_aio.brokers.base import State
from sockjs_aio.brokers.commands import Command, Commands
from sockjs_aio.brokers.complaints import Complaints
from sockjs_aio.brokers.subscriber import Subscriber
from sockjs_aio.errors import BrokerUnavailable, SettingsError

logger = logging.getLogger("sockjs_aio")

FIRST_DELAY = 0.1
"""Seconds before the first attempt to connect anew; each next delay is twice as long."""

LOOKS = 8
"""Looks within the time that Redis has to answer: a loop that was held up costs one of them."""

FAILURES = (RedisError, OSError, asyncio.TimeoutError)


class Server:
    """Where Redis is, and how to connect to it.

    Args:
        url: As redis-py takes it: ``redis://``, ``rediss://`` or ``unix://``.
        timeout: Seconds that a connection may take to be made.

    Raises:
        ValueError: If `url` cannot be read.
        SettingsError: If it sets what cannot be set.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._timeout = timeout
        options: dict[str, Any] = {
            # nothing is sent twice, and silence is watched over by the link
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,
            "socket_connect_timeout": timeout,
            "health_check_interval": 0,
            # replies as `Subscriber` reads them
            "decode_responses": False,
            "protocol": 2,
        }
        self._pool = ConnectionPool.from_url(checked_url(url), **options)
        for name, value in options.items():
            if self._pool.connection_kwargs.get(name) is not value:
                raise SettingsError(f"the URL of a RedisBroker cannot set {name}")

    def __str__(self) -> str:
        return address(self._pool)

    async def connection(self) -> AbstractConnection:
        """Connect and log in."""
        connection: Any = self._pool.connection_class(**self._pool.connection_kwargs)
        try:
            async with async_timeout.timeout(self._timeout):
                await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return cast(AbstractConnection, connection)

    async def call(self, *command: str | bytes | int) -> Any:
        """Run one command on a connection of its own, and return the answer.

        Raises:
            BrokerUnavailable: If Redis cannot be reached, does not answer in time or refuses.
        """
        try:
            connection = await self.connection()
            try:
                async with async_timeout.timeout(self._timeout):
                    await connection.send_command(*command, check_health=False)
                    return await connection.read_response()
            finally:
                await connection.disconnect()
        except FAILURES as error:
            raise BrokerUnavailable(f"Redis at {self}: {reason(error)}") from error


class Link:
    """Keeps the connections, until `stop`.

    Args:
        server: Where Redis is.
        receive: Called with the name of a Redis channel and the payload of each message.
        serve: Awaited with this link for as long as it is up.
        lost: Called whenever messages are missed from then on.
        timeout: Seconds without a sign of Redis after which the connections are given up.
        max_retry_delay: Seconds between two attempts to connect, at most.
        queue_limit: Bytes of commands that wait.
        complaints: Where to say what Redis refuses.
    """

    def __init__(
        self,
        server: Server,
        receive: Callable[[bytes, bytes], None],
        *,
        serve: "Callable[[Link], Awaitable[None]]",
        lost: Callable[[], None],
        timeout: float,
        max_retry_delay: float,
        queue_limit: int,
        complaints: Complaints,
    ) -> None:
        self.state: State = "connecting"
        self.number = 0  # of connections that there have been
        self._server = server
        self._serve = serve
        self._lost = lost
        self._timeout = timeout
        self._max_retry_delay = max_retry_delay
        self._down_since = 0.0
        self._subscriber = Subscriber(receive, complaints)
        self._commands = Commands(queue_limit)
        self.listen = self._subscriber.listen
        self.unlisten = self._subscriber.unlisten
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Wait for what is queued to be answered, if Redis does, and end."""
        if self.state == "connected":
            with contextlib.suppress(BrokerUnavailable, asyncio.TimeoutError):
                async with async_timeout.timeout(self._timeout):
                    await self._commands.call(("PING",))
        self.state = "stopped"
        self._task.cancel()
        await asyncio.wait([self._task])
        self._give_up("the broker was stopped")

    async def confirmed(self, name: bytes) -> None:
        """Wait until Redis has confirmed that it is listened to `name`, unless it cannot."""
        if self.state != "reconnecting":
            await self._subscriber.confirmed(name)

    async def call(self, *commands: Command) -> Any:
        """Run `commands`, one behind the other and behind those before; return the last answer.

        Raises:
            BrokerUnavailable: If the link is down or gets lost, or Redis refuses.
        """
        if self.state == "reconnecting":
            raise BrokerUnavailable(f"Redis at {self._server} cannot be reached")
        return await self._commands.call(*commands)

    def cast(self, *commands: Command) -> bool:
        """Run `commands` without waiting; return whether there was room for them."""
        return self.state == "reconnecting" or self._commands.cast(*commands)

    async def _run(self) -> None:
        attempts = 0
        while True:
            self.number += 1
            begun = _now()
            try:
                await self._keep()
            except FAILURES as error:
                why = f"Redis at {self._server}: {reason(error)}"
            except Exception:
                logger.exception("the link to Redis at %s failed", self._server)
                why = f"Redis at {self._server}: the link failed"
            if self.state != "reconnecting":
                self.state = "reconnecting"
                self._down_since = _now()
                self._lost()
                logger.warning("%s; messages of other processes are missed from now on", why)
            self._give_up(why)
            if _now() - begun > self._max_retry_delay:
                attempts = 0  # it was a connection
            delay = min(FIRST_DELAY * 2 ** min(attempts, 20), self._max_retry_delay)
            attempts += 1
            await asyncio.sleep(delay * random.uniform(0.5, 1))

    async def _keep(self) -> None:
        """Connect, and stay so; raises when a connection is lost."""
        connections: list[AbstractConnection] = []
        try:
            for _ in range(2):
                connections.append(await self._server.connection())
            listening, asking = connections
            await _all(
                self._subscriber.read(listening),
                self._subscriber.write(listening),
                self._commands.run(asking),
                self._watch(),
                self._serve_when_settled(),
            )
        finally:
            for connection in connections:
                await connection.disconnect(nowait=True)

    async def _serve_when_settled(self) -> None:
        await self._subscriber.is_settled.wait()
        if self.state == "reconnecting":
            seconds = _now() - self._down_since
            logger.warning(
                "channels: Redis at %s: connected again after %.1f s", self._server, seconds
            )
        self.state = "connected"
        await self._serve(self)

    async def _watch(self) -> None:
        """Raise `TimeoutError` when nothing has come for `timeout` seconds; ask at half time."""
        halves = {half: (half.heard, 0) for half in (self._subscriber, self._commands)}
        while True:
            await asyncio.sleep(self._timeout / LOOKS)
            for half, (heard, quiet) in halves.items():
                quiet = quiet + 1 if half.heard == heard else 0
                halves[half] = half.heard, quiet
                if quiet == LOOKS // 2:
                    half.ping()
                elif quiet == LOOKS:
                    raise asyncio.TimeoutError

    def _give_up(self, why: str) -> None:
        self._subscriber.lose()
        self._commands.lose(why)


async def _all(*work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until something of it fails, and raise that."""
    tasks = [asyncio.ensure_future(x) for x in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def checked_url(url: str) -> str:
    """Return the URL of a Redis server, which redis-py takes for another one if a slash is missing.

    Raises:
        ValueError: If there is something like that.
    """
    if "://" not in url:
        raise ValueError("the URL has to be like redis://host:6379")
    return url


def address(pool: ConnectionPool) -> str:
    """Tell where the server is, without its password."""
    options = pool.connection_kwargs
    host, port = options.get("host", "localhost"), options.get("port", 6379)
    return str(options.get("path") or f"{host}:{port}")


def reason(error: BaseException) -> str:
    """Say in a few words what has gone wrong."""
    if isinstance(error, (asyncio.TimeoutError, RedisTimeoutError)):
        return "no answer in time"
    return str(error) or type(error).__name__


def _now() -> float:
    return asyncio.get_running_loop().time()
