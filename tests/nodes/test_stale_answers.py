"""What Redis answered before a node was stopped, and the node reads afterwards."""

import asyncio
import time
from typing import Any

import pytest

from sockjs_aio.cluster.nodes.claim_keeper import ClaimKeeper
from sockjs_aio.cluster.nodes.locator import NodeLocator
from sockjs_aio.cluster.nodes.node_record import make_record

KEY = b"0" * 16
EXPIRY = 5.0
INTERVAL = 1.0


class Redis:
    """A directory with one other node, which reports until `ended`."""

    own = "me"
    lost_at = 0.0
    delay = 0.0
    ended = False

    def __init__(self) -> None:
        self.record = ""
        self.reports = 0
        self.report()

    def report(self) -> None:
        if not self.ended:
            self.reports += 1  # records tell milliseconds, and virtual time takes none
            issued = time.time() + self.reports / 1000
            self.record = make_record(KEY, "other", "http://other:1", issued)

    async def register(self, _names: list[str]) -> dict[str, str | None]:
        answer: dict[str, str | None] = {"other": self.record}
        await asyncio.sleep(self.delay)
        return answer


@pytest.mark.virtual_time
@pytest.mark.not_over("uvloop")
async def test_a_node_that_was_stopped_takes_no_other_for_dead_by_an_old_answer() -> None:
    cut: list[Any] = []
    redis: Any = Redis()
    locator = NodeLocator(redis, KEY, timeout=1, silence=1, expiry=EXPIRY)
    locator.nodes.meet("other", redis.record, asyncio.get_running_loop().time())
    keeper = ClaimKeeper(
        redis, locator, cut.append, interval=INTERVAL, expiry=EXPIRY, refresh_after=60
    )
    redis.delay = 2 * EXPIRY  # as if this process was stopped while the answer waited in its socket
    await keeper.look()
    assert (cut, locator.nodes.names) == ([], ["other"])
    redis.delay = 0.0
    await asyncio.sleep(0.01)
    redis.report()
    await keeper.look()
    assert (cut, locator.nodes.names) == ([], ["other"])
    redis.ended = True
    await asyncio.sleep(EXPIRY + INTERVAL)
    await keeper.look()
    assert ([node.url for node in cut], locator.nodes.names) == (["http://other:1"], [])
    await locator.close()
