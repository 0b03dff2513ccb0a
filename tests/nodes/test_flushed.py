"""Redis that forgets between two commands of one node."""

import asyncio

import pytest

from sockjs_aio.cluster.nodes.directory import Directory
from sockjs_aio.cluster.nodes.redis_access import DirectoryUnavailableError
from tests.brokers.redis_server import RedisServer, note_known

pytestmark = pytest.mark.redis


async def test_a_question_does_not_overtake_the_news_that_redis_has_forgotten(
    own_redis: RedisServer,
) -> None:
    """Its answer would be believed: a session that is there is not, and is opened once more."""
    for number in range(30):
        own_redis.cli("flushall")
        note_known(own_redis)
        directory = Directory(
            own_redis.url,
            own=f"me{number}",
            record=lambda: "x",
            namespace="sockjs:",
            lease=600,
            expiry=60,
            timeout=20,
        )
        await directory.register(())
        assert await directory.find("before") is None
        own_redis.cli("flushall")
        telling = asyncio.create_task(directory.register(()))
        finds = []
        for _ in range(12):
            finds.append(asyncio.create_task(directory.find("k", "1")))
            await asyncio.sleep(0)
        found = await asyncio.gather(*finds, return_exceptions=True)
        await telling
        assert {type(one) for one in found} == {DirectoryUnavailableError}
        assert own_redis.cli("exists", "k").strip() == "0"
        await directory.close()
