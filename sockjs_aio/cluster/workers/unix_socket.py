"""A Unix socket at a path: who may connect, and what is left of it when its process was killed."""

import errno
import os
import shutil
import socket
import stat
from dataclasses import dataclass

UNIX_MODE = 0o666
"""Anyone may connect who can enter the directory: the proxy may run as another user."""

_NOBODY = 0o177
"""The umask that lets nobody else connect until owner and permissions are set."""


@dataclass(frozen=True)
class UnixSocket:
    """Where to listen, and who may connect.

    Args:
        path: Its path.
        mode: Its permissions.
        owner: ``user``, ``user:group`` or ``:group``, by name or number; None for this process's.

    Raises:
        ValueError: If `mode` or `owner` cannot be.
    """

    path: str
    mode: int = UNIX_MODE
    owner: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.mode <= 0o777:
            raise ValueError(f"unix_mode={self.mode:#o} must be permissions, 0 to 0o777")
        if self.owner is not None and not self.owner.strip(":"):
            raise ValueError(f"unix_owner={self.owner!r} must be user, user:group or :group")

    def listen(self, backlog: int) -> socket.socket:
        """Return the socket, which listens.

        Raises:
            OSError: If another process listens there, something else is there, or the owner cannot
                be set.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.remove()
            umask = os.umask(_NOBODY)
            try:
                listener.bind(self.path)
            finally:
                os.umask(umask)
            self._set_owner()
            os.chmod(self.path, self.mode)
            listener.listen(backlog)
        except OSError as error:
            listener.close()
            raise OSError(f"cannot listen at {self.path}: {error.strerror or error}") from None
        return listener

    def remove(self) -> None:
        """Remove it if no process listens: a killed one may have left it."""
        try:
            if not stat.S_ISSOCK(os.stat(self.path).st_mode):
                return
        except FileNotFoundError:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            if probe.connect_ex(self.path) == errno.ECONNREFUSED:
                os.unlink(self.path)

    def _set_owner(self) -> None:
        if self.owner is None:
            return
        user, _, group = map(_id_or_name, self.owner.partition(":"))
        try:
            if user != "":
                shutil.chown(self.path, user=user)
            if group != "":
                shutil.chown(self.path, group=group)
        except (LookupError, OSError) as error:
            self.remove()
            why = getattr(error, "strerror", None) or str(error).strip("'\"")
            raise OSError(f"cannot change its owner to {self.owner}: {why}") from None


def _id_or_name(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text
