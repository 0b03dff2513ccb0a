"""A hook is not cancelled because its client has gone; all other cancellations work as ever."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import async_timeout
import pytest

from sockjs_aio.shield import Shielded, forgive_loss


async def shielded(
    coroutine: Coroutine[Any, Any, Any], forgive: Callable[[], bool] = lambda: True
) -> Any:
    awaited = coroutine.send(None)
    return await Shielded(coroutine, awaited, forgive)


async def test_result_is_passed_on() -> None:
    async def hook() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        return "result"

    assert await shielded(hook()) == "result"


async def test_exception_is_passed_on() -> None:
    async def hook() -> None:
        await asyncio.sleep(0.001)
        raise KeyError("x")

    with pytest.raises(KeyError):
        await shielded(hook())


async def test_hook_sees_one_current_task() -> None:
    async def hook() -> bool:
        first = asyncio.current_task()
        await asyncio.sleep(0.001)
        return first is asyncio.current_task()

    assert await shielded(hook())


@pytest.mark.parametrize("pause", [0, 0.01])
async def test_forgiven_cancellation_does_not_arrive(pause: float) -> None:
    async def hook() -> str:
        for _ in range(5):
            await asyncio.sleep(pause)
        return "finished"

    task = asyncio.ensure_future(shielded(hook()))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "finished"


@pytest.mark.parametrize("pause", [0, 0.01])
async def test_other_cancellation_arrives(pause: float) -> None:
    async def hook() -> str:
        try:
            for _ in range(5):
                await asyncio.sleep(pause)
        except asyncio.CancelledError:
            return "cancelled"
        return "finished"

    task = asyncio.ensure_future(shielded(hook(), lambda: False))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "cancelled"


async def test_time_outs_of_the_hook_work() -> None:
    async def hook() -> str:
        try:
            async with async_timeout.timeout(0.01):
                await asyncio.sleep(60)
        except asyncio.TimeoutError:
            return "timed out"
        return "slept"

    assert await shielded(hook(), lambda: False) == "timed out"


async def test_task_that_refuses_to_be_cancelled_is_waited_for() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
        return "done"

    async def hook() -> str:
        return await asyncio.ensure_future(stubborn())

    task = asyncio.ensure_future(shielded(hook(), lambda: False))
    await asyncio.sleep(0.001)
    task.cancel()
    assert await task == "done"


class Handler:
    """As aiohttp has it: a task for the connection, and inside it one that runs the hook."""

    def __init__(self, hook: Coroutine[Any, Any, Any]) -> None:
        self._hook = hook
        self.task = asyncio.ensure_future(self._outer())

    async def _outer(self) -> Any:
        return await asyncio.ensure_future(self._inner())

    async def _inner(self) -> Any:
        return await shielded(self._hook, forgive_loss(self.task))


async def test_cancellation_through_the_handler_is_forgiven_once() -> None:
    events = []

    async def hook() -> None:
        try:
            await asyncio.sleep(0.02)
            events.append("finished")
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            events.append("cancelled")

    handler = Handler(hook())
    await asyncio.sleep(0.001)
    handler.task.cancel()
    await asyncio.sleep(0.04)
    handler.task.cancel()
    await handler.task
    # Python 3.10 cannot tell whom a cancellation is for
    forgives = hasattr(asyncio.Task, "cancelling")
    assert events == (["finished", "cancelled"] if forgives else ["cancelled"])


async def test_time_out_in_the_hook_is_not_taken_for_a_loss() -> None:
    async def hook() -> str:
        try:
            async with async_timeout.timeout(0.01):
                await asyncio.sleep(60)
        except asyncio.TimeoutError:
            return "timed out"
        return "slept"

    assert await Handler(hook()).task == "timed out"
