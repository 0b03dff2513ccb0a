"""The contract of brokers, and what all of them share: this process's subscriptions and members.

A router's `Channels` start the broker and subscribe; anything may publish.  A subclass only has to
carry messages and members from one process to another.
"""

import abc
import asyncio
import logging
from collections.abc import Collection
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from sockjs_aio.brokers.checks import check_channel, check_message, check_size
from sockjs_aio.brokers.gap_listeners import tell_gap, tell_gap_began
from sockjs_aio.brokers.local_members import LocalMembers
from sockjs_aio.connection import Session, SockJSConnection
from sockjs_aio.protocol.ends import GO_AWAY, check_close
from sockjs_aio.protocol.framing import PreparedMessage
from sockjs_aio.protocol.names import check_key

logger: logging.Logger = logging.getLogger("sockjs_aio.broker")

State: TypeAlias = Literal["stopped", "connecting", "connected", "degraded", "reconnecting"]
Exclude: TypeAlias = SockJSConnection | Collection[SockJSConnection]


class Listener(Protocol):
    """An object that has subscribers in this process."""

    def deliver(
        self, channel: str, message: PreparedMessage, exclude: Collection[Session] = ()
    ) -> None:
        """Send `message` to them at once."""


@runtime_checkable
class SessionListener(Listener, Protocol):
    """A listener whose subscribers are sessions, which `Broker.close_channel` can close."""

    def close_sessions(
        self, channel: str, code: int, reason: str, keep: Collection[Session] = ()
    ) -> None:
        """Close those that are subscribed to `channel`, except those in `keep`."""


