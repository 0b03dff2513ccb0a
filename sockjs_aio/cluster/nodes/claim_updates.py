"""Tells Redis about this node's claims, and obeys if another node has one of them by now."""

import asyncio
import contextlib
import math
from collections.abc import Iterator

from sockjs_aio.cluster.nodes.claims import Claim, Claims
from sockjs_aio.cluster.nodes.directory import Directory
from sockjs_aio.protocol.ends import INTERRUPTED


class ClaimUpdates:
    """Refreshes and removes claims in Redis.

    Args:
        directory: This node's view of Redis.
        claims: The claims of this node.
    """

    def __init__(self, directory: Directory, claims: Claims) -> None:
        self._directory = directory
        self._claims = claims

    async def refresh(self, keys: list[str], later_than: float = -math.inf) -> None:
        """Refresh claims; drop those that other nodes have, and end their sessions.

        Args:
            keys: The keys of the claims.
            later_than: They count as refreshed after this time, by the loop's clock.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        # what Redis has lost meanwhile is refreshed again; uvloop's clock may still show the same
        asked = max(asyncio.get_running_loop().time(), math.nextafter(later_than, math.inf))
        foreign = await self._directory.refresh(keys)
        self._claims.refreshed(keys, asked)
        for key in foreign:
            claim = self._claims.drop(key)
            if claim is not None:
                _give_away(claim)

    async def remove(self, keys: list[str]) -> None:
        """Remove claims that are not needed, and refresh those that are needed again by then.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        with self._doubting(keys):
            await self._directory.remove(keys)
            if again := self._claims.given_up(keys):
                await self.refresh(again)

    async def remove_after(self, key: str, claim: Claim) -> None:
        """Remove the claim of a request that has opened no session, unless others need it.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        claim.is_held, claim.is_foreign = False, True
        with self._doubting([key]):
            await self._directory.give_back(key)
            # another request may have claimed it meanwhile, just before it was removed
            if claim.users > 1 or claim.has_session:
                await self.refresh([key])

    @contextlib.contextmanager
    def _doubting(self, keys: list[str]) -> Iterator[None]:
        """Doubt claims if we do not learn whether, and when, Redis has removed them."""
        try:
            yield
        except BaseException:  # also if the client of the request that was refused leaves
            self._claims.doubt(keys)
            raise


def _give_away(claim: Claim) -> None:
    """End a session that another node has taken over.

    That node considered this one dead, and now gets the session's requests.
    """
    session = claim.registry.get(claim.session_id)
    if session is not None:
        session.close(*INTERRUPTED, "network")
        claim.registry.retire(session)
