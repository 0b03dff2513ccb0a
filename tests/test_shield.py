"""A hook is not cancelled because its client has gone; all other cancellations work as ever."""

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio.core.shield import Shielded
from sockjs_aio.server.client_loss import ClientLoss
from tests.conftest import Serve
from tests.wire import Wire


async def shielded(
    coroutine: Coroutine[Any, Any, Any], forgive: Callable[[], bool] = lambda: True
) -> Any:
    context = contextvars.copy_context()
    return await Shielded(context, coroutine, context.run(coroutine.send, None), forgive)


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


@pytest.mark.not_over("eager")  # asyncio.gather() of what fails at once leaves a cycle of its own
@pytest.mark.parametrize("turns", [0, 1])
async def test_exception_of_what_is_awaited_makes_no_reference_cycle(turns: int) -> None:
    class Kept:
        pass

    async def fail() -> None:
        raise KeyError("x")

    async def hook(kept: Kept) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.gather(fail())

    gc.disable()
    try:
        kept = Kept()
        reference = weakref.ref(kept)
        with pytest.raises(KeyError):
            await shielded(hook(kept))
        del kept
        await asyncio.sleep(0)
        assert reference() is None
    finally:
        gc.enable()


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


async def handle(serve: Serve, hook: Callable[[], Coroutine[Any, Any, Any]]) -> Wire:
    """Have `hook` run in a handler of a real server; the client is returned."""

    async def handler(request: web.Request) -> web.Response:
        await shielded(hook(), ClientLoss(request))
        return web.Response()

    app = web.Application()
    app.router.add_get("/hook", handler)
    wire = await (await serve(app=app)).wire()
    wire.send("GET", "/hook")
    return wire


async def test_loss_of_the_client_is_forgiven(serve: Serve) -> None:
    events: list[str] = []
    begun, done = asyncio.Event(), asyncio.Event()

    async def hook() -> None:
        try:
            begun.set()
            await asyncio.sleep(0.05)
            events.append("finished")
        except asyncio.CancelledError:
            events.append("cancelled")
        done.set()

    wire = await handle(serve, hook)
    await begun.wait()
    wire.abort()
    await done.wait()
    assert events == ["finished"]


async def test_time_out_in_the_hook_is_not_taken_for_a_loss(serve: Serve) -> None:
    events: list[str] = []
    begun, done = asyncio.Event(), asyncio.Event()

    async def hook() -> None:
        begun.set()
        for _ in range(3):
            try:
                async with async_timeout.timeout(0.02):
                    await asyncio.sleep(60)
            except asyncio.TimeoutError:
                events.append("timed out")
        done.set()

    wire = await handle(serve, hook)
    await begun.wait()
    await done.wait()
    assert events == ["timed out"] * 3
    assert (await wire.reply()).status == 200
    events.clear()
    begun.clear()
    done.clear()
    wire.send("GET", "/hook")
    await begun.wait()
    wire.abort()
    await done.wait()
    assert events == ["timed out"] * 3
