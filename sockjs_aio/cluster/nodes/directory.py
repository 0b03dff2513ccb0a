"""What the nodes share in Redis: which nodes there are, and which of them owns which session.

The key ``NAMESPACEnode:INCARNATION`` has the record of a node, and expires unless refreshed.
``NAMESPACEsession:PREFIX:ID`` has the name of the node that owns a session.

``NAMESPACEmark:INCARNATION`` has a random text that is not changed while it is there.  Each report
of a node brings another one, so if Redis has lost its data, the node finds a text that it does not
know, even if the answer to the first report after the loss was lost too.
"""

import asyncio
import contextlib
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from redis.asyncio import Redis

from sockjs_aio.brokers.base import State
from sockjs_aio.brokers.redis.connection import named_primary
from sockjs_aio.brokers.redis.rate_limited_log import Reasons
from sockjs_aio.brokers.redis.replies import FAILURES, ends_connection, reason
from sockjs_aio.brokers.redis.sentinel import Place
from sockjs_aio.brokers.redis.url import address
from sockjs_aio.cluster.nodes.batched_lookup import Answer, BatchedLookup, Question
from sockjs_aio.cluster.nodes.redis_pool import in_time, make_node_pool
from sockjs_aio.cluster.nodes.scripts import CONSULT, GET, REFRESH, REMOVE, REPORT

logger: logging.Logger = logging.getLogger("sockjs_aio.nodes")

T = TypeVar("T")


UNCERTAIN: Answer = ["", None, None]
"""What is not known of an owner or a record, because not all nodes have reported again yet."""


class DirectoryUnavailableError(Exception):
    """Redis does not answer, or has lost its data and has not got it back yet."""


@dataclass(frozen=True)
class Owner:
    """The node that owns a session."""

    name: str
    record: str | None
    """The record that it has written; None if it has ended."""


