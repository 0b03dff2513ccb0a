"""Lets the application's code end the process, but not in the middle of a shutdown.

`sys.exit()` in a hook stops the event loop.  What runs the application then closes the sessions and
cleans up, in the same loop.  If a `SystemExit` stopped the loop again, it would cut that off.  So
one that comes during a shutdown waits until the loop closes its asynchronous generators, which
`asyncio.run` and `run_app` have it do once all tasks have ended, or until `AFTER` has passed since
the shutdown.  Exits that come while the program ends because of another one are dropped.
"""

import asyncio
import contextlib
import math
import os
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import NoReturn
from weakref import WeakKeyDictionary

REST = 1.0
"""Seconds after a shutdown in which exits still wait: tasks of the program may be ending."""

TURNS = 10
"""Loop iterations after which a shutdown that a signal has asked for is known here."""

AFTER = 30.0
"""Seconds in which a program should end after an exit, or after a shutdown in which one waits."""

_PROCESS = os.getpid()
"""The process that has imported this."""

_INTERRUPTED = 130
"""The exit status of a fork that ends by Ctrl-C."""

_exits: WeakKeyDictionary[asyncio.AbstractEventLoop, "_Exits"] = WeakKeyDictionary()


@contextlib.contextmanager
def shutting_down(rest: float = REST) -> Iterator[None]:
    """Have exits wait meanwhile, and for `rest` seconds more; if one waits, for `AFTER` more.

    If other shutdowns go on, the last one's `rest` counts.
    """
    loop = asyncio.get_running_loop()
    exits = _exits_of(loop)
    exits.shutdown_begins()
    try:
        yield
    finally:
        exits.shutdown_ends(loop.time(), rest)


def exit_soon(error: BaseException, let_go: Callable[[], object] | None = None) -> None:
    """Stop the event loop in a moment with `error`, which the application's code has raised.

    Raised here, uvloop would take it for an error of the connection, and asyncio for one of the
    task.  `TURNS` pass before that, because a signal may just have asked for a shutdown.

    If a hook has forked this process, it ends at once: the event loop is the parent's.

    Args:
        error: A `SystemExit` or `KeyboardInterrupt`.
        let_go: Called just before.

    Raises:
        BaseException: `error`, if no event loop runs.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        if os.getpid() != _PROCESS:
            _end_fork(error)
        raise error from None
    _exits_of(loop).note(error, loop.time())
    loop.call_soon(_exit_in, TURNS, loop, error, let_go)


def _end_fork(error: BaseException) -> NoReturn:
    """End this process without its parent's cleanup, with the status that `error` means."""
    code = error.code if isinstance(error, SystemExit) else _INTERRUPTED
    status = (code or 0) & 0xFF if isinstance(code, int | None) else 1
    with contextlib.suppress(Exception):
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _exit_in(
    turns: int,
    loop: asyncio.AbstractEventLoop,
    error: BaseException,
    let_go: Callable[[], object] | None,
) -> None:
    if turns > 1:
        loop.call_soon(_exit_in, turns - 1, loop, error, let_go)
        return
    if let_go is not None:
        let_go()
    _exits_of(loop).exit_or_wait(error)


def _exits_of(loop: asyncio.AbstractEventLoop) -> "_Exits":
    exits = _exits.get(loop)
    if exits is None:
        exits = _exits[loop] = _Exits()
    return exits


class _Exits:
    """The exits that were asked for in one event loop, and the shutdowns in it."""

    def __init__(self) -> None:
        self._shutdowns = 0
        self._rests_until = -math.inf
        self._exited_at = -math.inf
        self._noted: SystemExit | None = None
        self._last: AsyncGenerator[None, None] | None = None

    def shutdown_begins(self) -> None:
        self._shutdowns += 1

    def shutdown_ends(self, now: float, rest: float) -> None:
        self._shutdowns -= 1
        if not self._shutdowns:
            rest = rest if self._noted is None else AFTER
            self._rests_until = max(self._rests_until, now + rest)

    def note(self, error: BaseException, now: float) -> None:
        """Keep the first exit, so that the program gets its status even if it ends right now."""
        # an exit was raised, and the program is probably still ending
        has_exited = self._exited_at > -math.inf and (
            self._patience(now) > 0 or now < self._exited_at + AFTER
        )
        if isinstance(error, SystemExit) and self._noted is None and not has_exited:
            self._noted = error
            self._wait_for_the_end()

    def exit_or_wait(self, error: BaseException) -> None:
        """Raise `error`, or let a shutdown end first; only a SystemExit that was noted counts."""
        if not isinstance(error, SystemExit):  # but Ctrl-C, which means at once
            self._exit(error)
        if error is self._noted:
            loop = asyncio.get_running_loop()
            patience = self._patience(loop.time())
            if patience <= 0:
                self._exit(error)
            loop.call_later(patience, self.exit_or_wait, error)

    def _patience(self, now: float) -> float:
        """Return for how many more seconds exits wait, at least."""
        return AFTER if self._shutdowns else self._rests_until - now

    def _wait_for_the_end(self) -> None:
        if self._last is None:
            self._last = self._exit_with_the_loop()
            with contextlib.suppress(StopIteration):
                self._last.asend(None).send(None)  # from now on the loop knows it

    async def _exit_with_the_loop(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._last = None
            # not from here: it would be an error of the task that closes this generator
            asyncio.get_running_loop().call_soon(self._exit_at_last)

    def _exit_at_last(self) -> None:
        if self._noted is not None:
            self._exit(self._noted)

    def _exit(self, error: BaseException) -> NoReturn:
        loop = asyncio.get_running_loop()
        self._exited_at = loop.time()
        self._noted = None
        _log_failure(loop)
        raise error


def _log_failure(loop: asyncio.AbstractEventLoop) -> None:
    """Log the error with which the program just ends, if there is one: nobody would see it.

    It may also be one in whose ``except`` block the event loop was started.
    """
    failure = sys.exc_info()[1]
    if isinstance(failure, Exception):
        message = "an exit ends the program while it ends with this error, or handles it"
        loop.call_exception_handler({"message": message, "exception": failure})
