"""The sessions of one router: opened, found by id, and ended together.

What all sessions share is kept here, such as the clock and the flusher: an idle session should cost
little more than its socket.  A session sees the registry as a `Host` (see `core.session`).  The
registry does not know requests or transports.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from sockjs_aio.brokers.base import Broker
from sockjs_aio.brokers.memory import MemoryBroker
from sockjs_aio.connection import Session as PublicSession
from sockjs_aio.connection import SockJSConnection
from sockjs_aio.core.address_counter import AddressCounter
from sockjs_aio.core.channels import Channels
from sockjs_aio.core.closing import Closing
from sockjs_aio.core.connection_checks import checked
from sockjs_aio.core.counters import Counters
from sockjs_aio.core.ended_ids import Ended, EndedSessions, Journal
from sockjs_aio.core.events import Events, Observer
from sockjs_aio.core.flusher import Flusher
from sockjs_aio.core.loop_thread import LoopThread
from sockjs_aio.core.presence import OnPresence, Presence
from sockjs_aio.core.process_exit import AFTER, shutting_down
from sockjs_aio.core.request_session import RequestSession
from sockjs_aio.core.session import Session
from sockjs_aio.core.session_clock import Clock
from sockjs_aio.core.websocket_session import InlineSession
from sockjs_aio.protocol.ends import SESSION_EXPIRED
from sockjs_aio.protocol.frames import CloseFrame, close_frame
from sockjs_aio.protocol.framing import Framing
from sockjs_aio.session_info import ConnectionInfo
from sockjs_aio.settings import Settings
from sockjs_aio.stats import Stats
from sockjs_aio.turns import Turn

EXPIRED_FRAME = close_frame(*SESSION_EXPIRED)
"""What a late request gets if its session ended without a close frame."""

S = TypeVar("S", bound=Session)


class SessionRegistry:
    """Keeps sessions, and a clock that ticks while there are any.

    Args:
        connect: Makes the application's connection for a session.
        settings: The router's settings.
        broker: Carries the messages of channels between processes.
        observers: Who is told what happens.
        on_presence: Who is told who joins and leaves.
    """

    def __init__(
        self,
        connect: Callable[[PublicSession], SockJSConnection],
        settings: Settings,
        broker: Broker | None = None,
        observers: Iterable[Observer] = (),
        on_presence: OnPresence | None = None,
    ) -> None:
        self.settings = settings
        self.counters: Counters = Counters()
        self.events: Events = Events([self.counters, *observers])
        self.flusher: Flusher = Flusher()
        self.addresses: AddressCounter = AddressCounter(settings.max_sessions_per_ip)
        self.thread: LoopThread = LoopThread()
        broker = broker or MemoryBroker()
        presence = on_presence and Presence(broker, on_presence, settings.presence_linger)
        self.channels: Channels = Channels(
            broker, self.events, presence, closes_on_gap=settings.on_gap == "close"
        )
        self._connect = connect
        # all sessions; by id, only those of HTTP transports, whose requests must find them
        self._sessions: set[Session] = set()
        self.closing: Closing = Closing(self._sessions, settings)
        self._by_id: dict[str, RequestSession] = {}
        self.ended_sessions: EndedSessions = EndedSessions(
            settings.ended_session_delay, settings.max_ended_sessions
        )
        self.journal: Journal | None = None
        """Set if another process must know these sessions when this one has died."""
        self._clock = Clock(settings.tick_interval, self.now, self._abort_all, self._was_blocked)

    def __len__(self) -> int:
        return len(self._sessions)

    def now(self) -> float:
        """Return the time on the event loop's clock, in seconds."""
        return self.thread.time()

    @property
    def stats(self) -> Stats:
        """The numbers of this moment."""
        self.counters.loop_lag = self._clock.lag
        # a copy, because another thread may be reading
        return self.counters.stats(list(self._sessions), self.channels.broker)

    @property
    def is_full(self) -> bool:
        """True if there are `max_sessions` sessions."""
        limit = self.settings.max_sessions
        return limit is not None and len(self._sessions) >= limit

    def get(self, session_id: str) -> RequestSession | None:
        """Find the session whose requests carry `session_id`."""
        return self._by_id.get(session_id)

    def ended(self, session_id: str) -> CloseFrame | None:
        """Return the close frame of an ended session; None if it is not remembered."""
        return self.ended_sessions.get(session_id, self.now())

    def knows(self, session_id: str) -> bool:
        """Tell whether there is such a session, or an ended one is remembered."""
        return session_id in self._by_id or self.ended(session_id) is not None

    def endings(self) -> list[Ended]:
        """Return the ids, times and close frames that a successor of this process must remember."""
        now = self.now()
        here = [(name, now, s.close_frame or EXPIRED_FRAME) for name, s in self._by_id.items()]
        return self.ended_sessions.items() + here

    def open_ids(self) -> list[str]:
        """Return the ids of all sessions that requests can find."""
        return list(self._by_id)

    def open(self, session_id: str, info: ConnectionInfo, framing: Framing) -> RequestSession:
        """Make a session that requests find by its id, and its connection."""
        session = self._keep(RequestSession(session_id, info, self, framing))
        self._by_id[session_id] = session
        if self.journal is not None:
            self.journal.opened(session_id)
        return session

    def open_inline(self, session_id: str, info: ConnectionInfo, framing: Framing) -> InlineSession:
        """Make a session that lives as long as its WebSocket, and its connection."""
        return self._keep(InlineSession(session_id, info, self, framing))

    def _keep(self, session: S) -> S:
        if not self.thread.is_bound:
            self.thread.bind()
        try:
            session.connection = checked(session.hooks.context.run(self._connect, session), session)
        except BaseException:
            if session.close_info is not None:  # its constructor has closed it: that was counted
                self.counters.opened(session)
                self.counters.forgotten(session.transport)
            raise
        self._sessions.add(session)
        self.addresses.add(session.info.ip)
        self._clock.start()
        self.arm(session)
        self.events.tell(Observer.opened, session)
        return session

    def retire(self, session: Session) -> None:
        """Hide an ended session from requests, although a hook may still be running."""
        if self._by_id.get(session.id) is session:
            del self._by_id[session.id]
            frame = session.close_frame or EXPIRED_FRAME
            self.ended_sessions.add(session.id, frame, self.now())
            if self.journal is not None:
                self.journal.ended(session.id, frame)

    def forget(self, session: Session) -> None:
        """Remove a session that has ended.  A second call does nothing."""
        if session not in self._sessions:
            return
        self._sessions.remove(session)
        self.counters.forgotten(session.transport)
        self.addresses.remove(session.info.ip)
        self.retire(session)
        self._clock.disarm(session)
        if session.is_over:
            session.break_cycles()
        self.closing.session_changed()
        if not self._sessions:
            self._clock.stop()

    def arm(self, session: Session) -> None:
        """Tick `session` at its deadline, or earlier."""
        if session in self._sessions:  # not while its connection is made, nor once it has ended
            self._clock.arm(session)
            self.closing.session_changed()

    def session_changed(self) -> None:
        """A session may have ended; a shutdown or drain may wait for that."""
        self.closing.session_changed()

    def _abort_all(self) -> None:
        for session in list(self._sessions):
            session.abort()

    async def _was_blocked(self, seconds: float) -> None:
        self.counters.loop_blocked += seconds
        turn = Turn()
        for session in list(self._by_id.values()):
            session.was_blocked(seconds)
            if turn.is_over:
                await turn.next()

    # The end.

    async def shutdown(self) -> None:
        """Close all sessions at once, wait for them to end, and forget them; see `Closing`."""
        with shutting_down(AFTER):
            await self.closing.shutdown()
            turn = Turn()
            for session in list(self._sessions):
                self.forget(session)
                if turn.is_over:
                    await turn.next()
