"""Nodes on a loop whose tasks run at once, until they first wait (Python 3.12)."""

import async_timeout
import pytest

from sockjs_aio.cluster.nodes.batched_lookup import Answer, BatchedLookup, Question
from tests.axes import make_tasks_eager
from tests.brokers.redis_server import RedisServer
from tests.nodes.conftest import Reach, RunNodes
from tests.nodes.processes import ALL
from tests.nodes.test_without_redis import opened
from tests.process import PATIENCE

pytestmark = pytest.mark.redis


async def test_a_question_is_asked_after_one_that_was_answered_at_once() -> None:
    make_tasks_eager()

    async def ask(questions: "list[Question] | tuple[Question, ...]") -> list[Answer]:
        if questions[0][0] == "bad":
            raise OSError("refused")
        return [[key] for key, _ in questions]

    questions = BatchedLookup(ask)  # type: ignore[arg-type]
    async with async_timeout.timeout(PATIENCE):
        for _ in range(3):
            with pytest.raises(OSError, match="refused"):
                await questions.put(("bad", ""))
            assert await questions.put(("good", "")) == ["good"]
    await questions.close()


async def test_messages_pass_between_nodes_and_redis_may_go(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    nodes = run_nodes(2, {"disconnect_delay": 30}, is_eager=True, expiry=2)
    clients = [await transport.open(reach(*nodes)) for transport in ALL]
    for client in clients:
        await client.send("x")
        await client.send("y")
        assert await client.messages(2) == ["x", "y"], client.name
    own_redis.kill()
    for node in nodes:
        await node.until("state", "reconnecting")
        for number in range(3):
            reply = await reach(node).request("POST", f"/0/{number}/xhr", b"")
            assert reply.status == 503
    for client in clients:
        await client.send("z")
        assert await client.messages(1) == ["z"], client.name
        client.abort()
    own_redis.start()
    for number, node in enumerate(nodes):
        await opened(reach(node), f"/0/again{number}")
