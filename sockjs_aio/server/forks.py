"""Keeps processes that a hook forks apart from this one: from its signals and its connections."""

import contextlib
import functools
import inspect
import os
import signal
import socket
import weakref
from collections.abc import Callable, Iterator
from types import FrameType

_Handler = Callable[[int, FrameType | None], object] | signal.Handlers

_DEFAULTS: dict[str, _Handler] = {
    "SIGTERM": signal.SIG_DFL,
    "SIGHUP": signal.SIG_DFL,
    "SIGINT": signal.default_int_handler,
}

_OURS = ("asyncio", "uvloop", "sockjs_aio")
"""Packages whose signal handlers are not for forks."""

_kept: "weakref.WeakSet[socket.socket]" = weakref.WeakSet()
_listeners: set[object] = set()
_directories: set[str] = set()
_services = 0  # how many of them this process runs; a fork of it runs none


@contextlib.contextmanager
def forks_apart() -> Iterator[None]:
    """Make forks of this process handle their own signals, and leave its connections alone.

    An event loop's signal handler only writes to a socket, which the fork shares.  So before
    Python 3.12, signals sent to the fork reach this process; in all versions the fork ignores them.

    A fork also shares all sockets.  If this process is killed, none of them would be closed before
    the fork ends: clients would never learn that their sessions are lost, and new connections would
    wait for ever.

    Forks of a fork share what they like, unless that uses this too.
    """
    global _services
    _services += 1
    _register()
    try:
        yield
    finally:
        _services = max(_services - 1, 0)  # in a fork that ends here it is 0


@functools.cache
def _register() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_restore)


def keep_from_forks(connection: socket.socket) -> None:
    """Let no fork share a connection that this process has made."""
    _kept.add(connection)


def keep_listener_from_forks(listener: socket.socket) -> None:
    """Let no fork share a listener, even if it does not listen yet, nor what it has accepted.

    Those connections may still be there when the listener is closed.
    """
    _kept.add(listener)
    name = _name(listener)
    if name:
        _listeners.add(name)


def keep_listeners_from_forks() -> None:
    """Do so for all listeners that event loops of this process have now."""
    with contextlib.suppress(OSError):  # no /dev/fd, as on Windows
        _listeners.update(name for _, name, listens, _ in _all_sockets() if listens)


def keep_directory_from_forks(directory: str) -> None:
    """Let no fork share connections to or from the Unix sockets in a directory."""
    _directories.add(directory)


def _restore() -> None:
    signal.set_wakeup_fd(-1)
    for name, default in _DEFAULTS.items():
        number = getattr(signal, name)
        handler = signal.getsignal(number)
        # a method of a class in C has None
        if str(getattr(handler, "__module__", None)).partition(".")[0] in _OURS:
            signal.signal(number, default)
    global _services
    was_serving, _services = _services > 0, 0
    if was_serving and not _starts_program(inspect.currentframe()):
        with contextlib.suppress(OSError):
            _leave_connections()


def _starts_program(hook: FrameType | None) -> bool:
    """Tell whether this fork only becomes another program, which gets what is passed to it.

    `subprocess` runs the hook if there is a `preexec_fn`.  uvloop always does; no Python code calls
    it then, but its libuv has blocked all signals.
    """
    caller = None if hook is None else hook.f_back
    if caller is not None and caller.f_globals.get("__name__") == "subprocess":
        return True
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return blocked >= {signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGALRM}


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
    sockets = _all_sockets()
    listening = _listeners | {name for _, name, listens, _ in sockets if listens}
    kept = {connection.fileno() for connection in _kept}
    return {
        number
        for number, name, _, is_kept in sockets
        if is_kept or name in listening or number in kept
    }


def _all_sockets() -> list[tuple[int, object, bool, bool]]:
    # with a default timeout, looking at a socket would make it non-blocking, here and in the parent
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(None)
    try:
        return list(_sockets())
    finally:
        socket.setdefaulttimeout(timeout)


def _sockets() -> Iterator[tuple[int, object, bool, bool]]:
    """Yield each socket's file descriptor, and what `_look` returns."""
    for number in map(int, os.listdir("/dev/fd")):
        try:
            shown = socket.SocketType(fileno=number)  # faster than `socket.socket`
        except OSError:  # something else; or the directory itself, which is closed by now
            continue
        try:
            look = _look(shown)
        except OSError:  # a kind that does not tell: one of the application's
            continue
        finally:
            shown.detach()
        yield number, *look


def _look(shown: socket.SocketType) -> tuple[object, bool, bool]:
    """Return a socket's name, whether an event loop listens there, and whether it must be kept."""
    name = _name(shown)
    is_unix = shown.family == socket.AF_UNIX
    is_kept = is_unix and (_is_kept(name) or _is_kept(_peer(shown)))
    return name, name is not None and _listens(shown), is_kept


def _name(shown: socket.SocketType) -> object:
    """Return a stream socket's name; None for others.

    For TCP, it is only the port, because a listener may have no address.
    """
    name = shown.getsockname()
    if not isinstance(name, tuple):
        return name
    return name[1] if shown.type == socket.SOCK_STREAM else None


def _listens(shown: socket.SocketType) -> bool:
    try:
        listens = shown.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:  # macOS does not tell
        return False
    return bool(listens) and not os.get_blocking(shown.fileno())


def _peer(shown: socket.SocketType) -> object:
    try:
        return shown.getpeername()
    except OSError:
        return None


def _is_kept(name: object) -> bool:
    return isinstance(name, str) and os.path.dirname(name) in _directories