class Directory:
    """This node's view of Redis.

    Args:
        url: The URL of Redis, as redis-py takes it.
        own: The name of this node.
        record: Makes this node's record, with the present time.
        namespace: The prefix of all keys.
        lease: Seconds after which Redis forgets a session that is not refreshed.
        expiry: Seconds after which Redis forgets a node that does not report.
        timeout: Seconds within which Redis must answer.

    Raises:
        ValueError: If `url` is not valid.
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
        self.lost_at: float = -math.inf
        """When Redis was last found to have forgotten this node, or was replaced (loop's clock).

        Claims that were refreshed before that may have been lost to other nodes.
        """
        self._record = record
        self._nodes = f"{namespace}node:"
        self._mark_key = f"{namespace}mark:{own}"
        self._mark = ""  # what Redis had there when it last answered a report
        self._sessions = f"{namespace}session:"
        self._lease = round(lease * 1000)
        self._expiry = expiry
        self._expiry_ms = round(expiry * 1000)
        self._timeout = timeout
        self._run_id: bytes | None = None
        self._pool = make_node_pool(url, timeout, self._note_server)
        self._primary: Place | None = None  # as the Sentinels said last
        self._redis = Redis(connection_pool=self._pool)
        self._report = self._redis.register_script(REPORT)
        self._ask = self._redis.register_script(CONSULT)
        self._get = self._redis.register_script(GET)
        self._refresh = self._redis.register_script(REFRESH)
        self._remove = self._redis.register_script(REMOVE)
        self._questions = BatchedLookup(self._consult)
        self._records = BatchedLookup(self._read_records)
        self._returns = BatchedLookup(self._remove_returned)
        self._reporting = asyncio.Lock()
        self._attempts: set[asyncio.Task[Any]] = set()
        # the state of Redis
        self._why_down: str | None = None
        self._down_since = 0.0
        self._reasons = Reasons()
        self._registered: float | None = None
        self._settled = -math.inf

    def __str__(self) -> str:
        return address(self._pool)

    @property
    def state(self) -> State:
        """The state of the link to Redis.  Lookups are certain only while ``"connected"``."""
        if self._registered is None:
            return "connecting"
        return "connected" if self.is_settled else "reconnecting"

    @property
    def is_down(self) -> bool:
        """Whether Redis failed to answer, and has not been reached since."""
        return self._why_down is not None

    @property
    def is_settled(self) -> bool:
        """Whether a session that Redis does not know does not exist.

        After Redis has lost its data, the nodes need a moment to report their sessions again.
        """
        return self._why_down is None and _now() >= self._settled

    def session_key(self, prefix: str, session_id: str) -> str:
        """Return the key of a session."""
        return f"{self._sessions}{prefix}:{session_id}"

    async def register(self, others: Collection[str]) -> dict[str, str | None]:
        """Report to Redis that this node lives; return the records of the nodes `others`.

        A node that has ended has None.  While that is uncertain, the result is empty.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        async with self._reporting:
            await self._follow_primary()
            was_settled = self.is_settled
            mark, *entries = await self._run(lambda: self._report_with(others), is_probe=True)
            self._note_report(mark)
        is_certain = was_settled and self.is_settled
        return dict(zip(others, entries, strict=True)) if is_certain else {}

    def _report_with(self, others: Collection[str]) -> Awaitable[list[Any]]:
        keys = [self._nodes + self.own, self._mark_key, *(self._nodes + name for name in others)]
        arguments: list[str | int] = [self._record(), secrets.token_hex(8), self._expiry_ms]
        return cast("Awaitable[list[Any]]", self._report(keys, arguments))

    def _note_report(self, mark: str) -> None:
        """Redis has answered a report."""
        now = _now()
        is_known, self._mark = mark == self._mark, mark
        if not is_known:
            self.lost_at = now
        if not is_known and self._has_lost(now):
            self._settled = now + self._expiry
            logger.warning(
                "nodes: Redis at %s %s lost its data. For %g s, HTTP requests for unknown "
                "sessions get 503; WebSockets are not affected.",
                self,
                "may have" if self._is_record_old(now) else "has",
                self._expiry,
            )
        if self._why_down is not None:
            seconds = now - self._down_since
            logger.warning("nodes: Redis at %s: connected again after %.1f s", self, seconds)
            self._why_down = None
        self._registered = now

    async def _follow_primary(self) -> None:
        """Drop connections to a server that the Sentinels do not name any more."""
        # if the Sentinels are silent, the report must not be late
        place = await named_primary(self._pool, min(self._timeout, self._expiry / 5))
        if place is not None and self._primary not in (None, place):
            await self._disconnect()
            self.lost_at = _now()  # the last claims may not have come to the new one
        self._primary = place or self._primary

    async def find(self, key: str, *, claim: bool = False) -> Owner | None:
        """Return the owner of a session; with `claim`, this node becomes it if there is none.

        Raises:
            DirectoryUnavailableError: If the owner cannot be found out.
        """
        found = await self._questions.put((key, "+" if claim else ""))
        if found == UNCERTAIN:
            raise DirectoryUnavailableError("Redis has just lost its data")
        return Owner(str(found[0]), found[1]) if found else None

    async def _consult(self, questions: Sequence[Question]) -> list[Answer]:
        keys = [self._mark_key, *(key for key, _ in questions)]
        for _ in range(2):
            # claim nothing that another node may have claimed before Redis lost its data
            is_certain = self.is_settled
            wishes = [wish if is_certain else "" for _, wish in questions]
            arguments: list[str | int] = [self.own, self._lease, self._nodes, self._mark, *wishes]
            found = await self._run(lambda: self._ask(keys, arguments))  # noqa: B023
            if found != [None]:
                answers = cast("list[Answer]", found)
                return [x if is_certain or (x and x[1]) else UNCERTAIN for x in answers]
            await self.register(())
        raise self._forgetful()

    async def record_of(self, name: str) -> str | None:
        """Return the record of a node; None if it has ended.

        Raises:
            DirectoryUnavailableError: If that cannot be found out.
        """
        found = await self._records.put((name, ""))
        if found == UNCERTAIN:
            raise DirectoryUnavailableError("Redis has just lost its data")
        return found[0]

    async def _read_records(self, questions: Sequence[Question]) -> list[Answer]:
        keys = [self._mark_key, *(self._nodes + name for name, _ in questions)]
        for _ in range(2):
            is_certain, known = self.is_settled, self._mark
            mark, *found = await self._run(lambda: self._all_of(keys))
            if mark == known:  # as in `CONSULT`
                return [[x] if x or is_certain else UNCERTAIN for x in found]
            await self.register(())
        raise self._forgetful()

    def _all_of(self, keys: list[str]) -> Awaitable[list[str | None]]:
        return cast("Awaitable[list[str | None]]", self._get(keys))

    def _forgetful(self) -> DirectoryUnavailableError:
        return DirectoryUnavailableError(f"Redis at {self} does not keep its data")

    async def refresh(self, keys: list[str]) -> list[str]:
        """Refresh claims; return the keys of those that other nodes own by now.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        arguments: list[str | int] = [self.own, self._lease]
        foreign = await self._run(lambda: self._refresh(keys, arguments))
        return [keys[number] for number in foreign]

    async def remove(self, keys: list[str]) -> None:
        """Remove claims, except those of other nodes.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        await self._run(lambda: self._remove(keys, [self.own]))

    async def give_back(self, key: str) -> None:
        """Remove a claim like `remove`, together with those of other requests.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        await self._returns.put((key, ""))

    async def _remove_returned(self, questions: Sequence[Question]) -> list[Answer]:
        await self.remove([key for key, _ in questions])
        return [[] for _ in questions]

    async def leave(self) -> None:
        """Remove this node from Redis.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        await self._run(lambda: self._redis.delete(self._nodes + self.own, self._mark_key))

    async def close(self) -> None:
        """Close the connections to Redis."""
        for batched in (self._questions, self._records, self._returns):
            await batched.close()
        for attempt in self._attempts:
            attempt.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)
        await self._disconnect()

    async def _run(self, ask: Callable[[], Awaitable[T]], *, is_probe: bool = False) -> T:
        """Send a command.  Fail at once while Redis is down, unless this is the probe.

        The command goes on if its caller, such as the request of a client that leaves, is
        cancelled.  redis-py could lose one of its few connections.
        """
        if self._why_down is not None and not is_probe:
            raise DirectoryUnavailableError(self._why_down)
        attempt = asyncio.get_running_loop().create_task(self._attempt(ask))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)
        return await asyncio.shield(attempt)

    async def _attempt(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            return await in_time(ask, self._timeout)
        except FAILURES as error:
            if ends_connection(error):
                await self._disconnect()  # a new connection may reach another server
            why = f"Redis at {self}: {reason(error)}"
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
            raise DirectoryUnavailableError(why) from error

    async def _disconnect(self) -> None:
        with contextlib.suppress(*FAILURES):  # over TLS, a host that is down may be waited for
            await self._pool.disconnect()

    def _note_server(self, run_id: bytes) -> None:
        """A connection leads to this server."""
        if self._run_id not in (None, run_id):
            self.lost_at = _now()  # the last claims may not have come to it
        self._run_id = run_id

    def _has_lost(self, now: float) -> bool:
        """Tell whether Redis, which does not know this node, has lost its data."""
        # if Redis was not away, the record has expired because this process was blocked
        return self._why_down is not None or not self._is_record_old(now)

    def _is_record_old(self, now: float) -> bool:
        """Tell whether what this node has reported must have expired by now, if it ever has."""
        return self._registered is None or now > self._registered + self._expiry


def _now() -> float:
    return asyncio.get_running_loop().time()
