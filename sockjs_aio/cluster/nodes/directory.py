"""What Redis knows: which nodes there are, and which sessions each of them has.

Keys: ``NAMESPACEnode:INCARNATION`` is where a node is; it expires soon unless refreshed.
``NAMESPACEsession:PREFIX:ID`` is the name of the node that has a session.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import async_timeout
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sockjs_aio.brokers.base import State
from sockjs_aio.brokers.redis.rate_limited_log import Reasons
from sockjs_aio.brokers.redis.replies import FAILURES, ends_connection, reason
from sockjs_aio.brokers.redis.url import address, make_pool
from sockjs_aio.cluster.nodes.batched_lookup import Answer, BatchedLookup, Question

logger = logging.getLogger("sockjs_aio")

T = TypeVar("T")

MAX_CONNECTIONS = 4
"""Connections to Redis; what needs another one waits."""

CONSULT = """
if redis.call('EXISTS', ARGV[3] .. ARGV[1]) == 0 then return {false} end
local answers = {}
for number, key in ipairs(KEYS) do
  local owner, wish = redis.call('GET', key), ARGV[3 + number]
  if wish == '+' and not owner then
    redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
    owner = ARGV[1]
  end
  answers[number] = owner and {owner, redis.call('GET', ARGV[3] .. owner)} or {}
