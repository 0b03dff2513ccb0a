"""A hook that starts outside its task and waits goes on as if its task had called it."""

import asyncio
import contextvars
import gc
import weakref
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import async_timeout
import pytest

from sockjs_aio.core.hook_task import HookTask, Rest

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

pauses = pytest.mark.parametrize("pause", [0, 0.01])


class Run:
    """Starts coroutines in the name of one task, as hooks are."""

    def __init__(self) -> None:
        self.worker = HookTask()
        self.context = contextvars.copy_context()

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Future[Any]":
        """Return the future for what `coroutine` returns or raises."""
        loop = asyncio.get_running_loop()
        outcome = loop.create_future()

        def returned(result: Any, error: BaseException | None) -> None:
            if error is None:
                outcome.set_result(result)
            elif isinstance(error, asyncio.CancelledError):
                outcome.cancel()
            else:
                outcome.set_exception(error)

        def start() -> None:
            _enter_task(loop, self.worker.task)
            try:
                awaited = self.context.run(coroutine.send, None)
            except StopIteration as finished:
                outcome.set_result(finished.value)
            else:
                self.worker.go_on(Rest(self.context, coroutine, awaited), returned)
            finally:
                _leave_task(loop, self.worker.task)

        loop.call_soon(start)  # where no task runs
        return outcome


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    run = Run()
    yield run
    run.worker.end()
    await asyncio.wait([run.worker.task])


@pauses
async def test_result_is_passed_on(run: Run, pause: float) -> None:
    async def hook() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(pause)
        return "result"

    assert await run.start(hook()) == "result"


@pauses
async def test_exception_is_passed_on(run: Run, pause: float) -> None:
    async def hook() -> None:
        await asyncio.sleep(pause)
        raise KeyError("x")

    with pytest.raises(KeyError):
        await run.start(hook())


@pauses
async def test_hooks_see_one_current_task(run: Run, pause: float) -> None:
    async def hook() -> list[Any]:
        seen = [asyncio.current_task()]
        await asyncio.sleep(pause)
        return [*seen, asyncio.current_task()]

    async def short() -> Any:
        return asyncio.current_task()

    seen = await run.start(hook()) + [await run.start(short())] + await run.start(hook())
    assert set(seen) == {run.worker.task}
    assert asyncio.current_task() is not run.worker.task


async def test_hook_runs_in_its_own_context_from_first_to_last(run: Run) -> None:
    async def hook() -> str:
        VARIABLE.set("first")
        await asyncio.sleep(0)
        return VARIABLE.get()

    assert await run.start(hook()) == "first"
    assert run.context[VARIABLE] == "first"
    assert VARIABLE.get("unset") == "unset"


@pytest.mark.parametrize("turns", [1, 2, 3])
@pauses
async def test_cancellation_arrives(run: Run, turns: int, pause: float) -> None:
    async def hook() -> str:
        try:
            for _ in range(50):
                await asyncio.sleep(pause)
        except asyncio.CancelledError:
            return "cancelled"
        return "finished"

    outcome = run.start(hook())
    for _ in range(turns + 1):  # it has started
        await asyncio.sleep(0)
    run.worker.task.cancel()
    assert await outcome == "cancelled"


async def test_hook_is_cancelled_although_its_task_has_not_begun() -> None:
    run = Run()  # its task's first step is due after this

    async def hook() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "cleaned up"
        return "slept"

    outcome: list[Any] = []
    coroutine = hook()
    awaited = run.context.run(coroutine.send, None)
    run.worker.go_on(Rest(run.context, coroutine, awaited), lambda *what: outcome.append(what))
    run.worker.task.cancel()
    while not outcome:
        await asyncio.sleep(0)
    assert outcome == [("cleaned up", None)]
    run.worker.end()
    await asyncio.wait([run.worker.task])


@pytest.mark.parametrize("turns", [1, 2, 3])
async def test_what_is_awaited_is_cancelled_first(run: Run, turns: int) -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
        return "done"

    async def hook() -> str:
        return await asyncio.ensure_future(stubborn())

    outcome = run.start(hook())
    for _ in range(turns + 1):  # the inner task has begun
        await asyncio.sleep(0)
    run.worker.task.cancel()
    assert await outcome == "done"


