"""Restores default signal handling in processes that a hook forks."""

import functools
import os
import signal
from collections.abc import Callable
from types import FrameType

_Handler = Callable[[int, FrameType | None], object] | signal.Handlers

_DEFAULTS: dict[str, _Handler] = {
    "SIGTERM": signal.SIG_DFL,
    "SIGHUP": signal.SIG_DFL,
    "SIGINT": signal.default_int_handler,
}


@functools.cache
def give_forks_their_signals() -> None:
    """Make a fork of this process end when it is terminated, and keep this process unaffected.

    An event loop's signal handler only writes to a socket, which the fork shares.  So before
    Python 3.12, signals sent to the fork reach this process; in all versions the fork ignores them.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_restore)


def _restore() -> None:
    signal.set_wakeup_fd(-1)
    for name, default in _DEFAULTS.items():
        number = getattr(signal, name)
        handler = signal.getsignal(number)
        if getattr(handler, "__module__", "").partition(".")[0] in ("asyncio", "uvloop"):
            signal.signal(number, default)
