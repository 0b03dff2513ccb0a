"""The contract of brokers, and what all of them share: who listens in this process, and as whom.

Who calls what: the `Channels` of a router start the broker and subscribe, anybody publishes.  What
is left to a broker itself is to carry messages and members from one process to another.
"""

import abc
import asyncio
import math
import re
from collections import Counter
from collections.abc import Collection
from typing import Literal, Protocol, TypeAlias

from sockjs_aio.connection import Session, SockJSConnection
from sockjs_aio.errors import SettingsError
from sockjs_aio.protocol.framing import PreparedMessage

MAX_NAME = 200
"""Bytes of a channel's name in UTF-8."""

MAX_MEMBER = 1000
"""Bytes of a member in UTF-8."""

_CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")

State: TypeAlias = Literal["stopped", "connecting", "connected", "degraded", "reconnecting"]
Exclude: TypeAlias = SockJSConnection | Collection[SockJSConnection]


class Listener(Protocol):
    """Whatever has subscribers in this process."""

    def deliver(
        self, channel: str, message: PreparedMessage, exclude: Collection[Session] = ()
    ) -> None:
        """Hand `message` on to them, at once."""


class Broker(abc.ABC):
    """Carries messages between the sessions of all processes whose brokers lead to the same place.

    A message reaches a subscriber at most once, and those that one process publishes to one channel
    arrive in their order.  Several routers of one process may share a broker; then they share its
    channels.  A broker belongs to one event loop at a time, the one where it is started.

    Args:
        max_message_size: Bytes of a message in UTF-8; `publish` refuses larger ones.
        max_channels: Channels that one session may be subscribed to at a time.

    Raises:
        SettingsError: If one of them cannot be used.
    """

    gaps = 0
    """How many times messages of other processes may have been missed."""

    def __init__(self, *, max_message_size: int = 1 << 20, max_channels: int = 1000) -> None:
        check_size("max_message_size", max_message_size)
        check_size("max_channels", max_channels)
        self.max_message_size = max_message_size
        self.max_channels = max_channels
        # who has it started, and where
        self._users: set[object] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        # the subscriptions of this process
        self._listeners: dict[str, list[Listener]] = {}
        self._members: dict[str, Counter[str]] = {}

    @property
    @abc.abstractmethod
    def state(self) -> State:
        """Whether messages of all channels pass from process to process: while ``"connected"``."""

    async def publish(self, channel: str, message: str, *, exclude: Exclude = ()) -> None:
        """Send `message` to all subscribers of `channel`, in whichever process.

        Those of this process have it queued before anything is waited for.

        Args:
            channel: Its name: 1 to 200 bytes, no control characters.
            message: Text.
            exclude: A connection that does not get it, or several.

        Raises:
            BrokerUnavailableError: If it may not have reached other processes.
            RuntimeError: If the broker works in another event loop, as with all methods.
            TypeError: If `channel` or `message` is no `str`.
            ValueError: If `channel` cannot be a name, or `message` is too large.
        """
        self.check_loop()
        check_channel(channel)
        self._check_message(message)
        self._deliver(channel, message, exclude)
        await self.send(channel, message)

    async def members(self, channel: str) -> set[str]:
        """Tell who is subscribed to `channel` as a member, in whichever process.

        Raises:
            BrokerUnavailableError: If other processes' members cannot be found out.
            RuntimeError, TypeError, ValueError: As `publish`.
        """
        self.check_loop()
        check_channel(channel)
        return self.local_members(channel) | await self.remote_members(channel)

    # For whoever has subscribers: a router, or an application that wants to listen itself.

    def start(self, user: object) -> None:
        """Work for `user`, until `stop` is called with it; again, this does nothing.

        Raises:
            RuntimeError: If the broker works in another event loop.
        """
        if self._loop is not None and self._loop.is_closed():
            self._users.clear()  # they have ended without a word
        self.check_loop()
        self._loop = asyncio.get_running_loop()
        if not self._users:
            self.connect()
        self._users.add(user)

    async def stop(self, user: object) -> None:
        """Work for `user` no more; with the last one the broker ends, and may be started again."""
        self.check_loop()
        if user in self._users:
            self._users.remove(user)
            if not self._users:
                await self.disconnect()

    def subscribe(self, channel: str, listener: Listener) -> None:
        """Have messages handed to `listener`; those of other processes once `ready` returns."""
        self.check_loop()
        listeners = self._listeners.setdefault(channel, [])
        listeners.append(listener)
        if len(listeners) == 1:
            self.listen(channel)

    def unsubscribe(self, channel: str, listener: Listener) -> None:
        """Hand no more messages to `listener`."""
        self.check_loop()
        listeners = self._listeners[channel]
        listeners.remove(listener)
        if not listeners:
            del self._listeners[channel]
            self.unlisten(channel)

    def join(self, channel: str, member: str) -> None:
        """Count `member` in; a member may be there several times."""
        self.check_loop()
        members = self._members.setdefault(channel, Counter())
        members[member] += 1
        if members[member] == 1:
            self.announce(channel, member)

    def leave(self, channel: str, member: str) -> None:
        """Count `member` out."""
        self.check_loop()
        members = self._members[channel]
        members[member] -= 1
        if not members[member]:
            del members[member]
            if not members:
                del self._members[channel]
            self.withdraw(channel, member)

    # For brokers.

    def check_loop(self) -> None:
        """Make sure that the broker, if it is started, belongs to the running event loop.

        Without that a call from another one would wait for ever, as it is woken up nowhere.

        Raises:
            RuntimeError: If it belongs to another one.
        """
        if not self._users:
            return
        try:
            is_here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            is_here = False
        if not is_here:
            raise RuntimeError(
                "this broker was started in another event loop: from another thread use "
                "asyncio.run_coroutine_threadsafe(broker.publish(...), loop), or make one there"
            )

    def deliver(self, channel: str, message: str, exclude: Exclude = ()) -> None:
        """Send `message` to the subscribers in this process, encoding it once."""
        self.check_loop()
        self._deliver(channel, message, exclude)

    def _deliver(self, channel: str, message: str, exclude: Exclude) -> None:
        listeners = self._listeners.get(channel)
        if not listeners:
            return
        if isinstance(exclude, SockJSConnection):
            exclude = (exclude,)
        sessions = {connection.session for connection in exclude}
        outgoing = PreparedMessage(message)
        for listener in list(listeners):
            listener.deliver(channel, outgoing, sessions)

    @property
    def channels(self) -> Collection[str]:
        """The channels that have subscribers in this process."""
        return self._listeners.keys()

    @property
    def populated(self) -> Collection[str]:
        """The channels that have members in this process."""
        return self._members.keys()

    def local_members(self, channel: str) -> set[str]:
        """The members of `channel` in this process."""
        return set(self._members.get(channel, ()))

    def _check_message(self, message: str) -> None:
        if not isinstance(message, str):
            raise TypeError(
                f"publish(channel, message) takes a str, not {type(message).__name__}: encode it "
                "first, for instance with json.dumps()"
            )
        limit = self.max_message_size
        if len(message) * 4 > limit and len(message.encode("utf-8", "surrogatepass")) > limit:
            raise ValueError(f"a message of more than {limit} bytes cannot be published")

    # What a broker defines.  Only `ready`, `send`, `remote_members` and `disconnect` may wait.

    @abc.abstractmethod
    def connect(self) -> None:
        """Begin to work, in the running event loop, with `channels` and members as they are."""

    @abc.abstractmethod
    async def disconnect(self) -> None:
        """End: leave nothing behind, no task and no member."""

    @abc.abstractmethod
    def listen(self, channel: str) -> None:
        """From now on call `deliver` for what other processes publish to `channel`."""

    @abc.abstractmethod
    def unlisten(self, channel: str) -> None:
        """Do that no more."""

    @abc.abstractmethod
    def announce(self, channel: str, member: str) -> None:
        """From now on `member` is one of other processes' `remote_members`."""

    @abc.abstractmethod
    def withdraw(self, channel: str, member: str) -> None:
        """From now on it is not."""

    @abc.abstractmethod
    async def ready(self, channel: str) -> None:
        """Wait until what was asked for about `channel` is so, or it is known that it cannot be."""

    @abc.abstractmethod
    async def send(self, channel: str, message: str) -> None:
        """Have `deliver` called in the other processes.  Raises `BrokerUnavailableError`."""

    @abc.abstractmethod
    async def remote_members(self, channel: str) -> set[str]:
        """Ask for what other processes have announced.  Raises `BrokerUnavailableError`."""


