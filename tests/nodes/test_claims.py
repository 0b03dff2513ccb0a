"""Which claims are refreshed when, and which are given up."""

from typing import Any

from sockjs_aio.cluster.nodes.claims import Claim, Claims


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


def add(claims: Claims, registry: Any, name: str) -> Claim:
    with claims.use(name, registry, name) as claim:
        claims.held(claim, registry.now())
        registry.sessions.add(name)
    return claim


def due(claims: Claims, **arguments: Any) -> list[str] | None:
    needed = claims.due(**arguments)
    return None if needed is None else [claim.key for claim in needed]


def to_remove(claims: Claims, limit: int = 9) -> list[str] | None:
    taken = claims.to_remove(limit)
    return None if taken is None else [claim.key for claim in taken]


def test_claims_are_refreshed_in_turn_and_in_batches() -> None:
    registry, claims = Registry(), Claims()
    a, b, c = (add(claims, registry, name) for name in "abc")
    registry.time = 5
    add(claims, registry, "d")
    assert claims.due(before=-1, now=6, limit=2) is None
    assert claims.due(before=0, now=6, limit=2) == [a, b]
    claims.refreshed([a, b], 6)
    assert claims.due(before=0, now=6, limit=2) == [c]
    claims.refreshed([c], 6)
    assert claims.due(before=0, now=6, limit=2) is None
    assert due(claims, before=5, now=11, limit=9) == ["d"]


def test_claims_of_sessions_that_have_ended_are_given_up() -> None:
    registry, claims = Registry(), Claims()
    a, b, c = (add(claims, registry, name) for name in "abc")
    registry.sessions -= {"a", "c"}
    assert claims.to_remove(9) is None  # nobody has looked so far
    assert claims.due(before=0, now=6, limit=1) == []
    assert claims.due(before=0, now=6, limit=1) == [b]
    claims.refreshed([b], 6)
    assert claims.due(before=0, now=6, limit=1) == []
    assert claims.due(before=0, now=6, limit=1) is None
    assert claims.given_up_count == 2
    assert [claims.to_remove(1), claims.to_remove(9)] == [[a], [c]]
    assert claims.to_remove(9) is None
    assert len(claims) == 1


def test_looking_at_claims_ends_although_the_clock_stands_still() -> None:
    """As uvloop's does, just after Redis was found to have lost its data."""
    registry: Any = Registry()
    claims = Claims()
    with claims.use("a", registry, "a"):
        assert claims.due(before=6, now=6, limit=9) == []
        assert claims.due(before=6, now=6, limit=9) is None


def test_claims_of_sessions_that_are_remembered_are_left_to_their_lease() -> None:
    registry, claims = Registry(), Claims()
    for name in "ab":
        add(claims, registry, name)
    registry.sessions.clear()
    registry.has_ended.add("a")
    assert claims.due(before=0, now=6, limit=9) == []
    assert to_remove(claims) == ["b"]
    assert len(claims) == 0


def test_late_requests_of_an_ended_session_need_not_ask_redis_again() -> None:
    registry, claims = Registry(), Claims()
    claim = add(claims, registry, "a")
    registry.sessions.clear()
    registry.has_ended.add("a")
    for _ in range(2):
        with claims.use("a", registry, "a") as same:  # type: ignore[arg-type]
            assert same is claim
        assert claims.holds("a")
    assert claims.due(before=0, now=6, limit=9) == []
    assert not claims.holds("a")


def test_a_claim_without_a_session_is_given_up_when_its_last_request_ends() -> None:
    registry: Any = Registry()
    claims = Claims()
    with claims.use("a", registry, "a") as claim:
        claims.held(claim, 0)
        with claims.use("a", registry, "a") as same:
            assert same is claim
        assert claims.to_remove(9) is None
        assert claims.holds("a")
    assert not claims.holds("a")
    assert claims.to_remove(9) == [claim]


def test_a_claim_that_is_needed_again_is_another_one() -> None:
    """Whether Redis removes the earlier one before it records the later one, or after."""
    registry, claims = Registry(), Claims()
    earlier = add(claims, registry, "a")
    registry.sessions.clear()
    claims.due(before=0, now=6, limit=9)
    assert claims.to_remove(9) == [earlier]
    later = add(claims, registry, "a")
    assert (later.key, later.token != earlier.token) == (earlier.key, True)
    assert claims.holds("a")
    claims.give_up([earlier])  # as if Redis had not answered
    claims.refreshed([earlier], 6)
    assert not claims.lost(earlier)
    assert claims.holds("a")
    assert claims.due(before=0, now=6, limit=9) == [later]


def test_what_belongs_to_another_node_is_forgotten_with_its_last_request() -> None:
    registry: Any = Registry()
    claims = Claims()
    with claims.use("a", registry, "a") as claim:
        claims.missed(claim)
        assert len(claims) == 1
    assert len(claims) == 0
    assert claims.to_remove(9) is None


def test_an_id_that_another_node_has_only_for_a_moment_is_claimed_by_the_same_claim() -> None:
    """A request here waits meanwhile, for `authorize` or for Redis."""
    registry: Any = Registry()
    claims = Claims()
    with claims.use("a", registry, "a") as claim:
        claims.held(claim, 0)
        assert claims.lost(claim)
        assert not claims.holds("a")
        with claims.use("a", registry, "a") as same:
            assert same is claim
            claims.held(claim, 0)
    assert claims.to_remove(9) == [claim]


def test_a_session_whose_id_another_node_has_by_another_answer_is_looked_at_first() -> None:
    registry, claims = Registry(), Claims()
    add(claims, registry, "a")
    b = add(claims, registry, "b")
    claims.missed(b)
    assert claims.holds("b")
    assert claims.due(before=-1, now=6, limit=9) == [b]


def test_all_claims_but_those_of_sessions_are_removed_at_the_end() -> None:
    registry: Any = Registry()
    claims = Claims()
    for name in "abc":
        add(claims, registry, name)
    registry.sessions -= {"b", "c"}
    registry.has_ended.add("c")
    with claims.use("d", registry, "d"):
        pass
    assert [claim.key for claim in claims.take_all()] == ["b", "d"]
    assert len(claims) == 0
    assert claims.to_remove(9) is None
