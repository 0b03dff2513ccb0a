"""The subscriptions of one router's sessions.  Sessions without subscriptions cost nothing."""

import logging
from collections.abc import Collection

from sockjs_aio.brokers.base import Broker, Exclude
from sockjs_aio.brokers.checks import check_channel, check_member
from sockjs_aio.connection import Session, SockJSConnection
from sockjs_aio.core.events import Observer
from sockjs_aio.core.presence import Presence
from sockjs_aio.errors import TooManyChannelsError
from sockjs_aio.gaps import GapSession
from sockjs_aio.protocol.framing import PreparedMessage
from sockjs_aio.stats import Telling
from sockjs_aio.turns import in_turns

logger: logging.Logger = logging.getLogger("sockjs_aio.broker")


class Channels:
    """Knows which sessions are subscribed to which channels, and as which members.

    Args:
        broker: Carries the messages between processes.  Other routers may share it.
        events: Tells observers what happens.
        presence: Tells the application who joins and leaves, if it wants to know.
        closes_on_gap: Whether to close sessions that may have missed messages.
    """

    __slots__ = (
        "broker",
        "presence",
        "is_alone",
        "_events",
        "_closes_on_gap",
        "_has_started",
        "_has_warned",
        "_is_over",
        "_sessions",
        "_channels",
    )

    def __init__(
        self,
        broker: Broker,
        events: Telling,
        presence: Presence | None = None,
        *,
        closes_on_gap: bool = False,
    ) -> None:
        self.broker: Broker = broker
        self.presence: Presence | None = presence
        self.is_alone: bool = True
        """Whether no other process serves the same clients."""
        self._closes_on_gap = closes_on_gap
        self._events = events
        self._has_started = False
        self._has_warned = False
        self._is_over = False
        self._sessions: dict[str, dict[Session, str | None]] = {}  # with each session's member
        self._channels: dict[Session, set[str]] = {}

    def __repr__(self) -> str:
        return f"<Channels: {len(self._channels)} sessions in {len(self._sessions)} channels>"

    def start(self) -> None:
        """Start the broker.  A second call, or a call after `stop`, does nothing."""
        if not self._is_over:
            self.broker.start(self)
            self._has_started = True

    async def stop(self) -> None:
        """Stop using the broker.  Without `start`, it may belong to another event loop."""
        self._is_over = True
        if self.presence is not None:
            await self.presence.stop()
        if self._has_started:
            await self.broker.stop(self)

    async def subscribe(
        self, session: Session, channel: str, member: str | None, presence: bool
    ) -> None:
        """See `SockJSConnection.subscribe`."""
        if presence and self.presence is None:
            raise RuntimeError(
                "subscribe(presence=True): the router has no on_presence to call; pass it with "
                "SockJSRouter(..., on_presence=function)"
            )
        check_channel(channel)
        if member is not None:
            check_member(member)
        if session.is_open:
            self.start()
            self._add(session, channel)
            self._set_member(session, channel, member)
            if self.presence is not None:
                (self.presence.watch if presence else self.presence.unwatch)(session, channel)
            await self.broker.ready(channel)

    def unsubscribe(self, session: Session, channel: str) -> None:
        """See `SockJSConnection.unsubscribe`."""
        check_channel(channel)
        channels = self._channels.get(session)
        if channels is not None and channel in channels:
            channels.remove(channel)
            if not channels:
                del self._channels[session]
            self._remove(session, channel)

    def leave(self, session: Session) -> None:
        """End all subscriptions of `session`."""
        for channel in self._channels.pop(session, ()):
            try:
                self._remove(session, channel)
            except Exception:  # of a broker; the session ends nevertheless
                logger.exception("session %s: leaving channel %r failed", session, channel)

    async def publish(self, channel: str, message: str, exclude: Exclude, key: str | None) -> None:
        """See `SockJSRouter.publish`."""
        self.start()
        await self.broker.publish(channel, message, exclude=exclude, key=key)

    async def close_channel(self, channel: str, code: int, reason: str, keep: Exclude) -> None:
        """See `SockJSConnection.close_channel`."""
        self.start()
        await self.broker.close_channel(channel, code, reason, keep=keep)

    async def members(self, channel: str) -> set[str]:
        """See `SockJSRouter.members`."""
        self.start()
        members = await self.broker.members(channel)
        return members if self.presence is None else members.union(self.presence.told(channel))

    def gap_began(self) -> None:
        """Tell observers that messages from other processes may be missed now."""
        self._events.tell(Observer.broker_gap, self.broker)
        if self.presence is not None:
            self.presence.gap_began()

    def gap_ended(self, channel: str) -> None:
        """Messages of `channel` may have been missed: tell its sessions, or close them.

        If there are many, let other tasks run every few milliseconds.
        """

        def tell(session: Session) -> None:
            if not self.is_subscribed(session, channel):
                return
            if self._closes_on_gap:
                session.end_after_gap()
            else:
                session.gap_ended(channel)

        in_turns(list(self._sessions.get(channel, ())), tell)

    def is_subscribed(self, session: GapSession, channel: str) -> bool:
        """Tell whether `session` is subscribed to `channel`."""
        return session in self._sessions.get(channel, ())

    def subscribers(self, channel: str) -> list[SockJSConnection]:
        """See `SockJSRouter.subscribers`."""
        check_channel(channel)
        return [session.connection for session in self._sessions.get(channel, ())]

    def deliver(
        self, channel: str, message: PreparedMessage, exclude: Collection[Session] = ()
    ) -> None:
        """Send `message` to the sessions that are subscribed to `channel`, like `broadcast`."""
        # over a copy: a session that does not keep up is closed, and leaves the channel
        for session in list(self._sessions.get(channel, ())):
            if not exclude or session not in exclude:
                session.send_shared(message)

    def close_sessions(
        self, channel: str, code: int, reason: str, keep: Collection[Session] = ()
    ) -> None:
        """Close the sessions that are subscribed to `channel`, except those in `keep`.

        If there are many, let other tasks run every few milliseconds.
        """

        def close(session: Session) -> None:
            if channel in self._channels.get(session, ()):
                session.close(code, reason)

        in_turns([x for x in self._sessions.get(channel, ()) if x not in keep], close)

    def _add(self, session: Session, channel: str) -> None:
        channels = self._channels.get(session, set())
        if channel in channels:
            return
        limit = self.broker.max_channels
        if len(channels) >= limit:
            raise TooManyChannelsError(
                f"session {session} is already subscribed to max_channels={limit} channels"
            )
        channels.add(channel)
        self._channels[session] = channels
        sessions = self._sessions.setdefault(channel, {})
        sessions[session] = None
        if len(sessions) == 1:
            if self.broker.is_local and not (self.is_alone or self._has_warned):
                self._warn_of_local_broker(channel)
            self.broker.subscribe(channel, self)

    def _warn_of_local_broker(self, channel: str) -> None:
        self._has_warned = True
        logger.warning(
            "channel %r reaches only the sessions of this process: to reach those of the other "
            "workers or nodes too, pass broker=RedisBroker(...) to the router",
            channel,
        )

    def _set_member(self, session: Session, channel: str, member: str | None) -> None:
        sessions = self._sessions[channel]
        before = sessions[session]
        if member != before:
            sessions[session] = member
            if member is not None:
                self.broker.join(channel, member)
            if before is not None:
                self.broker.leave(channel, before)

    def _remove(self, session: Session, channel: str) -> None:
        try:
            self._set_member(session, channel, None)
        finally:
            if self.presence is not None:
                self.presence.unwatch(session, channel)
            sessions = self._sessions[channel]
            del sessions[session]
            if not sessions:
                del self._sessions[channel]
                self.broker.unsubscribe(channel, self)
