"""What the nodes share in Redis: which nodes there are, and which of them owns which session.

The key ``NAMESPACEnode:INCARNATION`` has the record of a node, and expires unless refreshed.
``NAMESPACEsession:PREFIX/ID`` has ``NODE/TOKEN``: the name of the node that owns a session, and the
token of its claim.  Only a claim with that token is removed, so a late removal spares a newer one.

``NAMESPACEmark:INCARNATION`` has a random text that is not changed while it is there.  Each report
of a node brings another one, so if Redis has lost its data, the node finds a text that it does not
know, even if the answer to the first report after the loss was lost too.

``NAMESPACEserver`` names the Redis server to which nodes have reported; it stays when they end.
If it is missing or names another server, Redis may lack claims of nodes that have not reported to
it yet.  The first node that notices sets ``NAMESPACEunsettled``, which expires once all nodes must
have reported.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sockjs_aio.brokers.base import State
from sockjs_aio.cluster.nodes.batched_lookup import Answer, BatchedLookup, Question
from sockjs_aio.cluster.nodes.redis_access import DirectoryUnavailableError, RedisAccess
from sockjs_aio.cluster.nodes.scripts import CONSULT, GET, REFRESH, REMOVE, REPORT
from sockjs_aio.cluster.nodes.settling import Settling

logger: logging.Logger = logging.getLogger("sockjs_aio.nodes")

LACKING = "Redis may lack sessions until all nodes have reported to it"

UNCERTAIN: Answer = ["", None, None]
"""What is not known of an owner or a record, because not all nodes have reported again yet."""


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
        self.settling: Settling = Settling(expiry)
        self._record = record
        self._nodes = f"{namespace}node:"
        self._mark_key = f"{namespace}mark:{own}"
        self._mark = ""  # what Redis had there when it last answered a report
        self._server_keys = f"{namespace}server", f"{namespace}unsettled"
        self._sessions = f"{namespace}session:"
        self._lease = round(lease * 1000)
        self._expiry = expiry
        self._expiry_ms = round(expiry * 1000)
        # reports must be in time even if the Sentinels are silent
        patience = min(timeout, expiry / 5)
        self._redis = RedisAccess(url, self.settling, timeout=timeout, patience=patience)
        self._report = self._redis.client.register_script(REPORT)
        self._ask = self._redis.client.register_script(CONSULT)
        self._get = self._redis.client.register_script(GET)
        self._refresh = self._redis.client.register_script(REFRESH)
        self._remove = self._redis.client.register_script(REMOVE)
        self._questions = BatchedLookup(self._consult)
        self._records = BatchedLookup(self._read_records)
        self._returns = BatchedLookup(self._remove_returned)
        self._reporting = asyncio.Lock()
        self._registered: float | None = None
        self._has_settled = False

    def __str__(self) -> str:
        return str(self._redis)

    @property
    def state(self) -> State:
        """The state of the link to Redis.  Lookups are certain only while ``"connected"``."""
        if self._registered is not None and self.is_settled:
            return "connected"
        return "reconnecting" if self._has_settled else "connecting"

    @property
    def is_down(self) -> bool:
        """Whether Redis failed to answer, and has not been reached since."""
        return self._redis.is_down

    @property
    def is_settled(self) -> bool:
        """Whether a session that Redis does not know does not exist.

        After Redis has lost its data, the nodes need a moment to report their sessions again.
        """
        return not self._redis.is_down and self.settling.is_over(_now())

    @property
    def lost_at(self) -> float:
        """See `Settling`."""
        return self.settling.lost_at

    def session_key(self, prefix: str, session_id: str) -> str:
        """Return the key of a session."""
        return f"{self._sessions}{prefix}/{session_id}"  # no session id has a slash

    async def register(self, others: Collection[str]) -> dict[str, str | None]:
        """Report to Redis that this node lives; return the records of the nodes `others`.

        A node that has ended has None.  While that is uncertain, the result is empty.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        async with self._reporting:
            await self._redis.follow_primary()
            was_settled = self.is_settled
            answers = await self._redis.run(lambda: self._report_with(others), is_probe=True)
            mark, unsettled, *entries = answers
            self._note_report(mark, unsettled is not None)
        is_certain = was_settled and self.is_settled
        return dict(zip(others, entries, strict=True)) if is_certain else {}

    def _report_with(self, others: Collection[str]) -> Awaitable[list[Any]]:
        keys = [self._nodes + self.own, self._mark_key, *self._server_keys]
        keys += [self._nodes + name for name in others]
        arguments: list[str | int] = [self._record(), secrets.token_hex(8), self._expiry_ms]
        arguments.append(self._redis.server)
        return cast("Awaitable[list[Any]]", self._report(keys, arguments))

    def _note_report(self, mark: str, is_unsettled: bool) -> None:
        """Redis has answered a report."""
        now = _now()
        is_known, self._mark = mark == self._mark, mark
        is_news = self.settling.heed(is_unsettled, now)
        if not is_known:
            self.settling.lost_at = now
        what = "is new, or was restarted, replaced or emptied" if is_news else None
        # for a node that starts, it usually is new; the first refused request logs a warning
        level = logging.INFO if self._registered is None else logging.WARNING
        if not is_known and self._has_lost(now):
            self.settling.lose(now)
            if self._registered is not None or not is_news:
                what = f"{'may have' if self._is_record_old(now) else 'has'} lost its data"
        if what is not None:
            logger.log(
                level,
                "nodes: Redis at %s %s. For %g s, HTTP requests for unknown sessions get 503; "
                "WebSockets are not affected.",
                self,
                what,
                self._expiry,
            )
        self._redis.note_up()
        self._registered = now
        self._has_settled = self._has_settled or self.is_settled

    async def find(self, key: str, token: str = "") -> Owner | None:
        """Return the owner of a session.

        Args:
            key: The session's key.
            token: If given, this node claims the session with it if there is no other owner.

        Raises:
            DirectoryUnavailableError: If the owner cannot be found out.
        """
        found = await self._questions.put((key, token))
        if found == UNCERTAIN:
            raise DirectoryUnavailableError(LACKING)
        return Owner(str(found[0]), found[1]) if found else None

    async def _consult(self, questions: Sequence[Question]) -> list[Answer]:
        keys, tokens = _apart(questions)
        keys = [self._mark_key, *keys]
        is_certain = False

        def ask() -> Awaitable[list[Any]]:
            # claim nothing that another node may have claimed before Redis lost its data
            nonlocal is_certain
            is_certain = self.is_settled
            arguments: list[str | int] = [self.own, self._lease, self._nodes, self._mark]
            arguments += [int(is_certain), *tokens]
            return cast("Awaitable[list[Any]]", self._ask(keys, arguments))

        for _ in range(2):
            found = await self._redis.run(ask)
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
            raise DirectoryUnavailableError(LACKING)
        return found[0]

    async def _read_records(self, questions: Sequence[Question]) -> list[Answer]:
        keys = [self._mark_key, *(self._nodes + name for name, _ in questions)]
        is_certain, known = False, ""

        def ask() -> Awaitable[list[str | None]]:
            nonlocal is_certain, known
            is_certain, known = self.is_settled, self._mark
            return cast("Awaitable[list[str | None]]", self._get(keys))

        for _ in range(2):
            mark, *found = await self._redis.run(ask)
            if mark == known:  # as in `CONSULT`
                return [[x] if x or is_certain else UNCERTAIN for x in found]
            await self.register(())
        raise self._forgetful()

    def _forgetful(self) -> DirectoryUnavailableError:
        return DirectoryUnavailableError(f"Redis at {self} does not keep its data")

    async def refresh(self, claims: Sequence[tuple[str, str]]) -> list[int]:
        """Refresh claims, given with their tokens.

        Returns:
            The positions of those that other nodes own by now.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        keys, tokens = _apart(claims)
        arguments: list[str | int] = [self.own, self._lease, *tokens]
        return cast(
            "list[int]",
            await self._redis.run(lambda: self._refresh(keys, arguments), delays_reports=True),
        )

    async def remove(self, claims: Sequence[tuple[str, str]]) -> None:
        """Remove claims, given with their tokens, unless they have been replaced.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        keys, tokens = _apart(claims)
        await self._redis.run(lambda: self._remove(keys, [self.own, *tokens]), delays_reports=True)

    async def give_back(self, key: str, token: str) -> None:
        """Remove a claim like `remove`, together with those of other requests.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        await self._returns.put((key, token))

    async def _remove_returned(self, questions: Sequence[Question]) -> list[Answer]:
        await self.remove(questions)
        return [[] for _ in questions]

    async def leave(self) -> None:
        """Remove this node from Redis.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        await self._redis.run(
            lambda: self._redis.client.delete(self._nodes + self.own, self._mark_key)
        )

    async def close(self) -> None:
        """Close the connections to Redis."""
        for batched in (self._questions, self._records, self._returns):
            await batched.close()
        await self._redis.close()

    def _has_lost(self, now: float) -> bool:
        """Tell whether Redis, which does not know this node, has lost its data."""
        # if Redis was not away, the record has expired because this process was blocked
        return self._redis.is_down or not self._is_record_old(now)

    def _is_record_old(self, now: float) -> bool:
        """Tell whether what this node has reported must have expired by now, if it ever has."""
        return self._registered is None or now > self._registered + self._expiry


def _apart(claims: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [key for key, _ in claims], [token for _, token in claims]


def _now() -> float:
    return asyncio.get_running_loop().time()
