"""The connections of a node to Redis, which are replaced while commands are under way."""

import asyncio

import pytest
from redis.asyncio import Redis

from sockjs_aio.cluster.nodes.redis_access import DirectoryUnavailableError, RedisAccess
from sockjs_aio.cluster.nodes.redis_pool import MAX_CONNECTIONS, make_node_pool
from sockjs_aio.cluster.nodes.settling import Settling
from tests.brokers.redis_server import RedisServer

pytestmark = pytest.mark.redis


async def test_commands_go_on_while_their_connections_are_replaced(
    redis_server: RedisServer,
) -> None:
    """If a connection was closed under a command, redis-py raised AttributeError at times."""
    pool = make_node_pool(redis_server.url, 30, lambda _run_id: None, lambda: False)
    client: Redis = Redis(connection_pool=pool)
    has_ended = False
    used: set[int] = set()

    async def ask() -> None:
        while not has_ended:
            used.add(int(await client.client_id()))
            await asyncio.sleep(0)

    asking = [asyncio.ensure_future(ask()) for _ in range(2 * MAX_CONNECTIONS)]
    for turns in range(200):
        for _ in range(turns % 7):
            await asyncio.sleep(0)
        await pool.replace()
    while len(used) < 10 * MAX_CONNECTIONS and not any(each.done() for each in asking):
        await asyncio.sleep(0)
        await pool.replace()
    await pool.replace()
    before = max(used, default=0)
    has_ended = True
    await asyncio.gather(*asking)
    assert await client.client_id() > before, "those that were in use are not used again"
    await pool.disconnect()


async def test_no_answer_is_believed_if_redis_is_replaced_during_each_command(
    redis_server: RedisServer,
) -> None:
    settling = Settling(60)
    access = RedisAccess(redis_server.url, settling, timeout=30, patience=30)
    answers: list[bytes | str] = []

    async def ask() -> bytes | str:
        answers.append(await access.client.echo("from the old server"))
        settling.lose(len(answers))
        return answers[-1]

    with pytest.raises(DirectoryUnavailableError, match="again and again"):
        await access.run(ask)
    assert len(answers) > MAX_CONNECTIONS
    await access.close()
