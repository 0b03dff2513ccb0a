"""Finds, reads and replaces files, whatever they contain."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sockjs_aio.migrate.settings_files import is_settings_file


def files_below(path: Path) -> Iterator[Path | OSError]:
    """Yield the files to examine at and below `path` in sorted order, and errors on the way.

    These are Python files, requirements and configuration files.  If `path` is a file itself, its
    name does not matter.  Below `path`, hidden directories, virtual environments, node_modules,
    __pycache__ and symbolic links are skipped.
    """
    if not os.path.isdir(path):
        yield path
        return
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        yield error
        return
    for entry in entries:
        below = path / entry.name
        if entry.is_dir(follow_symlinks=False):
            skipped = entry.name.startswith(".") or entry.name in {"node_modules", "__pycache__"}
            if not skipped and not os.path.exists(below / "pyvenv.cfg"):
                yield from files_below(below)
        elif not entry.is_symlink() and (
            entry.name.endswith(".py") or is_settings_file(str(below))
        ):
            yield below


def read_file(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: If it cannot be read, or is not a regular file: reading a pipe might never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a regular file")
    return path.read_bytes()


def replace_file(path: Path, content: bytes) -> None:
    """Replace the content of the file at `path` atomically, and keep its mode.

    Raises:
        OSError: If that fails; the file is then unchanged.
    """
    target = path.resolve()  # replace what a link points to, not the link
    descriptor, name = tempfile.mkstemp(prefix=".migrate-", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(target, name)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
