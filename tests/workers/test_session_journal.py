"""The journal that tells a worker's successor which sessions it had."""

import asyncio
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio.cluster.workers.session_journal import MIN_LINES, SessionJournal, _in_thread
from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.protocol.frames import close_frame
from sockjs_aio.server.service import services_of
from tests.conftest import Echo, Serve

LOST = b'c[1002,"Connection interrupted"]'


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def leave_as_if_killed(file: Path) -> None:
    """Tear the last line of a journal, and begin to replace it; its next file has another id."""
    Path(f"{file}-new").write_bytes(b'["unfinished')
    file.with_suffix(".10").write_bytes(file.read_bytes().replace(b"early", b"late"))
    with file.open("ab") as end:
        end.write(b'["/echo", "torn')


def registry_of(app: web.Application) -> SessionRegistry:
    return services_of(app)[0].registry


async def test_a_long_journal_is_replaced_by_a_short_one_without_loss(
    serve: Serve, tmp_path: Path
) -> None:
    dead, successor = await serve(Echo), await serve(Echo)
    journal = SessionJournal(dead.app, str(tmp_path / "0"))
    for number in range(3):
        assert await dead.poll(f"/0/s{number}") == b"o"
    record = registry_of(dead.app).journal
    assert record is not None
    for number in range(MIN_LINES):
        record.opened(f"other{number}")
        record.ended(f"other{number}", close_frame(3000, "Go away!"))
    assert await dead.poll("/1/s3") == b"o"
    await journal.finish()
    left = files(tmp_path)
    assert len(left) == 2 and sum(file.stat().st_size for file in left) < 1000
    await SessionJournal(successor.app, str(tmp_path / "0")).take_over()
    for number in range(4):
        assert await successor.poll(f"/0/s{number}") == b'c[1002,"Session expired"]'


async def test_what_was_being_replaced_when_the_worker_died_is_not_lost(
    serve: Serve, tmp_path: Path
) -> None:
    dead, successor = await serve(Echo), await serve(Echo)
    SessionJournal(dead.app, str(tmp_path / "0"))
    assert await dead.poll("/0/early") == b"o"
    (file,) = files(tmp_path)
    leave_as_if_killed(file)
    await SessionJournal(successor.app, str(tmp_path / "0")).take_over()
    assert await successor.poll("/0/early") == await successor.poll("/0/late") == LOST
    assert await successor.poll("/0/torn") == b"o"


async def test_what_has_been_taken_over_and_is_being_removed_is_not_read_again(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dead, successor = await serve(Echo), await serve(Echo)
    SessionJournal(dead.app, str(tmp_path / "0"))
    assert await dead.poll("/0/theirs") == b"o"
    journal = SessionJournal(successor.app, str(tmp_path / "0"))
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    unlink = Path.unlink

    def unlink_later(path: Path, missing_ok: bool = False) -> None:
        time.sleep(0.05)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_later)
    for _ in range(2):
        await journal.take_over()
    assert await successor.poll("/0/theirs") == LOST
    assert caplog.text == ""


async def test_workers_of_other_numbers_have_journals_of_their_own(
    serve: Serve, tmp_path: Path
) -> None:
    other, here = await serve(Echo), await serve(Echo)
    SessionJournal(other.app, str(tmp_path / "11"))
    assert await other.poll("/0/theirs") == b"o"
    await SessionJournal(here.app, str(tmp_path / "1")).take_over()
    assert await here.poll("/0/theirs") == b"o"


async def test_the_journal_is_read_once_for_all_who_wait_for_it(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    read_bytes = Path.read_bytes

    def counting(path: Path) -> bytes:
        reads.append(path)
        return read_bytes(path)

    dead, successor = await serve(Echo), await serve(Echo)
    SessionJournal(dead.app, str(tmp_path / "0"))
    assert await dead.poll("/0/a") == b"o"
    journal = SessionJournal(successor.app, str(tmp_path / "0"))
    monkeypatch.setattr(Path, "read_bytes", counting)
    waiting = [asyncio.create_task(journal.take_over()) for _ in range(50)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(*waiting[1:])
    assert len(reads) == 1
    assert await successor.poll("/0/a") == LOST


async def test_a_journal_that_cannot_be_written_stops_nothing(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve(Echo)
    directory = tmp_path / "gone"
    directory.mkdir()
    journal = SessionJournal(served.app, str(directory / "0"))
    shutil.rmtree(directory)
    await journal.finish()
    assert await served.poll("/0/a") == b"o"
    await journal.take_over()
    await journal.finish()
    assert caplog.text.count("cannot record this worker's sessions") == 1


class NoThreads(ThreadPoolExecutor):
    """What there is in a container whose limit on processes is reached."""

    def submit(self, *_work: Any, **_options: Any) -> Any:
        raise RuntimeError("can't start new thread")


async def test_without_threads_a_journal_is_replaced_and_read_all_the_same(
    serve: Serve, tmp_path: Path
) -> None:
    dead, successor = await serve(Echo), await serve(Echo)
    asyncio.get_running_loop().set_default_executor(NoThreads())
    SessionJournal(dead.app, str(tmp_path / "0"))
    record = registry_of(dead.app).journal
    assert record is not None
    for number in range(MIN_LINES - 1):
        record.opened(f"other{number}")
        record.ended(f"other{number}", close_frame(3000, "Go away!"))
    assert await dead.poll("/0/a") == b"o"
    assert sum(file.stat().st_size for file in files(tmp_path)) < 100 * MIN_LINES
    await SessionJournal(successor.app, str(tmp_path / "0")).take_over()
    assert await successor.poll("/0/a") == LOST


async def test_without_another_thread_a_journal_is_replaced_only_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The executor has taken the work when it finds that it can start no thread for it."""
    executor = ThreadPoolExecutor(2)
    asyncio.get_running_loop().set_default_executor(executor)
    is_over = threading.Event()
    busy = executor.submit(is_over.wait)
    calls: list[int] = []

    def no_thread(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        done = _in_thread(calls.append, 1)
    assert done.done() and calls == [1]
    is_over.set()
    await asyncio.wrap_future(busy)
    executor.shutdown()  # waits for all that it has taken
    assert calls == [1]


async def test_a_line_that_was_written_in_part_spoils_no_others(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a disk that is full for a moment."""
    dead, successor = await serve(Echo), await serve(Echo)
    SessionJournal(dead.app, str(tmp_path / "0"))
    assert await dead.poll("/0/a") == b"o"
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda number, data: write(number, data[:9]))
        assert await dead.poll("/0/b") == b"o"
    assert await dead.poll("/0/c") == b"o"
    await SessionJournal(successor.app, str(tmp_path / "0")).take_over()
    assert await successor.poll("/0/a") == LOST
    assert "cannot record this worker's sessions" in caplog.text