def check_channel(name: object) -> None:
    """Make sure that `name` can be a channel's.

    Raises:
        TypeError: If it is no `str`.
        ValueError: If it is empty, too long, or has control characters or half a surrogate pair.
    """
    if not isinstance(name, str):
        raise TypeError(f"a channel's name is a str, not {name!r}")
    if not _fits(name, MAX_NAME):
        raise ValueError(
            f"channel {name!r:.80} cannot be used: it has to be 1 to {MAX_NAME} bytes of UTF-8"
        )
    if _CONTROL.search(name):
        raise ValueError(f"channel {name!r:.80} cannot be used: it has control characters")


def check_member(member: object) -> None:
    """Make sure that `member` can be one.

    Raises:
        TypeError: If it is no `str`.
        ValueError: If it is empty, too long, or has half a surrogate pair.
    """
    if not isinstance(member, str):
        raise TypeError(f"a member is a str, not {member!r}: encode it with json.dumps(), say")
    if not _fits(member, MAX_MEMBER):
        raise ValueError(
            f"member {member!r:.80} cannot be used: it has to be 1 to {MAX_MEMBER} bytes of UTF-8"
        )


def check_size(name: str, value: object) -> None:
    """Raise `SettingsError` unless `value` is a whole number above 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise SettingsError(f"{name}={value!r} cannot be used: it has to be a whole number above 0")


def check_delay(name: str, value: object) -> None:
    """Raise `SettingsError` unless `value` is a number of seconds above 0."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:  # type: ignore[operator]
        raise SettingsError(f"{name}={value!r} cannot be used: it has to be seconds above 0")


def _fits(text: str, limit: int) -> bool:
    """Tell whether `text` is 1 to `limit` bytes of UTF-8."""
    if not 0 < len(text) <= limit:
        return False
    try:
        return text.isascii() or len(text.encode()) <= limit
    except UnicodeEncodeError:
        return False
