"""The sessions of one router: found by id, ticked when something is due, ended at shutdown."""

import asyncio
import logging
import math
from collections.abc import Callable

import async_timeout

from sockjs_aio.connection import SockJSConnection, checked
from sockjs_aio.flusher import Flusher
from sockjs_aio.info import ConnectionInfo
from sockjs_aio.protocol.frames import SERVICE_RESTART
from sockjs_aio.protocol.framing import Framing
from sockjs_aio.session import Session
from sockjs_aio.settings import Settings

logger = logging.getLogger("sockjs_aio")

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
        self.is_closing = False
        self._connect = connect
        # all; by id those whose requests come and go; those whose receiver can get lost unseen
        self._sessions: set[Session] = set()
        self._by_id: dict[str, Session] = {}
        self._watched: set[Session] = set()
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
        session = Session(session_id, info, self, framing)
        session.connection = checked(self._connect(session), session)
        self._sessions.add(session)
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
        while True:
            await asyncio.sleep(self.settings.tick_interval)
            self.tick(self.now())

    # The end.

    async def shutdown(self) -> None:
        """Close all sessions with ``c[1012,"Service restart"]``, and wait for them to end.

        Hooks and clients that have not finished after `shutdown_timeout` seconds are cut off;
        `on_close` is called all the same, and cancelled if it does not return soon.
        """
        self.is_closing = True
        for session in list(self._sessions):
            session.close(*SERVICE_RESTART)
        if not await self._ended(self.settings.shutdown_timeout):
            self._abort()
            if not await self._ended(LAST_GRACE):
                self._abort()
                await self._ended(LAST_GRACE)
        for session in list(self._sessions):
            self.forget(session)

    def _abort(self) -> None:
        for session in list(self._sessions):
            if not session.is_over:
                session.abort()

    async def _ended(self, timeout: float) -> bool:
        """Wait until all sessions are over; return whether they were within `timeout` seconds."""
        try:
            async with async_timeout.timeout(timeout):
                while not all(session.is_over for session in self._sessions):
                    if self._changed is None or self._changed.done():
                        self._changed = asyncio.get_running_loop().create_future()
                    await asyncio.shield(self._changed)  # others may wait for it too
        except asyncio.TimeoutError:
            return False
        return True

    def session_changed(self) -> None:
        """Look again whether all sessions are over, if somebody waits for that."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
