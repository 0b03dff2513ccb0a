"""Ends all sessions of a registry, spread over a time or at once.

`server/run_app.py` and `server/drain.py` say when.
"""

import asyncio
import math
from collections.abc import Callable, Collection
from typing import Protocol

import async_timeout

from sockjs_aio.core.session import Session
from sockjs_aio.errors import BodyTimeoutError
from sockjs_aio.protocol.ends import SERVICE_RESTART
from sockjs_aio.settings import Settings
from sockjs_aio.turns import Turn

CLOSE_FRAME_TRAVEL = 1.0
"""Seconds that a close frame may take to reach its client, even through proxies."""

BATCH_INTERVAL = 0.05
"""Seconds between two batches of sessions that `drain` closes."""

LAST_GRACE = 1.0
"""Seconds that `on_close` gets after shutdown has cancelled the hook before it."""


class Upload(Protocol):
    """A request's body that is still arriving, while the request's handler waits for it."""

    def set_exception(self, exc: BaseException) -> None:
        """Make the wait fail with `exc`."""


class Closing:
    """The end of a service.  Once it has begun, no session can be opened.

    Args:
        sessions: The registry's own collection of its sessions, which changes.
        settings: The router's settings.
    """

    __slots__ = ("is_begun", "is_announced", "uploads", "_sessions", "_timeout", "_changed")

    def __init__(self, sessions: Collection[Session], settings: Settings) -> None:
        self.is_begun: bool = False
        self.is_announced: bool = False
        self.uploads: set[Upload] = set()  # request bodies that are still arriving
        self._sessions = sessions
        self._timeout = settings.shutdown_timeout
        self._changed: asyncio.Future[None] | None = None

    @property
    def is_draining(self) -> bool:
        """True while load balancers should send no new clients."""
        return self.is_begun or self.is_announced

    async def drain(self, over: float) -> None:
        """Close all sessions, spread over `over` seconds; wait until all are told and have ended.

        Then it waits a moment more: clients that the close frame has not reached yet may still send
        messages, and must find this process.
        """
        self.is_begun = True
        await self._close_all(over)
        await self._until(lambda session: session.is_over and session.is_told, self._timeout)
        told = [session.told_at for session in self._sessions if session.told_at is not None]
        if told:
            await asyncio.sleep(max(told) + CLOSE_FRAME_TRAVEL - _now())

    async def shutdown(self) -> None:
        """Close all sessions at once, and wait for them to end.

        After `shutdown_timeout` seconds, running hooks are cancelled and remaining connections are
        cut.  `on_close` is still called, and is cancelled if it does not return soon.
        """
        self.is_begun = True
        await self._close_all(0)
        for upload in self.uploads:  # their sessions are closed
            upload.set_exception(BodyTimeoutError("the server is shutting down"))
        if not await self._until(_is_over, self._timeout):
            await self._abort()
            if not await self._until(_is_over, LAST_GRACE):
                await self._abort()
                await self._until(_is_over, LAST_GRACE)

    def session_changed(self) -> None:
        """Check again whether all sessions have ended, if something waits for that."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def _close_all(self, over: float) -> None:
        sessions = list(self._sessions)
        start, closed = _now(), 0
        turn = Turn()
        while True:
            elapsed = _now() - start
            due = math.ceil(len(sessions) * elapsed / over) if elapsed < over else len(sessions)
            while closed < due:
                sessions[closed].close(*SERVICE_RESTART)
                closed += 1
                if turn.is_over:
                    await turn.next()
            while closed < len(sessions) and sessions[closed].is_closed:  # by something else
                closed += 1
            if closed == len(sessions):
                return
            await asyncio.sleep(min(BATCH_INTERVAL, over - elapsed))

    async def _abort(self) -> None:
        turn = Turn()
        for session in list(self._sessions):
            if not session.is_over:
                session.abort()
            if turn.is_over:
                await turn.next()

    async def _until(self, is_enough: Callable[[Session], bool], timeout: float) -> bool:
        """Wait until `is_enough` is true for all sessions; return False after `timeout` seconds."""
        remaining = list(self._sessions)
        turn = Turn()
        try:
            async with async_timeout.timeout(timeout):
                while True:
                    while remaining and is_enough(remaining[-1]):
                        remaining.pop()
                        if turn.is_over:
                            await turn.next()
                    if not remaining:
                        return True
                    if self._changed is None or self._changed.done():
                        self._changed = asyncio.get_running_loop().create_future()
                    await asyncio.shield(self._changed)  # others may wait for it too
        except asyncio.TimeoutError:
            return False


def _is_over(session: Session) -> bool:
    return session.is_over


def _now() -> float:
    return asyncio.get_running_loop().time()
