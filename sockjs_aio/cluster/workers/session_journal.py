"""The journal of one worker's HTTP sessions: files that its successor reads.

A client whose worker has died asks again with its old id.  If that opened a new session, the
application would get the second half of a conversation that it has lost.  A worker that is killed
cannot write down which sessions it had, so it records each when it opens and when it ends.  This
costs a few microseconds for each session.

The files are in the directory of the workers' sockets, which no other user can enter.  Each line is
JSON: ``[service, id]`` for a session that opened, ``[service, id, time, code, reason]`` for one
that ended.  A journal is one or more files, whose names end with a number that says their order.
"""

import asyncio
import errno
import functools
import itertools
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from aiohttp import web

from sockjs_aio.core.ended_ids import Ended
from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.protocol.ends import INTERRUPTED
from sockjs_aio.protocol.frames import CloseFrame, close_frame
from sockjs_aio.server.service import service_of

logger: logging.Logger = logging.getLogger("sockjs_aio.workers")

T = TypeVar("T")

MIN_LINES = 10_000
"""Lines of a file below which it is not worth replacing by a shorter one."""

_MARK = ".sessions."

_Entry = Sequence[Any]

_Snapshot = tuple[str, list[Ended], list[str]]
"""A service, its ended sessions, and the ids of those that are open."""


