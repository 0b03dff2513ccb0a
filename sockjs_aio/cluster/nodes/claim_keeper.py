"""One task for each node: keeps Redis told that the node is there, and which sessions it has."""

import asyncio
import contextlib
import logging
import math

from sockjs_aio.cluster.nodes.claims import Claim
from sockjs_aio.cluster.nodes.directory import Directory, DirectoryUnavailableError
from sockjs_aio.cluster.nodes.gateway import Gateway
from sockjs_aio.protocol.ends import INTERRUPTED

logger = logging.getLogger("sockjs_aio")

BATCH = 200
"""Sessions that one command refreshes or removes: neither Redis nor the loop is held up by that."""


class ClaimKeeper:
    """Looks after the claims of a gateway, and the nodes that it knows.

    Args:
        directory: Where to tell.
        gateway: What has the claims.
        interval: Seconds between two looks.
        expiry: Seconds after which others take this node for dead, unless it says that it is there.
        refresh_after: Seconds after which a claim is refreshed.
    """

    def __init__(
        self,
        directory: Directory,
        gateway: Gateway,
        *,
        interval: float,
        expiry: float,
        refresh_after: float,
    ) -> None:
        self._directory = directory
        self._gateway = gateway
        self._claims = gateway.claims
        self._interval = interval
        self._expiry = expiry
        self._refresh_after = refresh_after
        self._looking = asyncio.Lock()
        self._sure_until = -math.inf  # nobody takes this node for dead before that

    @property
    def is_sure(self) -> bool:
        """Whether the sessions of this node are still its own, as far as it can find out.

        A process that was stopped for too long was taken for dead, and others may have opened its
        sessions.  While Redis is away nobody can open any.
        """
        return _now() < self._sure_until or self._directory.is_down

    async def assure(self) -> None:
        """Ask Redis which sessions are still this node's, before it answers for one of them."""
        async with self._looking:
            if not self.is_sure:  # otherwise somebody else has just asked
                with contextlib.suppress(DirectoryUnavailableError):
                    await self._look()

    async def run(self) -> None:
        """Look, again and again."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.look()
            except DirectoryUnavailableError:
                pass  # which it has said
            except Exception:
                logger.exception("the sessions of this node could not be told to Redis")

    async def look(self) -> None:
        """Tell what has to be told now.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        start = _now()
        entries = await self._directory.register(self._gateway.nodes.names)
        for name, record in entries.items():
            self._gateway.check(name, record)
        now = _now()
        before = max(now - self._refresh_after, self._directory.lost_at)
        while keys := self._claims.due(before, now, BATCH):
            await self._refresh(keys)
        while keys := self._claims.unneeded(BATCH):
            await self._directory.remove(keys)
            if again := self._claims.given_up(keys):
                await self._refresh(again)
        self._sure_until = start + self._expiry

    async def leave(self) -> None:
        """Tell Redis that the node ends, unless it does not answer."""
        keys = self._claims.take_all()
        with contextlib.suppress(DirectoryUnavailableError):
            for first in range(0, len(keys), BATCH):
                await self._directory.remove(keys[first : first + BATCH])
            await self._directory.leave()

    async def _refresh(self, keys: list[str]) -> None:
        foreign = await self._directory.refresh(keys)
        self._claims.refreshed(keys, _now())
        for key in foreign:
            claim = self._claims.drop(key)
            if claim is not None:
                _give_away(claim)


def _give_away(claim: Claim) -> None:
    """End a session that another node has now, where requests for it go; this one was taken for
    dead.
    """
    session = claim.registry.get(claim.session_id)
    if session is not None:
        session.close(*INTERRUPTED, "network")
        claim.registry.retire(session)


def _now() -> float:
    return asyncio.get_running_loop().time()
