"""Notices changes of an application's source files, for ``serve --reload``.

A worker tells in which directories the modules are that it has imported, and the supervisor looks
at the Python files in them.
"""

import asyncio
import contextlib
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable
from types import TracebackType

INTERVAL = 0.4
"""Seconds between two looks."""

_LIBRARIES = tuple(
    os.path.join(sysconfig.get_path(name), "")
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
"""Where packages are that nobody edits."""


class SourceWatch:
    """Looks whether Python files in some directories have changed."""

    def __init__(self) -> None:
        self._stamps: dict[str, dict[str, int]] = {}

    def add(self, directories: Iterable[str], since: int) -> None:
        """Look at these directories too, but not at those below them.

        Args:
            directories: Their paths.
            since: When modules in them began to be imported, in nanoseconds since the epoch: what
                is newer has changed.
        """
        for directory in directories:
            if directory not in self._stamps:
                found = _stamps(directory).items()
                self._stamps[directory] = {name: at for name, at in found if at <= since}

    def changes(self) -> list[str]:
        """Return the files that are new, gone or changed since the last call."""
        found: list[str] = []
        for directory, before in self._stamps.items():
            now = _stamps(directory)
            if now != before:
                names = sorted({name for name, _ in now.items() ^ before.items()})
                found += [os.path.join(directory, name) for name in names]
                self._stamps[directory] = now
        return found

    async def until_changed(self, prepare: Callable[[], None]) -> list[str]:
        """Wait for changes, and until there are no more of them; return the files.

        Args:
            prepare: Called before each look, to `add` directories.
        """
        changed: list[str] = []
        while True:
            prepare()
            more = self.changes()
            if changed and not more:
                return changed
            changed += [path for path in more if path not in changed]
            await asyncio.sleep(INTERVAL)


def _stamps(directory: str) -> dict[str, int]:
    """Return the times of the Python files in a directory; none if it is gone."""
    found: dict[str, int] = {}
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    with contextlib.suppress(OSError):  # an editor may be replacing it
                        found[entry.name] = entry.stat().st_mtime_ns
    except OSError:
        pass
    return found


# What a worker tells.


async def report_sources(say: Callable[[str, object], None]) -> None:
    """Say in which directories the imported modules are, and again when there are more."""
    said: set[str] = set()
    while True:
        if more := imported_directories() - said:
            say("sources", sorted(more))
            said |= more
        await asyncio.sleep(INTERVAL)


def imported_directories() -> set[str]:
    """Return the directories of all modules that have been imported, without libraries."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return _directories(files)


def failed_directories(error: BaseException) -> set[str]:
    """Return the directories of the modules that an exception has come through."""
    files: list[str | None] = []
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, SyntaxError):
            files.append(seen.filename)
        files += _files(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__
    return _directories(files)


def _files(frames: TracebackType | None) -> Iterable[str]:
    while frames is not None:
        yield frames.tb_frame.f_code.co_filename
        frames = frames.tb_next


def _directories(files: Iterable[str | None]) -> set[str]:
    found = {os.path.abspath(x) for x in files if isinstance(x, str) and x.endswith(".py")}
    return {os.path.dirname(x) for x in found if not x.startswith(_LIBRARIES) and os.path.exists(x)}
