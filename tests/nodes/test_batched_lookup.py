"""Questions of many requests that are sent to Redis together."""

import asyncio
from collections.abc import Sequence

import async_timeout

from sockjs_aio.cluster.nodes.batched_lookup import Answer, BatchedLookup, Question
from tests.process import PATIENCE


async def test_what_nobody_waits_for_any_more_is_not_asked() -> None:
    """It would hold up other requests, and claim the ids of clients that have left."""
    asked: list[str] = []
    is_answering = asyncio.Event()

    async def ask(questions: Sequence[Question]) -> list[Answer]:
        asked.extend(key for key, _ in questions)
        await is_answering.wait()
        return [[key] for key, _ in questions]

    lookup = BatchedLookup(ask)
    sent = asyncio.ensure_future(lookup.put(("sent", "1")))
    while not asked:
        await asyncio.sleep(0)
    left, waiting = (asyncio.ensure_future(lookup.put((key, "1"))) for key in ("left", "waiting"))
    await asyncio.sleep(0)
    for task in (sent, left):
        task.cancel()
    is_answering.set()
    async with async_timeout.timeout(PATIENCE):
        assert await waiting == ["waiting"]
    assert asked == ["sent", "waiting"]
    await lookup.close()


async def test_nothing_is_asked_if_nobody_waits_any_more() -> None:
    asked: list[Sequence[Question]] = []
    is_answering = asyncio.Event()

    async def ask(questions: Sequence[Question]) -> list[Answer]:
        asked.append(questions)
        await is_answering.wait()
        return [[key] for key, _ in questions]

    lookup = BatchedLookup(ask)
    first = asyncio.ensure_future(lookup.put(("first", "")))
    while not asked:
        await asyncio.sleep(0)
    left = asyncio.ensure_future(lookup.put(("left", "")))
    await asyncio.sleep(0)
    left.cancel()
    is_answering.set()
    async with async_timeout.timeout(PATIENCE):
        assert await first == ["first"]
        assert await lookup.put(("later", "")) == ["later"]
    assert [[key for key, _ in questions] for questions in asked] == [["first"], ["later"]]
    await lookup.close()
