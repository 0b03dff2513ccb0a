"""The sessions of one router: found by id, ticked when something is due, ended at shutdown."""

import asyncio
import concurrent.futures
import inspect
import logging
import math
import threading
from collections.abc import Callable
from typing import TypeVar

import async_timeout

from sockjs_aio.addresses import AddressCounter
from sockjs_aio.connection import SockJSConnection, checked
from sockjs_aio.flusher import Flusher
from sockjs_aio.info import ConnectionInfo
from sockjs_aio.protocol.frames import SERVICE_RESTART
from sockjs_aio.protocol.framing import Framing
from sockjs_aio.session import Session
from sockjs_aio.settings import Settings
from sockjs_aio.stickiness import StickinessCheck

logger = logging.getLogger("sockjs_aio")

T = TypeVar("T")

BATCH_INTERVAL = 0.05
"""Seconds between two batches of sessions that `drain` closes."""

TURNS = 20
"""Turns of the loop within which a request that waits in a socket has got to its session."""

LAST_GRACE = 1.0
"""Seconds that `on_close` has once shutdown had to cancel the hook before it."""


class SessionRegistry:
    """Keeps sessions, and one task that looks after them while there are any.

    What is due is found in slots, one for each tick: a session stands in the slot of its deadline
    or of an earlier one, so a tick costs what is due and not what exists.

    Args:
        connect: Makes the application's connection of a session.
        settings: The router's settings.
    """

    def __init__(self, connect: Callable[[Session], SockJSConnection], settings: Settings) -> None:
        self.settings = settings
        self.flusher = Flusher()
        self.addresses = AddressCounter(settings.max_sessions_per_ip)
        self.stickiness = StickinessCheck()
        self.uploads: set[async_timeout.Timeout] = set()  # of the bodies that are on their way
        self.is_closing = False
        self.is_debug = False
        self._connect = connect
        # all; by id those whose requests come and go; those whose receiver can get lost unseen
        self._sessions: set[Session] = set()
        self._by_id: dict[str, Session] = {}
        self._watched: set[Session] = set()
        # where all of this belongs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None
        # who is due when
        self._slots: dict[int, set[Session]] = {}
        self._current_slot = 0
        self._ticker: asyncio.Task[None] | None = None
        self._changed: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    def now(self) -> float:
        """Return the time on the event loop's clock, in seconds."""
        return asyncio.get_running_loop().time()

    def bind(self) -> None:
        """Belong to the running event loop and its thread."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.is_debug = self._loop.get_debug()

    def check_thread(self) -> None:
        """In asyncio's debug mode, make sure that this is the event loop's thread.

        Raises:
            RuntimeError: If it is another one.
        """
        if self.is_debug and threading.get_ident() != self._thread:
            raise RuntimeError(
                "sessions belong to the event loop's thread: from another one use "
                "router.call_threadsafe(connection.send, message)"
            )

    def call_threadsafe(
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

    @property
    def is_full(self) -> bool:
        """Whether `max_sessions` are there."""
        limit = self.settings.max_sessions
        return limit is not None and len(self._sessions) >= limit

    def get(self, session_id: str) -> Session | None:
        """Find the session whose requests carry `session_id`."""
        return self._by_id.get(session_id)

    def open(
        self, session_id: str, info: ConnectionInfo, framing: Framing, *, by_id: bool
    ) -> Session:
        """Make a session and its connection; `by_id` says whether requests will look for it."""
        if self._loop is None:
            self.bind()
        session = Session(session_id, info, self, framing)
        session.connection = checked(self._connect(session), session)
        self._sessions.add(session)
        self.addresses.add(info.ip)
        if by_id:
            self._by_id[session_id] = session
        self.arm(session)
        if self._ticker is None:
            self._current_slot = math.floor(self.now() / self.settings.tick_interval)
            self._ticker = asyncio.get_running_loop().create_task(self._run())
        logger.debug("session %s: opened from %s", session, info.ip)
        return session

    def retire(self, session: Session) -> None:
        """Have requests find it no more: it is over, though a hook may still be running."""
        if self._by_id.get(session.id) is session:
            del self._by_id[session.id]

    def forget(self, session: Session) -> None:
        """Let go of a session that is over; again, this does nothing."""
        if session not in self._sessions:
            return
        self._sessions.remove(session)
        self.addresses.remove(session.info.ip)
        self.retire(session)
        self._watched.discard(session)
        self._disarm(session)
        if session.is_over:
            session.unbind()
        self.session_changed()
        if not self._sessions and self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    # Time.

    def arm(self, session: Session) -> None:
        """See to it that `session` is ticked at its deadline; earlier is no harm."""
        deadline = session.deadline()
        if session.has_http_receiver:
            self._watched.add(session)
        else:
            self._watched.discard(session)
        self.session_changed()
        if deadline == math.inf:
            return
        slot = max(math.ceil(deadline / self.settings.tick_interval), self._current_slot)
        if session.due_slot is not None and session.due_slot <= slot:
            return
        self._disarm(session)
        session.due_slot = slot
        self._slots.setdefault(slot, set()).add(session)

    def _disarm(self, session: Session) -> None:
        if session.due_slot is not None:
            slot = self._slots[session.due_slot]
            slot.discard(session)
            if not slot:
                del self._slots[session.due_slot]
            session.due_slot = None

    def tick(self, now: float) -> None:
        """Let the sessions whose time has come beat, ping or expire."""
        for session in list(self._watched):
            session.check_receiver()
        first, last = self._current_slot, math.floor(now / self.settings.tick_interval)
        self._current_slot = last + 1  # whoever is armed from here on must not get behind us
        for due in range(first, last + 1):
            for session in list(self._slots.get(due, ())):
                self._tick_session(session, now)

    def _tick_session(self, session: Session, now: float) -> None:
        self._disarm(session)
        try:
            session.tick(now)
        except Exception:
            logger.exception("session %s: its tick failed", session)
        if session in self._sessions:
            self.arm(session)

    async def _run(self) -> None:
        interval = self.settings.tick_interval
        while True:
            due = self.now() + interval
            await asyncio.sleep(interval)
            if self.now() > due + interval / 4:
                await self._catch_up()
            self.tick(self.now())

    async def _catch_up(self) -> None:
        """Take in what came while something held up the loop: the delay is ours.

        Polls and pongs that have come in time wait in sockets.  They take some turns of the loop,
        and an application's middlewares their time.
        """
        for _ in range(TURNS):
            await asyncio.sleep(self.settings.tick_interval / TURNS)

    # The end.

    async def drain(self, over: float) -> None:
        """Close all sessions, spread over `over` seconds, and wait until all know and are over."""
        self.is_closing = True
        await self._close_all(over)
        await self._until(lambda x: x.is_over and x.is_told, self.settings.shutdown_timeout)

    async def shutdown(self) -> None:
        """Close all sessions at once, and wait for them to end.

        Hooks and clients that have not finished after `shutdown_timeout` seconds are cut off;
        `on_close` is called all the same, and cancelled if it does not return soon.
        """
        self.is_closing = True
        await self._close_all(0)
        for upload in self.uploads:  # nobody is there any more to get them
            upload.update(self.now())
        if not await self._until(_is_over, self.settings.shutdown_timeout):
            self._abort()
            if not await self._until(_is_over, LAST_GRACE):
                self._abort()
                await self._until(_is_over, LAST_GRACE)
        for session in list(self._sessions):
            self.forget(session)

    async def _close_all(self, over: float) -> None:
        sessions = list(self._sessions)
        start, closed = self.now(), 0
        while True:
            elapsed = self.now() - start
            due = math.ceil(len(sessions) * elapsed / over) if elapsed < over else len(sessions)
            for session in sessions[closed:due]:
                session.close(*SERVICE_RESTART, "shutdown")
            closed = max(closed, due)
            while closed < len(sessions) and sessions[closed].is_closed:  # by whomever
                closed += 1
            if closed == len(sessions):
                return
            await asyncio.sleep(min(BATCH_INTERVAL, over - elapsed))

    def _abort(self) -> None:
        for session in list(self._sessions):
            if not session.is_over:
                session.abort()

    async def _until(self, is_enough: Callable[[Session], bool], timeout: float) -> bool:
        """Wait until `is_enough` is true of all; return whether it was within `timeout` seconds."""
        remaining = list(self._sessions)
        try:
            async with async_timeout.timeout(timeout):
                while True:
                    while remaining and is_enough(remaining[-1]):
                        remaining.pop()
                    if not remaining:
                        return True
                    if self._changed is None or self._changed.done():
                        self._changed = asyncio.get_running_loop().create_future()
                    await asyncio.shield(self._changed)  # others may wait for it too
        except asyncio.TimeoutError:
            return False

    def session_changed(self) -> None:
        """Look again whether all sessions have ended, if somebody waits for that."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


def _is_over(session: Session) -> bool:
    return session.is_over


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
