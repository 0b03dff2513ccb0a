"""Lets the application's code end the process, but not in the middle of a shutdown.

`sys.exit()` in a hook stops the event loop.  What runs the application then closes the sessions and
cleans up, in the same loop.  If a `SystemExit` stopped the loop again, it would cut that off.  So
one that comes during a shutdown is put off until the task that shuts down has ended, or has gone on
for long afterwards.
"""

import asyncio
import contextlib
import gc
import math
import os
import sys
from collections.abc import Callable
from types import AsyncGeneratorType, CodeType, CoroutineType, FunctionType
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

SPAN = 1.0
"""Seconds within which a program that was told to exit begins its shutdown."""

TURNS = 10
"""Loop iterations after which a shutdown that a signal has asked for is known here."""

AFTER = 10.0
"""Seconds for what a program still does after a shutdown, before an exit that was put off."""

_PROCESS = os.getpid()
"""The process that has imported this."""

_INTERRUPTED = 130
"""The exit status of a fork that ends by Ctrl-C."""

_WRAPPERS = {"async_generator_asend", "async_generator_athrow", "coroutine_wrapper"}
"""Types of what runs an asynchronous generator or a coroutine, but does not tell which."""

_exits: WeakKeyDictionary[asyncio.AbstractEventLoop, "_Exits"] = WeakKeyDictionary()


def shutdown_begins(*functions: Callable[..., Any]) -> None:
    """Put exits off while the current task is inside one of these coroutine functions.

    So they are while another task is, which may wait for the current one.
    """
    task = asyncio.current_task()
    if task is not None:
        codes = {each.__code__ for each in functions if isinstance(each, FunctionType)}
        exits = _exits_of(asyncio.get_running_loop())
        exits.shutdowns.setdefault(task, set()).update(codes)
        exits.codes |= codes


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
    _exits_of(loop).exit(error, loop.time())


def _exits_of(loop: asyncio.AbstractEventLoop) -> "_Exits":
    exits = _exits.get(loop)
    if exits is None:
        exits = _exits[loop] = _Exits()
    return exits


class _Exits:
    """The exits that were asked for in one event loop."""

    def __init__(self) -> None:
        self.shutdowns: WeakKeyDictionary[asyncio.Task[Any], set[CodeType]] = WeakKeyDictionary()
        """The tasks that shut a service down, and the code of the functions that do it."""
        self.codes: set[CodeType] = set()
        """The code of all these functions."""
        self._exited_at = -math.inf
        self._put_off: BaseException | None = None

    def exit(self, error: BaseException, now: float) -> None:
        """Raise `error`, now or after the shutdown; the first status that was asked for counts."""
        if isinstance(error, SystemExit):  # not Ctrl-C, which means at once
            if now - self._exited_at < SPAN:
                return
            task = self._shutting_down()
            if task is not None:
                if self._put_off is None and self._exited_at == -math.inf:
                    self._put_off = error
                    task.add_done_callback(self._exit_at_last)
                    self._watch(now)
                return
        self._exited_at = now
        self._put_off = None
        raise error

    def _watch(self, shut_down_at: float) -> None:
        """Exit if the last shutdown ended long ago and the program still goes on."""
        if self._put_off is None:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._shutting_down() is not None:
            shut_down_at = now
        if now - shut_down_at >= AFTER:
            self._exited_at = now
            error, self._put_off = self._put_off, None
            raise error
        loop.call_later(1, self._watch, shut_down_at)

    def _exit_at_last(self, _ended: object) -> None:
        task, error = self._shutting_down(), self._put_off
        if task is not None:  # another one, of another service
            task.add_done_callback(self._exit_at_last)
        elif error is not None:
            self._exited_at = asyncio.get_running_loop().time()
            self._put_off = None
            raise error

    def _shutting_down(self) -> "asyncio.Task[Any] | None":
        for task, codes in list(self.shutdowns.items()):
            if not task.done() and _is_inside(task, codes):
                return task
            del self.shutdowns[task]
        for task in asyncio.all_tasks() if self.codes else ():
            if _is_inside(task, self.codes):
                self.shutdowns[task] = self.codes
                return task
        return None


def _is_inside(task: "asyncio.Task[Any]", codes: set[CodeType]) -> bool:
    """Tell whether a task, which waits, is inside a coroutine function with one of these codes."""
    awaited: Any = task.get_coro()
    while awaited is not None:
        if getattr(awaited, "cr_code", None) in codes:
            return True
        awaited = _awaited_by(awaited)
    return False


def _awaited_by(awaiting: Any) -> Any:
    if type(awaiting).__name__ in _WRAPPERS:
        known = (CoroutineType, AsyncGeneratorType)
        return next((each for each in gc.get_referents(awaiting) if isinstance(each, known)), None)
    found = (getattr(awaiting, name, None) for name in ("cr_await", "ag_await", "gi_yieldfrom"))
    return next(filter(None, found), None)
