"""Claims: the session ids that this node has recorded as its own in Redis, or is about to."""

import contextlib
import itertools
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from sockjs_aio.core.registry import SessionRegistry


class Claim:
    """One session id of one service, claimed for a request that may open a session.

    Args:
        registry: The registry that has or will have the session.
        session_id: The session's id.
        now: The time by the loop's clock.
    """

    __slots__ = (
        "registry",
        "session_id",
        "users",
        "refreshed",
        "is_held",
        "is_foreign",
        "is_doubtful",
    )

    def __init__(self, registry: SessionRegistry, session_id: str, now: float) -> None:
        self.registry: SessionRegistry = registry
        self.session_id: str = session_id
        self.users: int = 0  # requests being answered
        self.refreshed: float = now
        self.is_held: bool = False  # Redis has confirmed it
        self.is_foreign: bool = False  # it is not ours: drop it once its requests are answered
        self.is_doubtful: bool = False  # Redis may have removed it, or may do so yet

    @property
    def is_needed(self) -> bool:
        """Whether there is a session, or a request may be about to open one."""
        return self.users > 0 or self.has_session

    @property
    def is_known(self) -> bool:
        """Whether there is or was a session."""
        return self.has_session or self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether there was a session, so that late requests must still find this node."""
        return self.registry.ended(self.session_id) is not None

    @property
    def has_session(self) -> bool:
        """Whether there is a session."""
        return self.registry.get(self.session_id) is not None


class Claims:
    """All claims of this node, by their keys, the least recently refreshed first."""

    def __init__(self) -> None:
        self._claims: OrderedDict[str, Claim] = OrderedDict()
        self._unneeded: dict[str, None] = {}  # keys that may be unneeded, the oldest first

    def __len__(self) -> int:
        return len(self._claims)

    @property
    def unneeded_count(self) -> int:
        """How many claims may not be needed."""
        return len(self._unneeded)

    def holds(self, key: str) -> bool:
        """Tell whether this node owns the session of `key`."""
        claim = self._claims.get(key)
        return claim is not None and claim.is_held

    @contextlib.contextmanager
    def use(self, key: str, registry: SessionRegistry, session_id: str) -> Iterator[Claim]:
        """Keep a claim while a request is answered, and longer if that leaves a session."""
        claim = self._claims.get(key)
        if claim is None:
            claim = self._claims[key] = Claim(registry, session_id, registry.now())
        claim.users += 1
        try:
            yield claim
        finally:
            claim.users -= 1
            if claim.is_foreign and not claim.users:
                if self._claims.get(key) is claim:  # it may have been dropped, and claimed again
                    self.drop(key)
            elif not claim.is_needed:
                self._unneeded[key] = None

    def drop(self, key: str) -> Claim | None:
        """Forget a claim, and return it."""
        self._unneeded.pop(key, None)
        return self._claims.pop(key, None)

    def due(self, before: float, now: float, limit: int) -> list[str] | None:
        """Look at `limit` claims that were last refreshed before a time; return the needed ones.

        Call this until it returns None, and `refreshed` each time.  Ids that a request only asks
        for are left out: another node may have them.
        """
        old = list(itertools.islice(self._claims.items(), limit))
        old = [(key, claim) for key, claim in old if claim.refreshed <= before]
        if not old:
            return None
        keys: list[str] = []
        for key, claim in old:
            if claim.is_held and claim.is_needed:
                keys.append(key)
            else:
                if not claim.is_needed:
                    self._unneeded[key] = None
                    claim.is_held = False  # Redis may have lost it: the next request asks
                # move it behind the others; uvloop's clock may still show `before`
                self._move(key, claim, max(now, math.nextafter(before, math.inf)))
        return keys

    def unneeded(self, limit: int) -> list[str] | None:
        """Look at `limit` claims that may not be needed; return those to remove from Redis.

        They are no longer held.  Call this until it returns None.

        Claims of ended sessions are dropped here, but stay in Redis until their lease runs out.
        So late requests come here and are refused, and do not open a session on another node.
        """
        if not self._unneeded:
            return None
        keys: list[str] = []
        for _ in range(min(limit, len(self._unneeded))):
            key = next(iter(self._unneeded))
            del self._unneeded[key]
            claim = self._claims.get(key)
            if claim is None or claim.is_needed:
                continue
            if claim.has_ended:
                self.drop(key)
            else:
                claim.is_held = False
                keys.append(key)
        return keys

    def refreshed(self, keys: Iterable[str], now: float) -> None:
        """Note that Redis has been told of them at the time `now`."""
        for key in keys:
            claim = self._claims.get(key)
            if claim is not None:
                claim.is_doubtful = False
                self._move(key, claim, now)

    def _move(self, key: str, claim: Claim, now: float) -> None:
        claim.refreshed = now
        self._claims.move_to_end(key)

    def held(self, key: str, claim: Claim, asked: float) -> None:
        """Note that this node has an id, as Redis says, which was asked at the time `asked`."""
        claim = self._claims.setdefault(key, claim)  # it may have been dropped meanwhile
        claim.is_held, claim.is_foreign = True, False
        if claim.is_doubtful:
            self.doubt([key])
        else:
            self._move(key, claim, asked)

    def missed(self, key: str, claim: Claim) -> None:
        """Note that another node has an id, as Redis says."""
        if claim.is_held and (claim.users > 1 or claim.has_session):
            self.doubt([key])  # Redis told another request that we have it: ask once more
        else:
            claim.is_held, claim.is_foreign = False, True

    def doubt(self, keys: Iterable[str]) -> None:
        """Note that Redis may not have them, so that those still needed are refreshed at once."""
        for key in keys:
            claim = self._claims.get(key)
            if claim is not None:
                claim.is_doubtful = True
                claim.refreshed = -math.inf
                self._claims.move_to_end(key, last=False)

    def given_up(self, keys: list[str]) -> list[str]:
        """Note that Redis has removed them; return those that are needed again by now."""
        again = [key for key in keys if key in self._claims and self._claims[key].is_needed]
        for key in set(keys).difference(again):
            self.drop(key)
        return again

    def take_all(self) -> list[str]:
        """Forget all claims; return the keys of those that need not stay until their lease ends.

        Those of sessions stay, so that late requests are told of the end by other nodes.
        """
        keys = [key for key, claim in self._claims.items() if not claim.is_known]
        self._claims.clear()
        self._unneeded.clear()
        return keys
