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
            _finish(loop, loop.create_task(_end_others()))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _finish(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    """Run the loop until `task` has ended; the process exits anyway."""
    while not task.done():
        with contextlib.suppress(SystemExit):
            loop.run_until_complete(task)
    task.result()


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