class Broker(abc.ABC):
    """Carries messages between the sessions of all processes whose brokers use the same server.

    A message reaches a subscriber at most once.  Messages that one process publishes to one channel
    arrive in order.  Several routers in one process may share a broker; then they share its
    channels.  A broker belongs to one event loop at a time, the one in which it was started.

    Args:
        max_message_size: Bytes of a message in UTF-8; `publish` refuses larger messages.
        max_channels: How many channels one session may be subscribed to at a time.

    Raises:
        SettingsError: If an argument is not valid.
    """

    is_local: bool = False
    """True if it carries nothing to other processes."""

    gaps: int = 0
    """How many times messages from other processes may have been missed."""
    member_expiry: float | None = None
    """Seconds after which the members of a process that has died are gone."""

    def __init__(self, *, max_message_size: int = 1 << 20, max_channels: int = 1000) -> None:
        check_size("max_message_size", max_message_size)
        check_size("max_channels", max_channels)
        self.max_message_size = max_message_size
        self.max_channels = max_channels
        # who started it, and in which loop
        self._users: set[object] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        # the subscriptions of this process
        self._listeners: dict[str, list[Listener]] = {}
        self.local: LocalMembers = LocalMembers()

    @property
    @abc.abstractmethod
    def state(self) -> State:
        """The broker's state; while ``"connected"``, it carries messages of all channels."""

    async def publish(
        self, channel: str, message: str, *, exclude: Exclude = (), key: str | None = None
    ) -> None:
        """Send `message` to all subscribers of `channel`, in all processes.

        The message is queued for the subscribers of this process before this method waits for
        anything.

        Args:
            channel: The channel's name: 1 to 200 bytes, no control characters.
            message: Text.
            exclude: One or more connections that do not get the message.
            key: For each subscriber, replace what is still queued with the same key; see
                `SockJSConnection.send`.

        Raises:
            BrokerUnavailableError: If other processes may not have got the message.
            RuntimeError: If the broker was started in another event loop; so for all methods.
            TypeError: If `channel`, `message` or `key` is not a `str`.
            ValueError: If `channel` or `key` is not valid, or `message` is too large.
        """
        self.check_loop()
        check_channel(channel)
        self._check_message(message)
        if key is not None:
            check_key(key)
        self._deliver(channel, message, exclude, key)
        await self.send(channel, message, key)

    async def close_channel(
        self,
        channel: str,
        code: int = GO_AWAY.code,
        reason: str = GO_AWAY.reason,
        *,
        keep: Exclude = (),
    ) -> None:
        """Close all sessions that are subscribed to `channel`, in all processes.

        See `SockJSConnection.close_channel`.

        Raises:
            BrokerUnavailableError: If other processes may not have closed theirs.
            RuntimeError, TypeError, ValueError: Like `publish` and `SockJSConnection.close`.
        """
        self.check_loop()
        check_channel(channel)
        check_close(code, reason)
        self._check_message(reason)
        kept = _listed(keep)
        if kept and all(connection.is_closed for connection in kept):
            return
        self.close_sessions(channel, code, reason, kept)
        await self.send_close(channel, code, reason, kept)

    async def members(self, channel: str) -> set[str]:
        """Return the members of `channel`, in all processes.

        Raises:
            BrokerUnavailableError: If the members in other processes cannot be found out.
            RuntimeError, TypeError, ValueError: Like `publish`.
        """
        self.check_loop()
        check_channel(channel)
        return self.local_members(channel) | await self.remote_members(channel)

    # For routers, and for applications that listen to channels themselves.

    def start(self, user: object) -> None:
        """Work for `user` until `stop` is called with it.  A second call does nothing.

        Raises:
            RuntimeError: If the broker was started in another event loop.
        """
        if self._loop is not None and self._loop.is_closed():
            self._users.clear()  # they ended without calling stop
        self.check_loop()
        self._loop = asyncio.get_running_loop()
        if not self._users:
            self.connect()
        self._users.add(user)

    async def stop(self, user: object) -> None:
        """Stop working for `user`.  After the last one, the broker ends; it can start again.

        If it fails to, that is logged: the application goes on with its shutdown.
        """
        self.check_loop()
        if user in self._users:
            self._users.remove(user)
            if not self._users:
                try:
                    await self.disconnect()
                except Exception:
                    logger.exception("%s failed to disconnect", type(self).__name__)

    def subscribe(self, channel: str, listener: Listener) -> None:
        """Deliver messages to `listener`; from other processes, once `ready` has returned."""
        self.check_loop()
        listeners = self._listeners.setdefault(channel, [])
        listeners.append(listener)
        if len(listeners) == 1:
            self.listen(channel)

    def unsubscribe(self, channel: str, listener: Listener) -> None:
        """Stop delivering messages to `listener`."""
        self.check_loop()
        listeners = self._listeners[channel]
        listeners.remove(listener)
        if not listeners:
            del self._listeners[channel]
            self.unlisten(channel)

    def join(self, channel: str, member: str) -> None:
        """Add `member` once.  The same member may be added several times."""
        self.check_loop()
        if self.local.add(channel, member):
            self.announce(channel, member)
            self.local.tell(channel)

    def leave(self, channel: str, member: str) -> None:
        """Remove `member` once."""
        self.check_loop()
        if self.local.remove(channel, member):
            self.withdraw(channel, member)
            self.local.tell(channel)

    # For brokers.

    def check_loop(self) -> None:
        """Check that the broker, if it is started, belongs to the running event loop.

        Without this check, a call from another loop would wait forever.

        Raises:
            RuntimeError: If it belongs to another loop.
        """
        if not self._users:
            return
        try:
            is_here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            is_here = False
        if not is_here:
            raise RuntimeError(
                "this broker was started in another event loop: from another thread call "
                "asyncio.run_coroutine_threadsafe(broker.publish(...), loop), or create another "
                "broker there"
            )

    def _count_gap(self) -> None:
        """Note that from now on, messages from other processes may be missed; tell the users."""
        self.gaps += 1
        tell_gap_began(self._users)

    def end_gap(self, channel: str) -> None:
        """Tell listeners that messages of `channel` may have been missed, and now arrive."""
        self.check_loop()
        tell_gap(self._listeners.get(channel, ()), channel)

    def deliver(
        self, channel: str, message: str, exclude: Exclude = (), key: str | None = None
    ) -> None:
        """Send `message` to the subscribers in this process, encoding it once."""
        self.check_loop()
        self._deliver(channel, message, exclude, key)

    def _deliver(self, channel: str, message: str, exclude: Exclude, key: str | None) -> None:
        listeners = self._listeners.get(channel)
        if not listeners:
            return
        outgoing, sessions = PreparedMessage(message, key=key), _sessions(exclude)
        for listener in list(listeners):
            listener.deliver(channel, outgoing, sessions)

    def close_sessions(self, channel: str, code: int, reason: str, keep: Exclude = ()) -> None:
        """Close the sessions of this process that are subscribed to `channel`."""
        self.check_loop()
        sessions = _sessions(keep)
        for listener in list(self._listeners.get(channel, ())):
            if isinstance(listener, SessionListener):
                listener.close_sessions(channel, code, reason, sessions)

    @property
    def channels(self) -> Collection[str]:
        """The channels that have subscribers in this process."""
        return self._listeners.keys()

    @property
    def populated(self) -> Collection[str]:
        """The channels that have members in this process."""
        return self.local.channels

    def local_members(self, channel: str) -> set[str]:
        """The members of `channel` in this process."""
        return self.local.of(channel)

    def _check_message(self, message: str) -> None:
        check_message(message, self.max_message_size)

    # What a subclass defines.  Only its coroutines may wait.

    @abc.abstractmethod
    def connect(self) -> None:
        """Start in the running event loop, with the present `channels` and members."""

    @abc.abstractmethod
    async def disconnect(self) -> None:
        """End, and leave nothing behind: no task and no member."""

    @abc.abstractmethod
    def listen(self, channel: str) -> None:
        """From now on, call `deliver` and `close_sessions` for what other processes send."""

    @abc.abstractmethod
    def unlisten(self, channel: str) -> None:
        """Stop that for `channel`."""

    @abc.abstractmethod
    def announce(self, channel: str, member: str) -> None:
        """From now on, include `member` in the `remote_members` of other processes."""

    @abc.abstractmethod
    def withdraw(self, channel: str, member: str) -> None:
        """Remove `member` from the `remote_members` of other processes."""

    @abc.abstractmethod
    async def ready(self, channel: str) -> None:
        """Wait until `listen` and `announce` for `channel` have taken effect, or cannot now."""

    @abc.abstractmethod
    async def send(self, channel: str, message: str, key: str | None) -> None:
        """Have the other processes call `deliver`.  Raises `BrokerUnavailableError`."""

    @abc.abstractmethod
    async def send_close(
        self, channel: str, code: int, reason: str, kept: list[SockJSConnection]
    ) -> None:
        """Have the other processes call `close_sessions`.  Raises `BrokerUnavailableError`.

        If several processes do this at a time, each keeping some of its own, the last one wins.
        """

    @abc.abstractmethod
    async def remote_members(self, channel: str) -> set[str]:
        """Return the members that other processes announced.  Raises `BrokerUnavailableError`."""


def _listed(connections: Exclude) -> list[SockJSConnection]:
    return [connections] if isinstance(connections, SockJSConnection) else list(connections)


def _sessions(connections: Exclude) -> set[Session]:
    return {connection.session for connection in _listed(connections)}
