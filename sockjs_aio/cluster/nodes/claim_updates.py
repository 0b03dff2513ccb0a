"""Tells Redis about this node's claims, and obeys if another node has one of them by now."""

import asyncio
import contextlib
import math
from collections.abc import Iterator, Sequence

from sockjs_aio.cluster.nodes.claims import Claim, Claims
from sockjs_aio.cluster.nodes.directory import Directory
from sockjs_aio.cluster.nodes.redis_access import DirectoryUnavailableError
from sockjs_aio.core.registry import EXPIRED_FRAME
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

    async def refresh(self, claims: Sequence[Claim], later_than: float = -math.inf) -> None:
        """Refresh claims; drop those that other nodes have, and end their sessions.

        Args:
            claims: What to refresh.
            later_than: They count as refreshed after this time, by the loop's clock.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        # what Redis has lost meanwhile is refreshed again; uvloop's clock may still show the same
        asked = max(asyncio.get_running_loop().time(), math.nextafter(later_than, math.inf))
        foreign = await self._directory.refresh([(each.key, each.token) for each in claims])
        self._claims.refreshed(claims, asked)
        for number in foreign:
            if self._claims.lost(claims[number]):
                _give_away(claims[number])

    async def remove(self, claims: Sequence[Claim]) -> None:
        """Remove claims that were given up.

        Raises:
            DirectoryUnavailableError: If Redis does not answer.
        """
        with self._or_later(claims):
            await self._directory.remove([(each.key, each.token) for each in claims])

    async def give_back(self, claim: Claim) -> None:
        """Remove a claim that was given up at once; if Redis does not answer, later."""
        self._claims.take(claim)
        with contextlib.suppress(DirectoryUnavailableError), self._or_later([claim]):
            await self._directory.give_back(claim.key, claim.token)

    @contextlib.contextmanager
    def _or_later(self, claims: Sequence[Claim]) -> Iterator[None]:
        try:
            yield
        except BaseException:  # also the cancellation of a request whose client leaves
            self._claims.give_up(claims)
            raise


def _give_away(claim: Claim) -> None:
    """End a session that another node has taken over, and let no request open it here.

    That node considered this one dead, and now gets the session's requests.
    """
    registry = claim.registry
    session = registry.get(claim.session_id)
    if session is not None:
        session.close(*INTERRUPTED, "network")
        registry.retire(session)
    elif claim.users:  # such as one that waits for `authorize`
        registry.ended_sessions.add(claim.session_id, EXPIRED_FRAME, registry.now())
