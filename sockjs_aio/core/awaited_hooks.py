"""Calls the hooks of a session that another one carries: a channel of `multiplex`.

They run in the carrier's hooks, which await them, so the carrier's task is theirs too.  Only
`on_close` may have to run by itself: if the server closes a channel while no hook runs, or if the
carrier ends with several channels, none of which waits for another.
"""

import asyncio
from collections.abc import Callable
from operator import methodcaller
from typing import Any

from sockjs_aio.cancellations import Cancellations
from sockjs_aio.connection import SockJSConnection
from sockjs_aio.core.hook_task import Rest
from sockjs_aio.core.hooked_session import HookedSession
from sockjs_aio.core.hooks import CALL_ON_CLOSE, Hooks
from sockjs_aio.protocol.ends import GO_AWAY


class AwaitedHooks(Hooks):
    """Runs hooks in the task that awaits them."""

    __slots__ = ("_end",)

    is_running: bool
    is_cancelled: bool

    def __init__(self, session: HookedSession) -> None:
        super().__init__(session)
        self._end: asyncio.Future[None] | None = None  # of an `on_close` that runs by itself

    async def open(self) -> None:
        """Call `on_open`; close the session if it returns False or fails.

        If the session has ended already, no hook is ever called.
        """
        if self._session.close_info is not None:
            self.discard()
            return
        self._opened = True
        if await self._call("on_open", methodcaller("on_open", self._session.info)) is False:
            self._session.close(GO_AWAY.code, GO_AWAY.reason)

    async def message(self, message: str | bytes) -> None:
        """Call `on_message`; close the session if it fails."""
        await self._call("on_message", methodcaller("on_message", message))

    async def gap(self, channel: str) -> None:
        """Call `on_gap`; close the session if it fails."""
        await self._call("on_gap", methodcaller("on_gap", channel))

    async def finish(self) -> None:
        """Have `on_close` called, or wait for it if it is being called."""
        if self._end is not None:
            if not self._end.done():
                await asyncio.wait([self._end])
        elif self._opened and not self._closed:
            self._closed = True
            await self._call("on_close", CALL_ON_CLOSE)

    def _resume_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Call `on_close` outside of the carrier's hooks, or note that it has returned."""
        if self.is_running:
            return
        if self._opened and not self._closed and not self._session.is_open:
            self._end = asyncio.get_running_loop().create_future()
            self.close_now()
        if self._end is not None and not (self.is_running or self._end.done()):
            self._end.set_result(None)
            self._session.hooks_returned()

    async def _call(self, name: str, call: Callable[[SockJSConnection], Any]) -> Any:
        """Call a hook of the connection and await it in this task, but in the session's context."""
        cancellations = Cancellations()
        result, rest = None, None
        self.is_running = True
        try:
            coroutine, awaited = self.context.run(
                self._started, name, call, self._session.connection
            )
            rest = Rest(self.context, coroutine, awaited)
            result = await rest
        except StopIteration as finished:  # it returned without waiting
            result = finished.value
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # also CancelledError: what it awaited, or it itself
            if rest is not None and rest.is_given_up:
                raise
            self._fail(name, error)
        finally:
            self.is_running = self.is_cancelled = False
        await cancellations.forget_later_ones()
        return result
