"""A node ends although its keeper loses a cancellation, as before Python 3.11 to a timeout."""

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import Nodes
from sockjs_aio.cluster.nodes.claim_keeper import ClaimKeeper
from tests.brokers.redis_server import RedisServer
from tests.nodes.processes import SECRET
from tests.process import PATIENCE
from tests.test_lost_cancellations import Deaf

pytestmark = pytest.mark.redis


async def test_a_node_whose_keeper_loses_a_cancellation_ends(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClaimKeeper, "run", Deaf().work)
    app = web.Application()
    Nodes(own_redis.url, url="http://127.0.0.1:1", secret=SECRET).attach(app)
    runner = web.AppRunner(app)
    await runner.setup()
    assert own_redis.cli("keys", "sockjs:node:*")
    async with async_timeout.timeout(PATIENCE):
        await runner.cleanup()
    assert own_redis.cli("keys", "sockjs:node:*") == ""
