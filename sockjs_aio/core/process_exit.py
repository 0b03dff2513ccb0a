"""Lets the application's code end the process, but not in the middle of a shutdown.

`sys.exit()` in a hook stops the event loop.  What runs the application then closes the sessions and
cleans up, in the same loop.  If a `SystemExit` stopped the loop again, it would cut that off.  So
one that comes during a shutdown is put off until the loop closes its asynchronous generators:
`asyncio.run` and `run_app` have it do so last.
"""

import asyncio
import contextlib
import math
import os
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import NoReturn
from weakref import WeakKeyDictionary

SPAN = 1.0
"""Seconds within which a program that was told to exit begins its shutdown."""

TURNS = 10
"""Loop iterations after which a shutdown that a signal has asked for is known here."""

AFTER = 30.0
"""Seconds for what a program still does after a shutdown, before an exit that was put off."""

_PROCESS = os.getpid()
"""The process that has imported this."""

_INTERRUPTED = 130
"""The exit status of a fork that ends by Ctrl-C."""

_exits: WeakKeyDictionary[asyncio.AbstractEventLoop, "_Exits"] = WeakKeyDictionary()


@contextlib.contextmanager
def shutting_down() -> Iterator[None]:
    """Put exits off meanwhile, and for `AFTER` seconds more."""
    loop = asyncio.get_running_loop()
    exits = _exits_of(loop)
    exits.shutdown_begins(loop.time())
    try:
        yield
    finally:
        exits.shutdown_ends(loop.time())


def exit_soon(error: BaseException, let_go: Callable[[], object] | None = None) -> None:
    """Stop the event loop in a moment with `error`, which the application's code has raised.

    Raised here, uvloop would take it for an error of the connection, and asyncio for one of the
    task.  It waits for `TURNS` because a signal may just have asked for a shutdown.

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
    loop.call_soon(_exit_in, loop, TURNS, error, let_go)


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
    loop: asyncio.AbstractEventLoop,
    turns: int,
    error: BaseException,
    let_go: Callable[[], object] | None,
) -> None:
    if turns > 1:
        loop.call_soon(_exit_in, loop, turns - 1, error, let_go)
        return
    if let_go is not None:
        let_go()
    _exits_of(loop).exit(error)


def _exits_of(loop: asyncio.AbstractEventLoop) -> "_Exits":
    exits = _exits.get(loop)
    if exits is None:
        exits = _exits[loop] = _Exits()
    return exits


class _Exits:
    """The exits that were asked for in one event loop, and the shutdowns in it.

    An exit stops the loop, or waits; the first one since a shutdown began counts.
    """

    def __init__(self) -> None:
        self._shutdowns = 0
        self._began_at = -math.inf
        self._ended_at = -math.inf
        self._exited_at = -math.inf
        self._noted: SystemExit | None = None
        self._at_the_end: AsyncGenerator[None, None] | None = None

    def shutdown_begins(self, now: float) -> None:
        if self._patience(now) <= 0:
            self._began_at = now
        self._shutdowns += 1

    def shutdown_ends(self, now: float) -> None:
        self._shutdowns -= 1
        self._ended_at = now

    def note(self, error: BaseException, now: float) -> None:
        """Exit with `error` when the event loop ends, if not earlier, unless it comes too late."""
        asked_at = self._began_at if self._patience(now) > 0 else now
        if (
            isinstance(error, SystemExit)
            and self._noted is None
            and asked_at - self._exited_at >= SPAN
        ):
            self._noted = error
            self._await_the_end()

    def exit(self, error: BaseException) -> None:
        """Raise `error` if it was noted and no shutdown is under way, or if it is no SystemExit."""
        if not isinstance(error, SystemExit):  # but Ctrl-C, which means at once
            self._exit(error)
        if error is not self._noted:
            return
        loop = asyncio.get_running_loop()
        patience = self._patience(loop.time())
        if patience > 0:
            loop.call_later(patience, self.exit, error)
        else:
            self._exit(error)

    def _patience(self, now: float) -> float:
        """Return for how many more seconds exits are put off, at least."""
        return AFTER if self._shutdowns else self._ended_at + AFTER - now

    def _await_the_end(self) -> None:
        if self._at_the_end is None:
            self._at_the_end = self._exit_at_the_end()
            with contextlib.suppress(StopIteration):
                self._at_the_end.asend(None).send(None)  # from now on the loop knows it

    async def _exit_at_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if self._noted is not None:  # not raised here: it would be an error of a task
                asyncio.get_running_loop().call_soon(self._exit, self._noted)

    def _exit(self, error: BaseException) -> NoReturn:
        self._exited_at = asyncio.get_running_loop().time()
        self._noted = None
        raise error
