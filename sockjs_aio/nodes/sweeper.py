"""One task for each node: keeps Redis told that the node is there, and which sessions it has."""

import asyncio
import contextlib
import logging

from sockjs_aio.nodes.claims import Claim
from sockjs_aio.nodes.directory import Directory, DirectoryUnavailable
from sockjs_aio.nodes.gateway import Gateway
from sockjs_aio.protocol.frames import INTERRUPTED

logger = logging.getLogger("sockjs_aio")

BATCH = 200
"""Sessions that one command refreshes or removes: neither Redis nor the loop is held up by that."""


class Sweeper:
    """Looks after the claims of a gateway, and the nodes that it knows.

    Args:
        directory: Where to tell.
        gateway: What has the claims.
        interval: Seconds between two looks.
        refresh_after: Seconds after which a claim is refreshed.
    """

    def __init__(
        self, directory: Directory, gateway: Gateway, *, interval: float, refresh_after: float
    ) -> None:
        self._directory = directory
        self._gateway = gateway
        self._claims = gateway.claims
        self._interval = interval
        self._refresh_after = refresh_after

    async def run(self) -> None:
        """Look, again and again."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.look()
            except DirectoryUnavailable:
                pass  # which it has said
            except Exception:
                logger.exception("the sessions of this node could not be told to Redis")

    async def look(self) -> None:
        """Tell what has to be told now.

        Raises:
            DirectoryUnavailable: If Redis does not answer.
        """
        for name in await self._directory.register(list(self._gateway.nodes)):
            self._gateway.lose(name)
        start = _now()
        before = max(start - self._refresh_after, self._directory.lost_at)
        while keys := self._claims.due(before, start, BATCH):
            await self._refresh(keys)
        while keys := self._claims.unneeded(BATCH):
            await self._directory.remove(keys)
            if again := self._claims.given_up(keys):
                await self._refresh(again)

    async def leave(self) -> None:
        """Tell Redis that the node ends, unless it does not answer."""
        keys = self._claims.take_all()
        with contextlib.suppress(DirectoryUnavailable):
            for first in range(0, len(keys), BATCH):
                await self._directory.remove(keys[first : first + BATCH])
            await self._directory.leave()

    async def _refresh(self, keys: list[str]) -> None:
        foreign = await self._directory.refresh(keys)
        self._claims.refreshed(keys, _now())
        for key in foreign:
            claim = self._claims.drop(key)
            if claim is not None:
                _close(claim)


def _close(claim: Claim) -> None:
    """End a session that another node has now; this one was taken for dead."""
    session = claim.registry.get(claim.session_id)
    if session is not None:
        session.close(*INTERRUPTED, "network")


def _now() -> float:
    return asyncio.get_running_loop().time()
