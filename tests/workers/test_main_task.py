"""What runs a worker's main coroutine, when a hook ends the process at a bad moment."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from sockjs_aio.cluster.workers.control import Control
from sockjs_aio.cluster.workers.main_task import run
from sockjs_aio.cluster.workers.worker import Worker
from sockjs_aio.cluster.workers.workers import Workers
from sockjs_aio.core.process_exit import TURNS, exit_soon
from tests.workers.test_ends import UNRULY, lines

STATUS = 3


@contextlib.asynccontextmanager
async def controlled() -> AsyncIterator[Control]:
    """Make a worker's side of the socket to a supervisor that says nothing."""
    ours, theirs = socket.socketpair()
    with ours, theirs.dup() as watched:
        control = Control(watched, *await asyncio.open_unix_connection(sock=theirs))
        yield control
        await control.close()


@pytest.mark.parametrize("turns", range(TURNS + 5))
def test_exit_at_any_moment_of_a_workers_end_lets_it_finish(
    turns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    config = Workers(1)._config(UNRULY + "make", str(tmp_path), "")

    async def main() -> int:
        async with controlled() as control:
            worker = Worker(config, control)
            await worker.start()
            exit_soon(SystemExit(STATUS))
            with contextlib.suppress(asyncio.CancelledError):  # in place of `Worker.serve`
                for _ in range(turns):
                    await asyncio.sleep(0)
            await worker.stop()
        return 0

    with contextlib.suppress(SystemExit):
        run(main())
    assert lines(tmp_path / "notes") == ["cleanup"]


def test_task_that_fails_when_it_is_cancelled_at_the_end_is_reported() -> None:
    reports: list[dict[str, Any]] = []
    tasks: list[asyncio.Task[NoReturn]] = []

    async def end_badly(error: BaseException) -> NoReturn:
        try:
            await asyncio.Event().wait()
        finally:
            raise error
        raise AssertionError

    errors = LookupError(), SystemExit(STATUS)

    async def main() -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        tasks.extend(loop.create_task(end_badly(error)) for error in errors)
        await asyncio.sleep(0)
        return STATUS

    assert run(main()) == STATUS
    (report,) = reports
    assert (report["exception"], report["task"]) == (errors[0], tasks[0])
    assert report["message"]
