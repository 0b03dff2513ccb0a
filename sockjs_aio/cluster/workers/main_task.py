"""Runs the main coroutine of a worker, and lets it finish if a hook ends the process."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any


def run(main: Coroutine[Any, Any, int]) -> int:
    """Do what `asyncio.run` does, but if something stops the loop, cancel only `main` at first.

    `main` then closes the sessions.  `asyncio.run` would cancel their tasks with it, which cuts
    them off.  If the loop is stopped again meanwhile, `main` goes on.
    """
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        task = loop.create_task(main)
        try:
            return loop.run_until_complete(task)
        finally:
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    _finish(loop, task)
            _finish(loop, _end_others())
            _finish(loop, loop.shutdown_asyncgens())
            _finish(loop, loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _finish(
    loop: asyncio.AbstractEventLoop, what: asyncio.Task[Any] | Coroutine[Any, Any, Any]
) -> None:
    """Run the loop until this has ended; the process exits anyway."""
    task = asyncio.ensure_future(what, loop=loop)
    while not task.done():
        # a RuntimeError if what has stopped the loop came just before `main` did so by its end
        with contextlib.suppress(SystemExit, RuntimeError):
            loop.run_until_complete(task)
    task.result()


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    ends = await asyncio.gather(*others, return_exceptions=True)
    for task, error in zip(others, ends, strict=True):
        if isinstance(error, Exception):
            message = "a task failed when it was cancelled at the worker's end"
            context = {"message": message, "exception": error, "task": task}
            asyncio.get_running_loop().call_exception_handler(context)
