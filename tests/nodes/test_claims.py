"""Which claims are refreshed when, and which are given up."""

import contextlib
from typing import Any

from sockjs_aio.cluster.nodes.claims import Claims


class Registry:
    """As much of a registry as claims look at."""

    def __init__(self) -> None:
        self.sessions: set[str] = set()
        self.has_ended: set[str] = set()
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def get(self, session_id: str) -> Any:
        return session_id if session_id in self.sessions else None

    def ended(self, session_id: str) -> Any:
        return session_id if session_id in self.has_ended else None


def claimed(registry: Any, *names: str) -> Claims:
    claims = Claims()
    for name in names:
        add(claims, registry, name)
    return claims


def add(claims: Claims, registry: Any, name: str) -> None:
    with claims.use(name, registry, name) as claim:
        claim.is_held = True
        registry.sessions.add(name)


def test_claims_are_refreshed_in_turn_and_in_batches() -> None:
    registry = Registry()
    claims = claimed(registry, "a", "b", "c")
    registry.time = 5
    add(claims, registry, "d")
    assert claims.due(before=-1, now=6, limit=2) is None
    assert claims.due(before=0, now=6, limit=2) == ["a", "b"]
    claims.refreshed(["a", "b"], 6)
    assert claims.due(before=0, now=6, limit=2) == ["c"]
    claims.refreshed(["c"], 6)
    assert claims.due(before=0, now=6, limit=2) is None
    assert claims.due(before=5, now=11, limit=9) == ["d"]


def test_claims_of_sessions_that_have_ended_are_given_up() -> None:
    registry = Registry()
    claims = claimed(registry, "a", "b", "c")
    registry.sessions -= {"a", "c"}
    assert claims.unneeded(9) is None  # nobody has looked so far
    assert claims.due(before=0, now=6, limit=1) == []
    assert claims.due(before=0, now=6, limit=1) == ["b"]
    claims.refreshed(["b"], 6)
    assert claims.due(before=0, now=6, limit=1) == []
    assert claims.due(before=0, now=6, limit=1) is None
    taken = [*(claims.unneeded(1) or ()), *(claims.unneeded(9) or ())]
    assert sorted(taken) == ["a", "c"]
    assert claims.unneeded(9) is None
    assert claims.given_up(taken) == []
    assert len(claims) == 1


def test_looking_at_claims_ends_although_the_clock_stands_still() -> None:
    """As uvloop's does, just after Redis was found to have lost its data."""
    registry = Registry()
    claims = claimed(registry, "a")
    registry.sessions.clear()
    assert claims.due(before=6, now=6, limit=9) == []
    assert claims.due(before=6, now=6, limit=9) is None


def test_claims_of_sessions_that_are_remembered_are_left_to_their_lease() -> None:
    registry = Registry()
    claims = claimed(registry, "a", "b")
    registry.sessions.clear()
    registry.has_ended.add("a")
    assert claims.due(before=0, now=6, limit=9) == []
    assert claims.unneeded(9) == ["b"]
    assert claims.given_up(["b"]) == []
    assert len(claims) == 0


def test_a_claim_without_a_session_is_given_up_when_its_request_ends() -> None:
    registry = Registry()
    claims = Claims()
    with claims.use("a", registry, "a") as claim:  # type: ignore[arg-type]
        claim.is_held = True
        with claims.use("a", registry, "a") as same:  # type: ignore[arg-type]
            assert same is claim
        assert claims.unneeded(9) is None
    assert claims.holds("a")
    assert claims.unneeded(9) == ["a"]
    assert not claims.holds("a")  # from here on whoever needs it asks again


def test_a_claim_that_is_not_refreshed_is_held_no_longer() -> None:
    """Redis may have lost it, and a request may come before it is given up."""
    registry = Registry()
    claims = claimed(registry, "a", "b")
    registry.sessions.remove("a")
    assert claims.due(before=0, now=6, limit=9) == ["b"]
    assert not claims.holds("a")
    assert claims.holds("b")


def test_a_claim_that_is_needed_while_it_is_given_up_is_claimed_again() -> None:
    registry = Registry()
    claims = claimed(registry, "a")
    registry.sessions.clear()
    claims.due(before=0, now=6, limit=9)
    taken = claims.unneeded(9)
    assert taken == ["a"]
    add(claims, registry, "a")
    assert claims.given_up(taken) == ["a"]
    assert claims.holds("a")


def test_what_belongs_to_another_node_is_forgotten_with_its_last_request() -> None:
    claims = Claims()
    with claims.use("a", Registry(), "a") as claim:  # type: ignore[arg-type]
        claim.is_foreign = True
    assert len(claims) == 0
    assert claims.unneeded(9) is None


def test_a_claim_that_was_dropped_leaves_a_later_one_of_the_same_id_alone() -> None:
    """Another node had the id for a moment, while a request here was refused."""
    registry: Any = Registry()
    claims = Claims()
    with contextlib.ExitStack() as earlier:
        earlier.enter_context(claims.use("a", registry, "a")).is_foreign = True
        claims.drop("a")
        with claims.use("a", registry, "a") as claim:
            claims.held("a", claim, 0)
            earlier.close()
            registry.sessions.add("a")
    assert claims.holds("a")


def test_an_id_that_a_dropped_claim_gets_is_held_by_the_later_one() -> None:
    registry: Any = Registry()
    claims = Claims()
    with claims.use("a", registry, "a") as earlier:
        claims.drop("a")
        with claims.use("a", registry, "a") as later:
            claims.held("a", earlier, 0)
            assert later.is_held
            assert claims.holds("a")
