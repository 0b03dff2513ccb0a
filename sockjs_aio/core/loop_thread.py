"""The thread of the event loop that sessions belong to, and how other threads call into it."""

import asyncio
import concurrent.futures
import inspect
import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from sockjs_aio.core.process_exit import exit_soon

logger: logging.Logger = logging.getLogger("sockjs_aio")

T = TypeVar("T")

WRONG_THREAD = (
    "sessions belong to the event loop's thread: from another thread call "
    "router.call_threadsafe(connection.send, message)"
)
"""The error of calls from another thread, where they can be told without a check."""


class LoopThread:
    """Remembers the event loop and thread in which `bind` was called."""

    __slots__ = ("is_debug", "time", "_loop", "_thread")

    def __init__(self) -> None:
        self.is_debug: bool = False
        self.time: Callable[[], float] = _running_loops_time
        """The clock of the event loop.

        Micro-optimisation: up to Python 3.11, `asyncio.get_running_loop` asks the kernel for the
        id of the process each time.
        """
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None

    @property
    def is_bound(self) -> bool:
        """True once `bind` was called."""
        return self._loop is not None

    def bind(self) -> None:
        """Remember the running event loop and the current thread."""
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self._thread = threading.get_ident()
        self.is_debug = self._loop.get_debug()

    def check(self) -> None:
        """Check that this is the event loop's thread.

        Raises:
            RuntimeError: If it is another thread.
        """
        if self.is_bound and threading.get_ident() != self._thread:
            raise RuntimeError(WRONG_THREAD)

    def call(
        self, function: Callable[..., T], *arguments: object
    ) -> "concurrent.futures.Future[T]":
        """See `SockJSRouter.call_threadsafe`."""
        if inspect.iscoroutinefunction(function):
            raise TypeError(
                "call_threadsafe() takes a plain function: for a coroutine function use "
                "asyncio.run_coroutine_threadsafe()"
            )
        if self._loop is None:
            raise RuntimeError("call_threadsafe() works only once the application has started")
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._loop.call_soon_threadsafe(_call, future, function, arguments)
        return future


def _running_loops_time() -> float:
    return asyncio.get_running_loop().time()


def _call(
    future: "concurrent.futures.Future[T]",
    function: Callable[..., T],
    arguments: tuple[object, ...],
) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function(*arguments)
    except (KeyboardInterrupt, SystemExit) as error:
        future.set_exception(error)
        exit_soon(error)
    except BaseException as error:  # also CancelledError: the other thread may wait for ever
        logger.exception("call_threadsafe: %r failed", function)
        future.set_exception(error)
    else:
        future.set_result(result)
