"""The sessions of one router: found by id, ticked when something is due, ended at shutdown."""

import asyncio
import contextvars
import logging
import math
from collections.abc import Callable, Iterator
from typing import Protocol

from sockjs_aio.addresses import AddressCounter
from sockjs_aio.brokers.base import Broker
from sockjs_aio.brokers.memory import MemoryBroker
from sockjs_aio.channels import Channels
from sockjs_aio.closing import Closing
from sockjs_aio.connection import SockJSConnection, checked
from sockjs_aio.ended_sessions import EndedSessions
from sockjs_aio.flusher import Flusher
from sockjs_aio.info import ConnectionInfo
from sockjs_aio.loop_thread import LoopThread
from sockjs_aio.protocol.frames import SESSION_EXPIRED, CloseFrame, close_frame
from sockjs_aio.protocol.framing import Framing
from sockjs_aio.session import Session
from sockjs_aio.settings import Settings
from sockjs_aio.stickiness import StickinessCheck
from sockjs_aio.turns import Turn

logger = logging.getLogger("sockjs_aio")

EXPIRED_FRAME = close_frame(*SESSION_EXPIRED)
"""What a late request gets whose session has ended without a close frame."""

TURNS = 20
"""Turns of the loop within which a request that waits in a socket has got to its session."""


class Relaying(Protocol):
    """What hands requests on to the processes that have their sessions."""

    @property
    def state(self) -> str | None:
        """Whether it knows where sessions are; None if nothing can keep it from that."""