class SessionJournal:
    """Records the sessions of this worker, and reads what earlier workers of its number recorded.

    Args:
        app: The application; its services are recorded.
        path: What the names of all journals of workers with this number begin with.
    """

    def __init__(self, app: web.Application, path: str) -> None:
        self._registries = _registries(app)
        self._prefix = path + "."
        self._name = f"{_name(self._prefix, os.getpid())}{secrets.token_hex(4)}{_MARK}"
        self._numbers = itertools.count()
        self._file: int | None = None
        self._lines = 0
        self._limit = MIN_LINES
        self._writing: asyncio.Future[None] | None = None
        self._taking: asyncio.Task[None] | None = None
        self._go_on_in_new_file()
        for service, registry in self._registries.items():
            registry.journal = _Part(self, service)

    def write(self, *entry: Any) -> None:
        """Append a line."""
        if self._file is None:
            return
        line = _line(entry)
        try:
            if os.write(self._file, line) < len(line):  # a line after half a line is unreadable
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._give_up(error)
            return
        self._lines += 1
        if self._lines >= self._limit and (self._writing is None or self._writing.done()):
            self._rewrite(self._snapshot())

    async def take_over(self, living: int | None = None) -> None:
        """Remember the sessions of other workers of this number: they have ended.

        Many requests may wait for this at the same time; it is done once for all of them.

        Args:
            living: The process id of one of those workers that has not ended.
        """
        if self._taking is None or self._taking.done():
            self._taking = asyncio.get_running_loop().create_task(self._take_over(living))
        await asyncio.shield(self._taking)

    async def _take_over(self, living: int | None) -> None:
        if self._writing is not None:  # it may still remove what was taken over the last time
            await asyncio.wait((self._writing,))
        apart = self._name if living is None else (self._name, _name(self._prefix, living))
        others = [path for path in self._files() if not str(path).startswith(apart)]
        if not others:
            return
        loop = asyncio.get_running_loop()
        offset = time.time() - loop.time()  # the other process's loop may use another clock
        found = await _in_thread(_read, others, offset)
        for service, registry in self._registries.items():
            registry.ended_sessions.take_over(found.get(service, []))
        self._rewrite(self._snapshot(), others)

    async def finish(self) -> None:
        """Record how the sessions that are still here end: this worker is about to."""
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        self._rewrite(
            [(service, registry.endings(), []) for service, registry in self._registries.items()]
        )
        if self._writing is not None:
            await asyncio.wait((self._writing,))

    def _snapshot(self) -> list[_Snapshot]:
        return [
            (service, registry.ended_sessions.items(), registry.open_ids())
            for service, registry in self._registries.items()
        ]

    def _rewrite(self, snapshot: list[_Snapshot], others: Iterable[Path] = ()) -> None:
        """Replace all files by one with `snapshot` only, in a thread; go on in yet another one."""
        if self._file is None:
            return
        old = [path for path in self._files() if str(path).startswith(self._name)]
        short = self._name + str(next(self._numbers))
        self._go_on_in_new_file()
        count = sum(len(ended) + len(ids) for _, ended, ids in snapshot)
        self._limit = max(MIN_LINES, 2 * count)
        loop = asyncio.get_running_loop()
        offset = time.time() - loop.time()
        old += others
        self._writing = _in_thread(_replace, old, short, snapshot, offset)

    def _go_on_in_new_file(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            new = os.open(self._name + str(next(self._numbers)), flags, 0o600)
        except OSError as error:
            self._give_up(error)
            return
        if self._file is not None:
            os.close(self._file)
        self._file, self._lines = new, 0

    def _give_up(self, error: OSError) -> None:
        logger.warning(
            "cannot record this worker's sessions (%s): if it dies, clients that ask later open "
            "new sessions instead of being told",
            error,
        )
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _files(self) -> list[Path]:
        """Return the files of all journals of workers with this number; of each in its order."""
        directory = Path(self._prefix).parent
        try:
            names = [path for path in directory.iterdir() if str(path).startswith(self._prefix)]
        except OSError:  # it is removed once the supervisor has ended
            return []
        files = [path for path in names if _MARK in path.name and path.suffix[1:].isdigit()]
        return sorted(files, key=lambda path: (path.stem, int(path.suffix[1:])))


class _Part:
    """The journal of one service."""

    def __init__(self, journal: SessionJournal, service: str) -> None:
        self._journal = journal
        self._service = service

    def opened(self, session_id: str) -> None:
        self._journal.write(self._service, session_id)

    def ended(self, session_id: str, frame: CloseFrame) -> None:
        self._journal.write(self._service, session_id, time.time(), frame.code, frame.reason)


class _Once(Generic[T]):
    """Calls a function only once, even if several threads call this."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function: Callable[[], T] | None = function
        self._result: list[T] = []
        self._calling = threading.Lock()

    def __call__(self) -> T:
        with self._calling:
            if self._function is not None:
                self._result.append(self._function())
                self._function = None  # what it holds is not needed any more
            return self._result[0]


def _name(prefix: str, process: int) -> str:
    """Return what the names of a process's journals begin with."""
    return f"{prefix}{process}-"


def _in_thread(function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
    """Call a function in a thread; if there can be no more threads, in this one."""
    loop = asyncio.get_running_loop()
    # if it cannot start another thread, the executor has taken the work nevertheless
    work = _Once(functools.partial(function, *arguments))
    try:
        return loop.run_in_executor(None, work)
    except RuntimeError:
        done: asyncio.Future[T] = loop.create_future()
        done.set_result(work())
        return done


def _line(entry: _Entry) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _replace(old: list[Path], path: str, snapshot: list[_Snapshot], offset: float) -> None:
    """Replace files by one with `snapshot`.  If this process dies meanwhile, nothing is lost.

    Args:
        old: The files.
        path: The new one.
        snapshot: What it is to have.
        offset: The time of day minus that of the loop's clock.
    """
    try:
        with Path(path + "-new").open("wb") as file:
            for service, ended, ids in snapshot:
                for session_id, at, frame in ended:
                    entry = (service, session_id, at + offset, frame.code, frame.reason)
                    file.write(_line(entry))
                for session_id in ids:
                    file.write(_line((service, session_id)))
        os.replace(path + "-new", path)
        for each in old:
            each.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("cannot shorten the record of this worker's sessions: %s", error)


def _read(paths: Iterable[Path], offset: float) -> dict[str, list[Ended]]:
    """Read the journals of workers that have ended: all their sessions have, by their services.

    Args:
        paths: The files.
        offset: The time of day minus that of the loop's clock.
    """
    sessions: dict[tuple[str, str, str], _Entry] = {}
    for path in paths:
        try:
            complete, _, _ = path.read_bytes().rpartition(b"\n")
            entries = json.loads(b"[%b]" % complete.replace(b"\n", b","))
        except (OSError, ValueError) as error:
            logger.warning("cannot read which sessions another worker had: %s", error)
            continue
        for entry in entries:
            sessions[(path.stem, entry[0], entry[1])] = entry
    lost = (time.time(), *INTERRUPTED)
    ended = [(*entry, *lost) if len(entry) == 2 else entry for entry in sessions.values()]
    make_frame = functools.lru_cache(close_frame)
    found: dict[str, list[Ended]] = {}
    for service, session_id, at, code, reason in sorted(ended, key=lambda entry: entry[2]):
        found.setdefault(service, []).append((session_id, at - offset, make_frame(code, reason)))
    return found


def _registries(app: web.Application) -> dict[str, SessionRegistry]:
    """Return the registries of all services of `app`, by their URLs."""
    found: dict[SessionRegistry, str] = {}
    for route in app.router.routes():
        service = service_of(route.handler)
        if service is not None and route.resource is not None:
            found.setdefault(service.registry, route.resource.canonical)
    return {name: registry for registry, name in found.items()}
