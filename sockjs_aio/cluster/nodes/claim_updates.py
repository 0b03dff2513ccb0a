"""Tells Redis about this node's claims, and obeys if another node has one of them by now."""

import asyncio
import contextlib
import math
from collections.abc import Iterator

from sockjs_aio.cancellations import end
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
        self._tasks: set[asyncio.Task[None]] = set()  # which give claims back

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

    async def give_back(self, key: str, claim: Claim, use: contextlib.ExitStack) -> None:
        """Remove the claim of a request that has opened no session, unless others need it.

        This goes on if the request is cancelled because its client leaves: others that need the
        claim by then must have it refreshed after it was removed.

        Args:
            key: The claim's key.
            claim: The claim.
            use: Keeps the claim, see `Claims.use`; it is closed at the end.
        """
        claim.is_held = False
        task = asyncio.get_running_loop().create_task(self._give_back(key, claim, use))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def _give_back(self, key: str, claim: Claim, use: contextlib.ExitStack) -> None:
        with use, contextlib.suppress(DirectoryUnavailableError), self._doubting([key]):
            await self._directory.give_back(key)
            # another request may have claimed it meanwhile, just before it was removed
            if claim.users > 1 or claim.is_known:
                await self.refresh([key])
            else:  # that one may have been refused too; then the id is removed once more, later
                claim.is_held, claim.is_foreign = False, not claim.is_held

    async def close(self) -> None:
        """Stop giving claims back."""
        await end(*self._tasks)

    @contextlib.contextmanager
    def _doubting(self, keys: list[str]) -> Iterator[None]:
        """Doubt claims if we do not learn whether, and when, Redis has removed them."""
        try:
            yield
        except BaseException:
            self._claims.doubt(keys)
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
