"""Claims: the session ids that this node has recorded as its own in Redis, or is about to."""

import contextlib
import itertools
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from sockjs_aio.core.registry import SessionRegistry


class Claim:
    """One session id of one service, claimed for requests that may open a session.

    Args:
        key: The key of the id in Redis.
        token: Tells this claim from an earlier or later one of the same id.
        registry: The registry that has or will have the session.
        session_id: The session's id.
    """

    __slots__ = (
        "key",
        "token",
        "registry",
        "session_id",
        "users",
        "refreshed",
        "is_held",
        "is_foreign",
    )

    def __init__(self, key: str, token: str, registry: SessionRegistry, session_id: str) -> None:
        self.key: str = key
        self.token: str = token
        self.registry: SessionRegistry = registry
        self.session_id: str = session_id
        self.users: int = 0  # requests being answered
        self.refreshed: float = registry.now()
        self.is_held: bool = False  # Redis has confirmed it
        self.is_foreign: bool = False  # it is not ours: drop it once its requests are answered

    @property
    def is_needed(self) -> bool:
        """Whether there is a session, or a request may be about to open one."""
        return self.users > 0 or self.has_session

    @property
    def is_unused(self) -> bool:
        """Whether it is not needed, and late requests need not find this node either."""
        return not (self.is_needed or self.has_ended)

    @property
    def has_ended(self) -> bool:
        """Whether there was a session, so that late requests must still find this node."""
        return self.registry.ended(self.session_id) is not None

    @property
    def has_session(self) -> bool:
        """Whether there is a session."""
        return self.registry.get(self.session_id) is not None


class Claims:
    """All claims of this node, the least recently refreshed first.

    A claim that is given up is not taken up again: the next request for its id makes another one.
    So it does not matter whether Redis first removes the one, or records the other.
    """

    def __init__(self) -> None:
        self._claims: OrderedDict[str, Claim] = OrderedDict()
        self._given_up: dict[Claim, None] = {}  # the oldest first
        self._tokens = itertools.count(1)

    def __len__(self) -> int:
        return len(self._claims)

    @property
    def given_up_count(self) -> int:
        """How many claims have been given up, and may have to be removed from Redis."""
        return len(self._given_up)

    def holds(self, key: str) -> bool:
        """Tell whether this node owns the session of `key`."""
        claim = self._claims.get(key)
        return claim is not None and claim.is_held

    @contextlib.contextmanager
    def use(self, key: str, registry: SessionRegistry, session_id: str) -> Iterator[Claim]:
        """Keep a claim while a request is answered, and longer if that leaves a session."""
        claim = self._claims.get(key)
        if claim is None:
            token = f"{next(self._tokens)}"
            claim = self._claims[key] = Claim(key, token, registry, session_id)
        claim.users += 1
        try:
            yield claim
        finally:
            claim.users -= 1
            if claim.is_foreign and not claim.users:
                self.drop(claim)
            elif claim.is_unused:
                self.give_up([claim])

    def drop(self, claim: Claim) -> None:
        """Forget a claim."""
        if self._claims.get(claim.key) is claim:
            del self._claims[claim.key]

    def due(self, before: float, now: float, limit: int) -> list[Claim] | None:
        """Look at `limit` claims that were last refreshed before a time; return the needed ones.

        Call this until it returns None, and `refreshed` each time.  Ids that a request only asks
        for are left out: another node may have them.
        """
        old = list(itertools.islice(self._claims.values(), limit))
        old = [claim for claim in old if claim.refreshed <= before]
        if not old:
            return None
        needed: list[Claim] = []
        for claim in old:
            if not claim.is_needed:
                self.give_up([claim])
            elif claim.is_held:
                needed.append(claim)
            else:
                # move it behind the others; uvloop's clock may still show `before`
                self._move(claim, max(now, math.nextafter(before, math.inf)))
        return needed

    def give_up(self, claims: Iterable[Claim]) -> None:
        """Forget claims, and have them removed from Redis later."""
        for claim in claims:
            self.drop(claim)
            self._given_up[claim] = None

    def to_remove(self, limit: int) -> list[Claim] | None:
        """Take `limit` claims that were given up; return those to remove from Redis.

        Call this until it returns None.

        Those of ended sessions stay in Redis until their lease runs out.  So late requests come
        here and are refused, and do not open a session on another node.
        """
        if not self._given_up:
            return None
        taken = list(itertools.islice(self._given_up, limit))
        for claim in taken:
            del self._given_up[claim]
        return [claim for claim in taken if claim.is_unused]

    def take(self, claim: Claim) -> None:
        """Take one claim that was given up, to remove it at once."""
        self._given_up.pop(claim, None)

    def refreshed(self, claims: Iterable[Claim], now: float) -> None:
        """Note that Redis has been told of them at the time `now`."""
        for claim in claims:
            self._move(claim, now)

    def _move(self, claim: Claim, now: float) -> None:
        if self._claims.get(claim.key) is claim:  # it may have been given up meanwhile
            claim.refreshed = now
            self._claims.move_to_end(claim.key)

    def held(self, claim: Claim, asked: float) -> None:
        """Note that this node has an id, as Redis says, which was asked at the time `asked`."""
        claim.is_held, claim.is_foreign = True, False
        self._move(claim, asked)

    def missed(self, claim: Claim) -> None:
        """Note that a request has learned that another node has its id."""
        if not claim.is_held:
            claim.is_foreign = True
        elif self._claims.get(claim.key) is claim:
            # another request has learned that this node has it: see at the next look
            claim.refreshed = -math.inf
            self._claims.move_to_end(claim.key, last=False)

    def lost(self, claim: Claim) -> bool:
        """Note that another node has a claim that was refreshed; tell if it was not given up."""
        if self._claims.get(claim.key) is not claim:
            return False
        claim.is_held, claim.is_foreign = False, True
        if not claim.users:
            self.drop(claim)
        return True

    def take_all(self) -> list[Claim]:
        """Forget all claims; return those that need not stay until their lease ends.

        Those of sessions stay, so that late requests are told of the end by other nodes.
        """
        claims = [*self._claims.values(), *self._given_up]
        self._claims.clear()
        self._given_up.clear()
        return [claim for claim in claims if not (claim.has_session or claim.has_ended)]
