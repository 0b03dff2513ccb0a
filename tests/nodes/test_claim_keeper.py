"""Nodes report to Redis in time, however much there is to do for their claims."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import pytest

from sockjs_aio.cluster.nodes.claim_keeper import BATCH, ClaimKeeper
from sockjs_aio.cluster.nodes.directory import Directory
from sockjs_aio.cluster.nodes.locator import NodeLocator
from sockjs_aio.cluster.nodes.redis_access import DirectoryUnavailableError
from tests.nodes.test_claims import Registry, add

Pairs: TypeAlias = list[tuple[str, str]]

EXPIRY = 5.0
INTERVAL = 1.0

pytestmark = [pytest.mark.virtual_time, pytest.mark.not_over("uvloop")]


class Redis:
    """A directory that answers each command after `delay`; it notes when it got reports."""

    own = "me"
    lost_at = 0.0
    is_down = False
    delay = 0.001
    has_left = False

    def __init__(self) -> None:
        self.reports: list[float] = []
        self.refused = 0
        self.locator: Any = None

    async def register(self, _names: list[str]) -> dict[str, str | None]:
        self.reports.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.delay)
        return {}

    async def refresh(self, _claims: Pairs) -> list[int]:
        await asyncio.sleep(self.delay)
        return []

    async def remove(self, _claims: Pairs) -> None:
        await asyncio.sleep(self.delay)
        self.refuse()

    async def leave(self) -> None:
        self.has_left = True

    def refuse(self) -> None:
        """A client asks for a session with a new id, and gets none."""
        self.refused += 1
        with self.locator.claims.use(f"{self.refused}", Registry(), ""):
            pass


async def kept(redis: Any) -> ClaimKeeper:
    redis.locator = NodeLocator(redis, b"0" * 16, timeout=1, silence=1, expiry=EXPIRY)
    return ClaimKeeper(
        redis, redis.locator, print, interval=INTERVAL, expiry=EXPIRY, refresh_after=20
    )


@contextlib.asynccontextmanager
async def running(keeper: ClaimKeeper) -> AsyncIterator[None]:
    keeping = asyncio.ensure_future(keeper.run())
    yield
    keeping.cancel()
    await asyncio.wait([keeping])


def longest_pause(redis: Redis) -> float:
    times = redis.reports
    return max(second - first for first, second in itertools.pairwise(times))


async def test_refused_ids_that_come_as_fast_as_they_are_removed_do_not_hold_up_reports() -> None:
    redis = Redis()
    keeper = await kept(redis)
    redis.refuse()
    async with running(keeper):
        await asyncio.sleep(10 * EXPIRY)
    assert longest_pause(redis) < 2 * INTERVAL
    assert keeper.is_sure
    await redis.locator.close()


async def test_a_request_that_waits_until_its_node_is_sure_does_not_wait_for_refused_ids() -> None:
    redis = Redis()
    redis.delay = 0.9
    keeper = await kept(redis)
    for _ in range(20 * BATCH):
        redis.refuse()
    loop = asyncio.get_running_loop()
    start = loop.time()
    looking = asyncio.ensure_future(keeper.look())
    await asyncio.sleep(0)
    await keeper.assure()
    assert keeper.is_sure
    assert loop.time() < start + 2 * INTERVAL
    await looking
    assert loop.time() > start + 20 * redis.delay
    await redis.locator.close()


async def test_a_node_reports_while_it_tells_a_slow_redis_again_about_many_sessions() -> None:
    redis, registry = Redis(), Registry()
    redis.delay = 0.3
    keeper = await kept(redis)
    for number in range(100 * BATCH):
        add(redis.locator.claims, registry, f"{number}")
    await keeper.look()
    redis.lost_at = asyncio.get_running_loop().time()
    registry.time = redis.lost_at
    async with running(keeper):
        await asyncio.sleep(100 * redis.delay - EXPIRY)
        assert not keeper.is_sure
        await asyncio.sleep(100 * redis.delay)
    assert longest_pause(redis) < 2 * INTERVAL
    assert keeper.is_sure, "although it refreshes claims all the time by now"
    assert redis.locator.claims.due(redis.lost_at, redis.lost_at, 1) is None
    await redis.locator.close()


async def test_what_was_refreshed_just_before_redis_lost_its_data_is_refreshed_again() -> None:
    redis: Any = Redis()
    registry = Registry()
    keeper = await kept(redis)
    loop = asyncio.get_running_loop()

    async def refresh(claims: Pairs) -> list[int]:
        refreshed.append([key for key, _ in claims])
        await asyncio.sleep(redis.delay)
        if len(refreshed) == 1:  # what another command finds before this one's answer is read
            redis.lost_at = loop.time()
        await asyncio.sleep(redis.delay)
        return []

    refreshed: list[list[str]] = []
    redis.refresh = refresh
    add(redis.locator.claims, registry, "a")
    redis.lost_at = loop.time()
    await keeper.look()
    assert refreshed == [["a"], ["a"]]
    assert keeper.is_sure
    await redis.locator.close()


async def test_what_redis_did_not_say_that_it_is_removed_is_removed_with_the_next_look() -> None:
    redis: Any = Redis()
    registry: Any = Registry()
    keeper = await kept(redis)
    claims = redis.locator.claims
    removed: list[Pairs] = []

    async def remove(pairs: Pairs) -> None:
        removed.append(pairs)
        if len(removed) == 1:
            raise DirectoryUnavailableError("no answer in time")

    redis.remove = remove
    with claims.use("a", registry, "a") as claim:
        claims.held(claim, 0)
    with pytest.raises(DirectoryUnavailableError):
        await keeper.look()
    await keeper.look()
    await keeper.look()
    assert removed == [[("a", claim.token)], [("a", claim.token)]]
    await redis.locator.close()


async def test_a_node_with_many_ids_without_sessions_ends_in_time_although_redis_is_slow() -> None:
    redis = Redis()
    keeper = await kept(redis)
    for number in range(100 * BATCH):
        with redis.locator.claims.use(f"{number}", Registry(), f"{number}") as claim:
            claim.is_held = True
    redis.delay = 0.9
    loop = asyncio.get_running_loop()
    start = loop.time()
    await keeper.leave()
    assert loop.time() - start < EXPIRY + INTERVAL
    assert redis.has_left
    assert redis.refused > 1, "it has removed some"
    await redis.locator.close()


@pytest.mark.parametrize("command", ["register", "refresh", "remove"])
async def test_what_is_not_answered_is_given_up_before_the_last_report_has_expired(
    command: str,
) -> None:
    """The next report comes an interval later, a fifth of `expiry`."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0, limit=1 << 20)
    directory = Directory(
        f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        own="me",
        record=lambda: "x",
        namespace="sockjs:",
        lease=600,
        expiry=60,
        timeout=60,
    )
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(DirectoryUnavailableError, match="no answer in time"):
        await getattr(directory, command)([])
    assert loop.time() < start + 60 - 2 * 60 / 5
    await directory.close()
    server.close()
    await server.wait_closed()
