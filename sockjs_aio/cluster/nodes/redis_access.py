"""Redis as a node sees it: whether it answers, and whether it is still the same server."""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from redis.asyncio import Redis

from sockjs_aio.brokers.redis.connection import named_primary
from sockjs_aio.brokers.redis.rate_limited_log import Reasons
from sockjs_aio.brokers.redis.replies import FAILURES, ends_connection, reason
from sockjs_aio.brokers.redis.sentinel import Place
from sockjs_aio.brokers.redis.url import address
from sockjs_aio.cluster.nodes.redis_pool import (
    MAX_CONNECTIONS,
    ServerReplacedError,
    in_time,
    make_node_pool,
)
from sockjs_aio.cluster.nodes.settling import Settling

logger: logging.Logger = logging.getLogger("sockjs_aio.nodes")

T = TypeVar("T")

_LOST_AT: ContextVar[float] = ContextVar("_LOST_AT")
"""`Settling.lost_at` as it was when the command of this task was made."""


class DirectoryUnavailableError(Exception):
    """Redis does not answer, or may lack sessions that nodes have not reported again yet."""


class RedisAccess:
    """Sends commands to Redis, and fails at once while it does not answer.

    Args:
        url: The URL of Redis, as redis-py takes it.
        settling: It is told when another server has taken the place of the last one.
        timeout: Seconds within which Redis must answer.
        patience: Seconds within which the Sentinels, if there are any, must answer.

    Raises:
        ValueError: If `url` is not valid.
    """

    def __init__(self, url: str, settling: Settling, *, timeout: float, patience: float) -> None:
        self._settling = settling
        self._limit = 2 * timeout  # a connection may have to be made first
        # the next report must reach Redis before the last one has expired
        self._report_limit = min(self._limit, settling.expiry / 2)
        self._patience = patience
        self._pool = make_node_pool(url, timeout, self._note_server, self._is_outdated)
        self.client: Redis = Redis(connection_pool=self._pool)
        self._run_id: bytes | None = None
        self._has_warned = False  # that servers do not tell it
        self._replaced_at = -math.inf  # when a connection last led to another server
        self._has_old_connections = False  # which may lead to the server before
        self._primary: Place | None = None  # as the Sentinels said last
        self._attempts: set[asyncio.Task[Any]] = set()
        self._why_down: str | None = None
        self._down_since = 0.0
        self._reasons = Reasons()

    def __str__(self) -> str:
        return address(self._pool)

    @property
    def is_down(self) -> bool:
        """Whether Redis failed to answer, and has not been reached since."""
        return self._why_down is not None

    @property
    def server(self) -> str:
        """The server's run id, which changes when it restarts; empty if it is not known."""
        return (self._run_id or b"").decode()

    def note_up(self) -> None:
        """Redis has answered the probe."""
        if self._why_down is not None:
            seconds = _now() - self._down_since
            logger.warning("nodes: Redis at %s: connected again after %.1f s", self, seconds)
            self._why_down = None

    async def follow_primary(self) -> None:
        """Drop connections to a server that the Sentinels do not name any more."""
        place = await named_primary(self._pool, self._patience)
        if place is not None and self._primary not in (None, place):
            await self._pool.replace()
            self._settling.lose(_now())  # the new one may lack the latest claims
        self._primary = place or self._primary

    async def run(
        self,
        ask: Callable[[], Awaitable[T]],
        *,
        is_probe: bool = False,
        delays_reports: bool = False,
    ) -> T:
        """Send a command.  Fail at once while Redis is down, unless this is the probe.

        The command goes on if its caller, such as the request of a client that leaves, is
        cancelled.  redis-py could lose one of its few connections.

        Args:
            ask: Makes the command from what is known at that moment; may be called again.
            is_probe: Whether it is a report, which finds out if Redis answers again.
            delays_reports: Whether the next report waits for it.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        if self._why_down is not None and not is_probe:
            raise DirectoryUnavailableError(self._why_down)
        limit = self._report_limit if is_probe or delays_reports else self._limit
        attempt = asyncio.get_running_loop().create_task(self._attempt(ask, limit))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._note_end)
        return await asyncio.shield(attempt)

    def _note_end(self, attempt: "asyncio.Task[Any]") -> None:
        self._attempts.discard(attempt)
        if not attempt.cancelled():
            attempt.exception()  # if its caller was cancelled, nobody else asks for it

    async def _attempt(self, ask: Callable[[], Awaitable[T]], limit: float) -> T:
        try:
            return await self._ask(ask, limit)
        except FAILURES as error:
            if ends_connection(error):
                await self._pool.replace()  # a new connection may reach another server
            why = f"Redis at {self}: {reason(error)}"
            self._note_down(why)
            raise DirectoryUnavailableError(why) from error

    async def _ask(self, ask: Callable[[], Awaitable[T]], limit: float) -> T:
        def make() -> Awaitable[T]:
            _LOST_AT.set(self._settling.lost_at)
            return ask()

        for _ in range(2 * MAX_CONNECTIONS + 1):
            try:
                answer = await in_time(make, limit)
                if not self._is_outdated():
                    return answer
            except ServerReplacedError:
                if self._has_old_connections:  # they may still lead to the old server
                    self._has_old_connections = False
                    await self._pool.replace()
        raise ServerReplacedError("another server takes its place again and again")

    def _is_outdated(self) -> bool:
        """Tell whether Redis was found to lack claims since this task's command was made.

        Then its answer may come from a server that another one has replaced.
        """
        return _LOST_AT.get() != self._settling.lost_at

    def _note_down(self, why: str) -> None:
        if self._why_down is None:
            self._down_since = _now()
            self._reasons.clear()
            text = (
                "%s; until it answers, this node finds only the sessions of other nodes that "
                "it remembers, and only WebSockets can open sessions"
            )
        else:
            text = "%s; it is still not available"
        if self._reasons.is_new(why):
            logger.warning(text, why)
        self._why_down = why

    async def close(self) -> None:
        """Close the connections."""
        for attempt in self._attempts:
            attempt.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)
        with contextlib.suppress(*FAILURES):  # over TLS, this may wait for a host that is down
            await self._pool.disconnect()

    def _note_server(self, run_id: bytes | None) -> None:
        """Note which server a new connection leads to, if it tells.

        Raises:
            ServerReplacedError: If it is not the last one: the command may have to be made again.
        """
        if run_id is None and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "nodes: Redis at %s does not tell its run_id, so this node does not notice when "
                "another server takes its place, and then two nodes may open the same session. "
                "If Redis has users (ACL), give the nodes' user +info.",
                self,
            )
        if run_id is None or run_id == self._run_id:
            return
        if self._run_id is not None:
            now = _now()
            self._settling.lose(now)  # it may lack the latest claims
            # behind some proxies each connection tells another one: dropping them would never end
            if now >= self._replaced_at + self._settling.expiry:
                self._has_old_connections = True
            self._replaced_at = now
        self._run_id = run_id
        raise ServerReplacedError("it is another server now")


def _now() -> float:
    return asyncio.get_running_loop().time()
