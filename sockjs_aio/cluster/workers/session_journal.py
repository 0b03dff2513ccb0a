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
import functools
import itertools
import json
import logging
import os
import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.protocol.ends import INTERRUPTED
from sockjs_aio.protocol.frames import CloseFrame, close_frame
from sockjs_aio.server.service import service_of

logger = logging.getLogger("sockjs_aio")

MIN_LINES = 10_000
"""Lines of a file below which it is not worth replacing by a shorter one."""

_MARK = ".sessions."

_Entry = Sequence[Any]


class SessionJournal:
    """Records the sessions of this worker, and reads what earlier workers of its number recorded.

    Args:
        app: The application; its services are recorded.
        path: What the names of all journals of workers with this number begin with.
    """

    def __init__(self, app: web.Application, path: str) -> None:
        self._registries = _registries(app)
        self._prefix = path + "."
        self._name = f"{path}.{secrets.token_hex(4)}{_MARK}"
        self._numbers = itertools.count()
        self._file: int | None = None
        self._lines = 0
        self._limit = MIN_LINES
        self._writing: asyncio.Future[None] | None = None
        self._go_on_in_new_file()
        for service, registry in self._registries.items():
            registry.journal = _Part(self, service)

    def write(self, *entry: Any) -> None:
        """Append a line."""
        if self._file is None:
            return
        try:
            os.write(self._file, _line(entry))
        except OSError as error:
            self._give_up(error)
            return
        self._lines += 1
        if self._lines >= self._limit and (self._writing is None or self._writing.done()):
            self._rewrite(self._entries())

    def take_over(self) -> None:
        """Remember the sessions of other workers of this number: they have ended."""
        others = [path for path in self._files() if not str(path).startswith(self._name)]
        found = sorted(_read(others), key=lambda entry: entry[2])  # by the time of their ends
        make_frame = functools.lru_cache(close_frame)
        for service, registry in self._registries.items():
            offset = time.time() - registry.now()  # the other process's loop may use another clock
            registry.ended_sessions.take_over(
                (session_id, ended_at - offset, make_frame(code, reason))
                for name, session_id, ended_at, code, reason in found
                if name == service
            )
        if found:
            self._rewrite(self._entries(), others)

    async def finish(self) -> None:
        """Record how the sessions that are still here end: this worker is about to."""
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        entries: list[_Entry] = [
            (service, *ended)
            for service, registry in self._registries.items()
            for ended in _on_wall_clock(registry, registry.endings())
        ]
        self._rewrite(entries)
        if self._writing is not None:
            await asyncio.wait((self._writing,))

    def _entries(self) -> list[_Entry]:
        entries: list[_Entry] = []
        for service, registry in self._registries.items():
            ended = _on_wall_clock(registry, registry.ended_sessions.items())
            entries += [(service, *each) for each in ended]
            entries += [(service, session_id) for session_id in registry.open_ids()]
        return entries

    def _rewrite(self, entries: list[_Entry], others: Iterable[Path] = ()) -> None:
        """Replace all files by one with `entries` only, in a thread; go on in yet another one."""
        if self._file is None:
            return
        old = [path for path in self._files() if str(path).startswith(self._name)]
        short = self._name + str(next(self._numbers))
        self._go_on_in_new_file()
        self._limit = max(MIN_LINES, 2 * len(entries))
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(None, _replace, [*old, *others], short, entries)

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


def _line(entry: _Entry) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _replace(old: list[Path], path: str, entries: list[_Entry]) -> None:
    """Replace files by one with `entries`.  If this process dies meanwhile, nothing is lost."""
    try:
        Path(path + "-new").write_bytes(b"".join(map(_line, entries)))
        os.replace(path + "-new", path)
        for each in old:
            each.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("cannot shorten the record of this worker's sessions: %s", error)


def _read(paths: Iterable[Path]) -> list[_Entry]:
    """Read the journals of workers that have ended: all their sessions have."""
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
    return [(*entry, *lost) if len(entry) == 2 else entry for entry in sessions.values()]


def _on_wall_clock(
    registry: SessionRegistry, endings: list[tuple[str, float, CloseFrame]]
) -> list[tuple[str, float, int, str]]:
    offset = time.time() - registry.now()
    return [(name, at + offset, frame.code, frame.reason) for name, at, frame in endings]


def _registries(app: web.Application) -> dict[str, SessionRegistry]:
    """Return the registries of all services of `app`, by their URLs."""
    found: dict[SessionRegistry, str] = {}
    for route in app.router.routes():
        service = service_of(route.handler)
        if service is not None and route.resource is not None:
            found.setdefault(service.registry, route.resource.canonical)
    return {name: registry for registry, name in found.items()}
