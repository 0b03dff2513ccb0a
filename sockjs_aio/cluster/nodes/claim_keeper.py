"""One task per node, which reports to Redis that the node lives, and refreshes its claims."""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable

import async_timeout

from sockjs_aio.cluster.nodes.directory import Directory
from sockjs_aio.cluster.nodes.locator import NodeLocator
from sockjs_aio.cluster.nodes.owners import Node
from sockjs_aio.cluster.nodes.redis_access import DirectoryUnavailableError
from sockjs_aio.turns import Turn

logger: logging.Logger = logging.getLogger("sockjs_aio.nodes")

BATCH = 200
"""Sessions that one command refreshes or removes; more could block Redis or the loop."""


class ClaimKeeper:
    """Keeps the claims of this node and the other nodes that it knows in step with Redis.

    Args:
        directory: This node's view of Redis.
        locator: Has the claims, and knows the other nodes.
        cut: Called with a node that has ended, to stop requests to it.
        interval: Seconds between two reports to Redis.
        expiry: Seconds after which other nodes consider this one dead if it does not report.
        refresh_after: Seconds after which a claim is refreshed.
    """

    def __init__(
        self,
        directory: Directory,
        locator: NodeLocator,
        cut: Callable[[Node], None],
        *,
        interval: float,
        expiry: float,
        refresh_after: float,
    ) -> None:
        self._directory = directory
        self._locator = locator
        self._cut = cut
        self._claims = locator.claims
        self._updates = locator.updates
        self._interval = interval
        self._expiry = expiry
        self._refresh_after = refresh_after
        self._looking = asyncio.Lock()
        self._reported = -math.inf  # start of the last report that Redis answered
        self._made_good = math.nan  # the last loss of data after which all claims were refreshed
        self._sure_until = -math.inf  # until then no node can consider this one dead

    @property
    def is_sure(self) -> bool:
        """Whether this node certainly still owns its sessions.

        If the process was paused for longer than `expiry`, other nodes may have opened its
        sessions.  While Redis is down, no node can do that.
        """
        return _now() < self._sure_until or self._directory.is_down

    async def assure(self) -> None:
        """Ask Redis which sessions this node still owns, before it answers a request for one."""
        async with self._looking:
            if not self.is_sure:  # otherwise another request has just asked
                with contextlib.suppress(DirectoryUnavailableError):
                    await self._renew()

    async def run(self) -> None:
        """Call `look` once per interval, for ever."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.look()
            except DirectoryUnavailableError:
                pass  # the directory has logged it
            except Exception:
                logger.exception("could not report this node's sessions to Redis")

    async def look(self) -> None:
        """Report to Redis, check the known nodes, and refresh or remove claims that are due.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        async with self._looking:
            await self._renew()
        await self._remove_given_up()  # no request need wait for it

    async def _renew(self) -> None:
        await self._report()
        self._made_good = await self._refresh_due()
        self._be_sure()

    async def _report(self) -> None:
        start = _now()
        entries = await self._directory.register(self._locator.nodes.names)
        self._reported = start
        self._be_sure()
        for name, record in entries.items():
            if (node := self._locator.check(name, record, start)) is not None:
                self._cut(node)

    def _be_sure(self) -> None:
        """Note until when this node is sure, unless it must first refresh its claims."""
        if self._made_good == self._directory.lost_at:
            self._sure_until = self._reported + self._expiry

    async def _refresh_due(self) -> float:
        """Refresh claims; return the time of the last loss of data that this has made good."""
        refresh_before = self._reported - self._refresh_after
        turn = Turn()
        while True:
            lost_at = self._directory.lost_at
            before = max(refresh_before, lost_at)
            claims = self._claims.due(before, _now(), BATCH)
            if claims is None:
                return lost_at
            if claims:
                await self._updates.refresh(claims, later_than=before)
            await self._go_on(turn)

    async def _remove_given_up(self) -> None:
        # only those that there are now: refused requests could add more as fast as we remove them
        left = self._claims.given_up_count
        turn = Turn()
        while left > 0 and (claims := self._claims.to_remove(min(left, BATCH))) is not None:
            left -= BATCH
            if claims:
                await self._updates.remove(claims)
            await self._go_on(turn)

    async def _go_on(self, turn: Turn) -> None:
        """Let other tasks run, and report again, so that long work does not look like death."""
        if turn.is_over:
            await turn.next()
        if _now() >= self._reported + self._interval:
            await self._report()

    async def leave(self) -> None:
        """Remove the node, and its claims of ids that had no session, from Redis, if it answers.

        If Redis is so slow that this takes too long, some claims are left to their lease.
        """
        claims = self._claims.take_all()
        with contextlib.suppress(DirectoryUnavailableError):
            with contextlib.suppress(asyncio.TimeoutError):
                async with async_timeout.timeout(self._expiry):
                    for first in range(0, len(claims), BATCH):
                        await self._updates.remove(claims[first : first + BATCH])
            await self._directory.leave()


def _now() -> float:
    return asyncio.get_running_loop().time()
