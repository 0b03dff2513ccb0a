"""Keeps processes that a hook forks apart from this one: from its signals and its connections."""

import contextlib
import functools
import inspect
import os
import signal
import socket
import stat
import weakref
from collections.abc import Callable, Iterator
from types import FrameType

_Handler = Callable[[int, FrameType | None], object] | signal.Handlers

_DEFAULTS: dict[str, _Handler] = {
    "SIGTERM": signal.SIG_DFL,
    "SIGHUP": signal.SIG_DFL,
    "SIGINT": signal.default_int_handler,
}

# With a `preexec_fn`, and in uvloop always, they call what forks must do.  The new program gets
# only what is passed to it.
_STARTERS_OF_PROGRAMS = {"subprocess", "asyncio.subprocess"}

_kept: "weakref.WeakSet[socket.socket]" = weakref.WeakSet()
_directories: set[str] = set()
_services = 0  # how many of them this process runs; a fork of it runs none


def keep_forks_apart() -> None:
    """Make forks of this process handle their own signals, and leave its connections alone.

    An event loop's signal handler only writes to a socket, which the fork shares.  So before
    Python 3.12, signals sent to the fork reach this process; in all versions the fork ignores them.

    A fork also shares all sockets.  If this process is killed, none of them would be closed before
    the fork ends: clients would never learn that their sessions are lost, and new connections would
    wait for ever.

    Forks of a fork share what they like, unless that calls this too.
    """
    global _services
    _services += 1
    _register()


def let_forks_share() -> None:
    """Leave connections to forks again: the service has ended that has called the former."""
    global _services
    _services = max(_services - 1, 0)


@functools.cache
def _register() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_restore)


def keep_from_forks(connection: socket.socket) -> None:
    """Let no fork share a connection that this process has made."""
    _kept.add(connection)


def keep_directory_from_forks(directory: str) -> None:
    """Let no fork share connections to or from the Unix sockets in a directory."""
    _directories.add(directory)


def _restore() -> None:
    signal.set_wakeup_fd(-1)
    for name, default in _DEFAULTS.items():
        number = getattr(signal, name)
        handler = signal.getsignal(number)
        if getattr(handler, "__module__", "").partition(".")[0] in ("asyncio", "uvloop"):
            signal.signal(number, default)
    global _services
    was_serving, _services = _services > 0, 0
    if was_serving and not _starts_program(inspect.currentframe()):
        with contextlib.suppress(OSError):
            _leave_connections()


def _starts_program(hook: FrameType | None) -> bool:
    caller = None if hook is None else hook.f_back
    return caller is not None and caller.f_globals.get("__name__") in _STARTERS_OF_PROGRAMS


def _leave_connections() -> None:
    """Close listeners, connections that they have accepted, and what must be kept from forks.

    All sockets of an event loop are non-blocking.  One that blocks is the application's own, and
    may be for this very fork.

    Their file descriptors are not freed but lead to /dev/null.  Otherwise, objects that the fork
    has inherited could close whatever has been given the same number by then.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        for number in _shared():
            os.dup2(nothing, number, inheritable=False)
    finally:
        os.close(nothing)


def _shared() -> set[int]:
    # with a default timeout, looking at a socket would make it non-blocking, here and in the parent
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(None)
    try:
        sockets = {number: _names(number) for number in _sockets()}
    finally:
        socket.setdefaulttimeout(timeout)
    listening = {own for own, _, listens in sockets.values() if listens}
    kept = {connection.fileno() for connection in _kept}
    return {
        number
        for number, (own, other, _) in sockets.items()
        if number in kept or own in listening or _is_kept(own) or _is_kept(other)
    }


def _sockets() -> Iterator[int]:
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the directory itself is closed by now
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                yield int(name)


def _names(number: int) -> tuple[object, object, bool]:
    """Return a socket's own name, that of the other side, and whether an event loop listens there.

    For TCP, the own name is only the port, because a listener may have no address.
    """
    shown = socket.socket(fileno=number)
    try:
        own, other = _name(shown.getsockname), _name(shown.getpeername)
        listens = bool(shown.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        listens = listens and not os.get_blocking(number)
        if isinstance(own, tuple) and shown.type == socket.SOCK_STREAM:
            own = own[1]
        return own, other, listens
    except OSError:
        return None, None, False
    finally:
        shown.detach()


def _name(ask: Callable[[], object]) -> object:
    try:
        return ask() or None  # a Unix socket may have none
    except OSError:
        return None


def _is_kept(name: object) -> bool:
    return isinstance(name, str) and os.path.dirname(name) in _directories
