"""The thread of the event loop that sessions belong to, and the way in for others."""

import asyncio
import concurrent.futures
import inspect
import logging
import threading
from collections.abc import Callable
from typing import TypeVar

logger = logging.getLogger("sockjs_aio")

T = TypeVar("T")


class LoopThread:
    """Remembers an event loop and its thread, once it has been told by `bind`."""

    __slots__ = ("is_debug", "_loop", "_thread")

    def __init__(self) -> None:
        self.is_debug = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None

    @property
    def is_bound(self) -> bool:
        """Whether the loop is known."""
        return self._loop is not None

    def bind(self) -> None:
        """Belong to the running event loop and its thread."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.is_debug = self._loop.get_debug()

    def check(self) -> None:
        """In asyncio's debug mode, make sure that this is the event loop's thread.

        Raises:
            RuntimeError: If it is another one.
        """
        if self.is_debug and threading.get_ident() != self._thread:
            raise RuntimeError(
                "sessions belong to the event loop's thread: from another one use "
                "router.call_threadsafe(connection.send, message)"
            )

    def call(
        self, function: Callable[..., T], *arguments: object
    ) -> "concurrent.futures.Future[T]":
        """See `SockJSRouter.call_threadsafe`."""
        if inspect.iscoroutinefunction(function):
            raise TypeError("call_threadsafe() takes a plain function, not a coroutine function")
        if self._loop is None:
            raise RuntimeError("call_threadsafe() is possible once the application has started")
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._loop.call_soon_threadsafe(_call, future, function, arguments)
        return future


def _call(
    future: "concurrent.futures.Future[T]",
    function: Callable[..., T],
    arguments: tuple[object, ...],
) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function(*arguments))
    except Exception as error:
        logger.exception("call_threadsafe: %r failed", function)
        future.set_exception(error)