end
return answers
"""
"""Who has which session, and where are those nodes?  Each may be wished to be claimed (``+``) if
nobody has it.  All that counts only if Redis knows the node that asks: otherwise it has lost what
it knew."""

REFRESH = """
local foreign = {}
for number, key in ipairs(KEYS) do
  local owner = redis.call('GET', key)
  if not owner then redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
  elseif owner == ARGV[1] then redis.call('PEXPIRE', key, ARGV[2])
  else foreign[#foreign + 1] = number - 1 end
end
return foreign
"""
"""Keeps sessions; tells which of them are somebody else's."""

REMOVE = """
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
"""


class DirectoryUnavailableError(Exception):
    """Redis does not answer, or does not know enough as yet."""


@dataclass(frozen=True)
class Owner:
    """Who has a session."""

    name: str
    record: str | None
    """What it has said of itself; None if it has ended."""


class Directory:
    """This node's view of Redis.

    Args:
        url: As redis-py takes it.
        own: The name of this node.
        record: Makes what is told to others of it, at the time when it is told.
        namespace: What all keys begin with.
        lease: Seconds after which a session that is not refreshed is nobody's.
        expiry: Seconds after which a node that is not refreshed has ended.
        timeout: Seconds within which Redis has to answer.

    Raises:
        ValueError: If `url` cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        own: str,
        record: Callable[[], str],
        namespace: str,
        lease: float,
        expiry: float,
        timeout: float,
    ) -> None:
        self.own = own
        self.lost_at = -math.inf
        """When Redis was last found not to know this node any more, on the loop's clock.

        Others may have taken its sessions over since then.
        """
        self._record = record
        self._nodes = f"{namespace}node:"
        self._sessions = f"{namespace}session:"
        self._lease = round(lease * 1000)
        self._expiry = expiry
        self._timeout = timeout
        self._pool = make_pool(
            BlockingConnectionPool,
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            health_check_interval=0,
            decode_responses=True,
            encoding_errors="surrogateescape",
        )
        self._redis = Redis(connection_pool=self._pool)
        self._ask = self._redis.register_script(CONSULT)
        self._refresh = self._redis.register_script(REFRESH)
        self._remove = self._redis.register_script(REMOVE)
        self._questions = BatchedLookup(self._consult)
        # a question whose answer comes before this node hears that Redis has lost what it knew, but
        # that Redis has read after this node was told to it anew, would find nothing, and claim it
        self._turn = asyncio.Lock()
        # how it is
        self._why_down: str | None = None
        self._down_since = 0.0
        self._reasons = Reasons()
        self._registered: float | None = None
        self._settled = -math.inf

    def __str__(self) -> str:
        return address(self._pool)

    @property
    def state(self) -> State:
        """Whether all questions are answered: only while ``"connected"``."""
        if self._registered is None:
            return "connecting"
        return "connected" if self.is_settled else "reconnecting"

    @property
    def is_down(self) -> bool:
        """Whether Redis did not answer a moment ago."""
        return self._why_down is not None

    @property
    def is_settled(self) -> bool:
        """Whether what Redis does not know is not there.

        After it has lost what it knew, nodes need a moment to tell it anew.
        """
        return self._why_down is None and _now() >= self._settled

    def session_key(self, prefix: str, session_id: str) -> str:
        """Name the key of a session."""
        return f"{self._sessions}{prefix}:{session_id}"

    async def register(self, others: Collection[str]) -> dict[str, str | None]:
        """Tell Redis that this node is there; return what some others have said of themselves.

        Those that have ended have None there; there is nothing while nobody can tell.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """

        async def ask() -> list[Any]:
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.exists(self._nodes + self.own)
            pipeline.set(self._nodes + self.own, self._record(), px=round(self._expiry * 1000))
            for other in others:
                pipeline.get(self._nodes + other)
            return await pipeline.execute()

        async with self._turn:
            was_there, _, *entries = await self._run(ask, is_probe=True)
        now = _now()
        if not was_there:
            self.lost_at = now
        if not was_there and self._has_lost(now):
            self._settled = now + self._expiry
            logger.warning(
                "nodes: Redis at %s does not know what it knew: for %g s requests for sessions "
                "that it does not know are answered 503, so all that open one but WebSockets",
                self,
                self._expiry,
            )
        if self._why_down is not None:
            seconds = now - self._down_since
            logger.warning("nodes: Redis at %s: connected again after %.1f s", self, seconds)
            self._why_down = None
        self._registered = now
        if not self.is_settled:
            return {}
        return dict(zip(others, entries, strict=True))

    async def find(self, key: str, *, claim: bool = False) -> Owner | None:
        """Tell who has a session; claim it first, if asked to, unless somebody has it.

        Raises:
            DirectoryUnavailableError: If that cannot be found out.
        """
        found = await self._questions.put((key, "+" if claim else ""))
        owner = Owner(str(found[0]), found[1]) if found else None
        if (owner is None or owner.record is None) and not self.is_settled:
            raise DirectoryUnavailableError("Redis has lost what it knew a moment ago")
        return owner

    async def _consult(self, questions: Sequence[Question]) -> list[Answer]:
        keys = [key for key, _ in questions]
        for _ in range(2):
            if self._why_down is not None:  # at once: a probe may have the turn
                raise DirectoryUnavailableError(self._why_down)
            async with self._turn:
                # what somebody may have told Redis before it has lost that is not to be claimed
                wishes = [wish if wish != "+" or self.is_settled else "" for _, wish in questions]
                arguments: list[str | int] = [self.own, self._lease, self._nodes, *wishes]
                found = await self._run(lambda: self._ask(keys, arguments))  # noqa: B023
            if found != [None]:
                return cast("list[Answer]", found)
            await self.register(())
        raise DirectoryUnavailableError(f"Redis at {self} does not keep what it is told")

    async def record_of(self, name: str) -> str | None:
        """Return what a node has said of itself; None if it has ended.

        Raises:
            DirectoryUnavailableError: If that cannot be found out.
        """
        record = await self._run(lambda: self._redis.get(self._nodes + name))
        if record is None and not self.is_settled:
            raise DirectoryUnavailableError("Redis has lost what it knew a moment ago")
        return cast("str | None", record)

    async def refresh(self, keys: list[str]) -> list[str]:
        """Keep sessions; return which of them have become somebody else's.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        arguments: list[str | int] = [self.own, self._lease]
        foreign = await self._run(lambda: self._refresh(keys, arguments))
        return [keys[number] for number in foreign]

    async def remove(self, keys: list[str]) -> None:
        """Remove sessions, those of them that are this node's.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        await self._run(lambda: self._remove(keys, [self.own]))

    async def leave(self) -> None:
        """Tell Redis that this node ends.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        await self._run(lambda: self._redis.delete(self._nodes + self.own))

    async def close(self) -> None:
        """End the connections."""
        await self._questions.close()
        await self._pool.disconnect()

    async def _run(self, ask: Callable[[], Awaitable[T]], *, is_probe: bool = False) -> T:
        """Ask Redis; at once it is unavailable if it was a moment ago."""
        if self._why_down is not None and not is_probe:
            raise DirectoryUnavailableError(self._why_down)
        try:
            return await self._in_time(ask)
        except FAILURES as error:
            if ends_connection(error):
                with contextlib.suppress(*FAILURES):  # new ones may lead to another server
                    await self._pool.disconnect()
            why = f"Redis at {self}: {reason(error)}"
            if self._why_down is None:
                self._down_since = _now()
                self._reasons.clear()
                text = (
                    "%s; until it answers, sessions of other nodes are found only as far as they "
                    "are known, and none are opened but by WebSocket"
                )
            else:
                text = "%s; sessions of other nodes are still not found"
            if self._reasons.is_new(why):
                logger.warning(text, why)
            self._why_down = why
            raise DirectoryUnavailableError(why) from error

    async def _in_time(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask, and once more if it was this process that was held up, and not Redis."""
        start = _now()
        try:
            async with async_timeout.timeout(2 * self._timeout):
                return await ask()
        except FAILURES:
            if _now() < start + 3 * self._timeout:
                raise
        async with async_timeout.timeout(2 * self._timeout):
            return await ask()

    def _has_lost(self, now: float) -> bool:
        """Tell whether Redis has lost what it knew, as it does not know this node."""
        if self._why_down is not None:
            return True
        if self._registered is None:
            return False  # it could not know it
        # otherwise this process was held up for so long that its record has expired
        return now <= self._registered + self._expiry


def _now() -> float:
    return asyncio.get_running_loop().time()