async def test_time_outs_of_the_hook_work(run: Run) -> None:
    async def hook() -> str:
        try:
            async with async_timeout.timeout(0.01):
                await asyncio.sleep(60)
        except asyncio.TimeoutError:
            return "timed out"
        return "slept"

    assert await run.start(hook()) == "timed out"
    assert await run.start(hook()) == "timed out"


async def test_hook_after_a_cancelled_one_is_not_cancelled(run: Run) -> None:
    async def hook() -> str:
        await asyncio.sleep(0.01)
        return "finished"

    outcome = run.start(hook())
    for _ in range(3):
        await asyncio.sleep(0)
    run.worker.task.cancel()
    await asyncio.wait([outcome])
    assert outcome.cancelled()
    assert await run.start(hook()) == "finished"


@pytest.mark.not_over("eager")  # asyncio.gather() of what fails at once leaves a cycle of its own
@pytest.mark.parametrize("turns", [0, 1])
async def test_exception_of_what_is_awaited_makes_no_reference_cycle(run: Run, turns: int) -> None:
    class Kept:
        pass

    async def fail() -> None:
        raise KeyError("x")

    async def hook(kept: Kept) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.gather(fail())

    failures: list[object] = []

    def start(kept: Kept) -> None:
        _enter_task(loop, run.worker.task)
        try:
            coroutine = hook(kept)
            awaited = run.context.run(coroutine.send, None)
            rest = Rest(run.context, coroutine, awaited)
            run.worker.go_on(rest, lambda _, error: failures.append(type(error)))
        finally:
            _leave_task(loop, run.worker.task)

    loop = asyncio.get_running_loop()
    gc.disable()
    try:
        kept = Kept()
        reference = weakref.ref(kept)
        loop.call_soon(start, kept)
        del kept
        for _ in range(10):
            await asyncio.sleep(0)
        assert failures == [KeyError]
        assert reference() is None
    finally:
        gc.enable()


async def test_end_ends_the_task() -> None:
    run = Run()
    run.worker.end()
    run.worker.end()
    await asyncio.wait([run.worker.task])
    assert not run.worker.task.cancelled()
    assert run.worker.task.exception() is None


async def test_hook_that_cancels_its_own_task_at_once_is_cancelled_where_it_waits(run: Run) -> None:
    async def hook() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "cancelled"
        return "slept"

    await asyncio.sleep(0)  # the task waits for work
    assert await run.start(hook()) == "cancelled"


async def test_cancelled_task_is_not_ready_for_the_next_hook(run: Run) -> None:
    await asyncio.sleep(0)
    assert not run.worker.is_spent()
    run.worker.task.cancel()
    assert run.worker.is_spent()


async def test_task_that_was_cancelled_before_it_begins_is_not_ready() -> None:
    run = Run()
    assert not run.worker.is_spent()
    run.worker.task.cancel()
    assert run.worker.is_spent()
    await asyncio.wait([run.worker.task])
    assert run.worker.is_spent()


async def test_loop_that_is_gone_runs_no_hook() -> None:
    seen: list[str] = []

    async def hook() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("closed")

    def serve() -> None:
        loop = asyncio.new_event_loop()

        async def start() -> None:
            worker, context = HookTask(), contextvars.copy_context()
            coroutine = hook()
            rest = Rest(context, coroutine, context.run(coroutine.send, None))
            worker.go_on(rest, lambda *_: seen.append("returned"))
            task: Any = worker.task
            task._log_destroy_pending = False  # asyncio would say that it was
            for _ in range(3):
                await asyncio.sleep(0)

        loop.run_until_complete(start())
        loop.close()
        gc.collect()

    await asyncio.to_thread(serve)
    assert seen == ["closed"]


@pytest.mark.skipif(not hasattr(asyncio.Task, "uncancel"), reason="new in Python 3.11")
async def test_next_hook_does_not_see_the_cancellation_of_the_last(run: Run) -> None:
    async def hook() -> int:
        task: Any = asyncio.current_task()
        return int(task.cancelling())

    async def long() -> None:
        await asyncio.sleep(60)

    outcome = run.start(long())
    for _ in range(3):
        await asyncio.sleep(0)
    run.worker.task.cancel()
    await asyncio.wait([outcome])
    assert await run.start(hook()) == 0