class Slot(set[Session]):
    """The sessions that are due at tick `number`."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class SessionRegistry:
    """Keeps sessions, and one task that looks after them while there are any.

    What is due is found in slots, one for each tick: a session stands in the slot of its deadline
    or of an earlier one, so a tick costs what is due and not what exists.

    Args:
        connect: Makes the application's connection of a session.
        settings: The router's settings.
        broker: What carries the messages of channels.
    """

    def __init__(
        self,
        connect: Callable[[Session], SockJSConnection],
        settings: Settings,
        broker: Broker | None = None,
    ) -> None:
        self.settings = settings
        self.flusher = Flusher()
        self.addresses = AddressCounter(settings.max_sessions_per_ip)
        self.stickiness = StickinessCheck()
        self.relay: Relaying | None = None
        """Set where requests that come in at another process are handed on."""
        self.thread = LoopThread()
        self.channels = Channels(broker or MemoryBroker())
        self._connect = connect
        # all; by id those whose requests come and go
        self._sessions: set[Session] = set()
        self.closing = Closing(self._sessions, settings)
        self._by_id: dict[str, Session] = {}
        self.ended_sessions = EndedSessions(
            settings.ended_session_delay, settings.max_ended_sessions
        )
        # who is due when
        self._interval = settings.tick_interval
        self._slots: dict[int, Slot] = {}
        self._current_slot = 0
        self._ticker: asyncio.Task[None] | None = None

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

    def ended(self, session_id: str) -> CloseFrame | None:
        """Return the close frame of a session that has ended; None if it is not remembered."""
        return self.ended_sessions.get(session_id, self.now())

    def knows(self, session_id: str) -> bool:
        """Tell whether there is such a session, or one that has ended is remembered."""
        return session_id in self._by_id or self.ended(session_id) is not None

    def endings(self) -> list[tuple[str, float, CloseFrame]]:
        """Return the ids, times and close frames that a successor has to remember."""
        now = self.now()
        here = [(name, now, s.close_frame or EXPIRED_FRAME) for name, s in self._by_id.items()]
        return self.ended_sessions.items() + here

    def open(
        self, session_id: str, info: ConnectionInfo, framing: Framing, *, by_id: bool
    ) -> Session:
        """Make a session and its connection; `by_id` says whether requests will look for it."""
        if not self.thread.is_bound:
            self.thread.bind()
        session = Session(session_id, info, self, framing)
        session.connection = checked(session.hooks.context.run(self._connect, session), session)
        self._sessions.add(session)
        self.addresses.add(info.ip)
        if by_id:
            self._by_id[session_id] = session
        self.arm(session)
        if self._ticker is None:
            self._current_slot = math.floor(self.now() / self._interval)
            # in a context of its own: it is nobody's who opens the first session
            create_task = asyncio.get_running_loop().create_task
            self._ticker = contextvars.Context().run(create_task, self._run())
        logger.debug("session %s: opened from %s", session, info.ip)
        return session

    def retire(self, session: Session) -> None:
        """Have requests find it no more: it is over, though a hook may still be running."""
        if self._by_id.get(session.id) is session:
            del self._by_id[session.id]
            self.ended_sessions.add(session.id, session.close_frame or EXPIRED_FRAME, self.now())

    def forget(self, session: Session) -> None:
        """Let go of a session that is over; again, this does nothing."""
        if session not in self._sessions:
            return
        self._sessions.remove(session)
        self.addresses.remove(session.info.ip)
        self.retire(session)
        self._disarm(session)
        if session.is_over:
            session.unbind()
        self.closing.session_changed()
        if not self._sessions and self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    # Time.

    def arm(self, session: Session) -> None:
        """See to it that `session` is ticked at its deadline; earlier is no harm."""
        if session not in self._sessions:
            return  # its connection is being made, or it is over
        deadline = session.deadline()
        self.closing.session_changed()
        if deadline == math.inf:
            return
        number = max(math.ceil(deadline / self._interval), self._current_slot)
        if session.due_slot is not None and session.due_slot.number <= number:
            return
        self._disarm(session)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = Slot(number)
        slot.add(session)
        session.due_slot = slot

    def _disarm(self, session: Session) -> None:
        slot, session.due_slot = session.due_slot, None
        if slot is not None:
            slot.discard(session)
            if not slot:
                self._slots.pop(slot.number, None)

    def tick(self, now: float) -> None:
        """Let the sessions whose time has come beat, ping or expire."""
        for _ in self._steps(now):
            pass

    def _steps(self, now: float) -> Iterator[None]:
        """Do what `tick` does, and stop now and then, so that others may have their turn."""
        first, last = self._current_slot, math.floor(now / self._interval)
        self._current_slot = last + 1  # whoever is armed from here on must not get behind us
        for number in range(first, last + 1):
            slot = self._slots.get(number)
            while slot:  # a tick may have other sessions armed or forgotten
                self._tick_session(slot.pop(), now)
                yield
            self._slots.pop(number, None)

    def _tick_session(self, session: Session, now: float) -> None:
        session.due_slot = None
        try:
            session.tick(now)
        except Exception:
            logger.exception("session %s: its tick failed", session)
        self.arm(session)

    async def _run(self) -> None:
        try:
            while True:
                due = self.now() + self._interval
                await asyncio.sleep(self._interval)
                is_late = self.now() > due + self._interval / 4
                await self._catch_up(self._interval if is_late else 0)
                await self._tick_in_turns()
        except asyncio.CancelledError:
            if self._ticker is asyncio.current_task():  # the loop ends, without a shutdown before
                for session in list(self._sessions):
                    session.abort()
            raise

    async def _tick_in_turns(self) -> None:
        turn = Turn()
        for _ in self._steps(self.now()):
            if turn.is_over:
                await turn.next()

    async def _catch_up(self, seconds: float) -> None:
        """Take in what came while something held up the loop: the delay is ours.

        Polls and pongs that have come in time wait in sockets.  They take some turns of the loop,
        and an application's middlewares their time.
        """
        for _ in range(TURNS):
            await asyncio.sleep(seconds / TURNS)

    # The end.

    async def shutdown(self) -> None:
        """Close all sessions at once, wait for them to end, and forget them; see `Closing`."""
        await self.closing.shutdown()
        turn = Turn()
        for session in list(self._sessions):
            self.forget(session)
            if turn.is_over:
                await turn.next()
