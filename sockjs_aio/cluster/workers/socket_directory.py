"""The directory of the workers' sockets, and what is left of one whose processes were killed."""

import contextlib
import errno
import os
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":  # where there are no workers, but this can be imported
    import fcntl

MAX_PATH = 107 if sys.platform == "linux" else 103
"""Maximum length in bytes of a Unix socket's path."""

_PREFIX = "sockjs-aio-"

_LONGEST_NAME = "/9999.9999999"

_NEW = 60.0
"""Seconds for which an empty directory may belong to a supervisor that is starting."""


@contextlib.contextmanager
def socket_directory() -> Iterator[str]:
    """Make a directory that only this user can enter, and remove it afterwards.

    This also removes the directories of this user's services whose processes were all killed.  The
    lock tells that a directory is in use; the kernel releases it when this process ends.

    Raises:
        OSError: If no directory with a short enough path can be made.
    """
    directory = _make()
    _remove_leftovers(Path(directory).parent)
    try:
        with _locked(directory):
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _make() -> str:
    wanted = tempfile.gettempdir()
    for place in dict.fromkeys((wanted, "/tmp")):
        with contextlib.suppress(OSError):
            directory = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
            if len(os.fsencode(directory + _LONGEST_NAME)) <= MAX_PATH:
                return directory
            os.rmdir(directory)
    raise OSError(
        f"cannot make a directory for the workers' sockets: in {wanted} its path is too long, and "
        "/tmp cannot be used; set TMPDIR to a directory with a shorter path"
    )


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Hold the lock of a directory.

    Raises:
        OSError: If another process has it, or the file system has no locks.
    """
    number = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(number)


def _remove_leftovers(place: Path) -> None:
    for path in place.glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):  # somebody else's, or in use, or being removed
            about = path.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
                continue
            with _locked(str(path)):
                files = list(path.iterdir())
                # without their supervisor, workers live on for a while, to drain
                is_used = not all(map(is_dead, files))
                # sockets come after the lock, so an empty directory may be locked soon
                is_new = not files and time.time() - about.st_mtime < _NEW
                if not (is_used or is_new):
                    shutil.rmtree(path)


def is_dead(path: Path) -> bool:
    """Tell whether no process listens at `path`, or it is not a socket."""
    if not path.is_socket():  # its path may also be too long for one
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) == errno.ECONNREFUSED
