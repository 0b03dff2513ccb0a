"""Several channels over one session: the protocol of websocket-multiplex, and nothing of HTTP.

The client sends ``sub,CHANNEL``, ``msg,CHANNEL,DATA`` and ``uns,CHANNEL``; the server sends
``msg,CHANNEL,DATA`` and ``uns,CHANNEL``.  The session that carries them is the *carrier*.
"""

import asyncio
import contextvars
import logging
import string
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from sockjs_aio.close_info import CloseInfo
from sockjs_aio.connection import (
    Session,
    SockJSConnection,
    Subscriptions,
    checked,
    warn_of_plain_hooks,
)
from sockjs_aio.core.hooks import Hooks
from sockjs_aio.info import ConnectionInfo
from sockjs_aio.protocol.ends import GO_AWAY, UNSUBSCRIBED, End, Initiator
from sockjs_aio.protocol.framing import PreparedMessage

logger = logging.getLogger("sockjs_aio")

Connect: TypeAlias = Callable[[Session], SockJSConnection]

UNESCAPED = frozenset(string.ascii_letters + string.digits + "@*_+-./")
"""What JavaScript's ``escape`` leaves alone."""


class MultiplexConnection(SockJSConnection):
    """Carries channels: `get` makes a class of it that a `SockJSRouter` takes.

    Each channel has an ordinary `SockJSConnection`, whose hooks are called as for a session of its
    own: `on_open` when the client subscribes, `on_message` for each message, `on_close` exactly
    once, when the client unsubscribes, the server closes the channel or the carrier goes.  A hook
    that raises, or an `on_open` that returns False, closes its channel and no other.

    The channels of one carrier take turns: the next message is looked at when the hook that runs
    has returned, whichever channel it is for.  Messages that are none of the protocol's, or are for
    no channel that is open, are ignored.
    """

    _services: Mapping[str, "_Service"] = MappingProxyType({})

    @classmethod
    def get(cls, /, **channels: Connect) -> type["MultiplexConnection"]:
        """Make the connection class for a service with these channels.

        Args:
            channels: By name, the connection class of each, or any callable that takes what serves
                as the session (a `Channel`) and returns a `SockJSConnection`.

        Raises:
            ValueError: If a name has a comma.
            TypeError: If what is given for a name cannot be called, or is a class that is no
                `SockJSConnection`.
        """
        for name, connect in channels.items():
            _check(name, connect)
        # websocket-multiplex's client escapes names; others may send them as they are
        services = {name: _Service(name, connect) for name, connect in channels.items()}
        for name, connect in channels.items():
            services[escaped(name)] = _Service(escaped(name), connect)
        return type(cls.__name__, (cls,), {"_services": services, "__module__": cls.__module__})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._channels: dict[str, Channel] = {}

    async def on_message(self, message: Any) -> None:
        """Do what one message of the client says; who overrides this calls it."""
        verb, _, rest = message.partition(",") if isinstance(message, str) else ("", "", "")
        name, comma, data = rest.partition(",")
        channel = self._channels.get(name)
        is_subscribed = channel is not None and channel.is_subscribed
        if verb == "sub" and name in self._services and not is_subscribed:
            channel = await self._subscribe(self._services[name])
        elif verb == "msg" and comma and channel and is_subscribed:
            await channel.hooks.message(data)
        elif verb == "uns" and channel and is_subscribed:
            channel.leave(UNSUBSCRIBED)
        else:
            logger.debug("session %s: ignored %.80r", self.session, message)
            return
        # if the carrier has gone, on_close sees to it, and can be cancelled as a whole
        if channel and not channel.is_subscribed and self.session.is_open:
            await channel.hooks.finish()
            channel.hooks_returned()

    async def on_close(self) -> None:
        """Close the channels; who overrides this calls it."""
        channels = list(self._channels.values())
        for channel in channels:
            channel.leave_with_carrier()
        try:
            await _finish(channels)
        except asyncio.CancelledError:
            for channel in channels:
                channel.hooks.cancel()
            await _finish(channels)
            raise

    async def _subscribe(self, service: "_Service") -> "Channel | None":
        before = self._channels.get(service.name)
        if before is not None:
            await before.hooks.finish()  # closed by the server a moment ago
        channel = Channel(self.session, service, self._channels)
        try:
            channel.connection = checked(service.connect(channel), channel)
        except Exception:
            logger.exception("session %s: its connection could not be made", channel)
            channel.close()
            return None
        self._channels[service.name] = channel
        await channel.hooks.open()
        return channel


class Channel(Session):
    """What a channel's connection has as its `session`.

    Args:
        carrier: The session that carries it.
        service: What the client has subscribed to.
        channels: The carrier's channels by name, where it stands until its `on_close` has returned.
    """

    __slots__ = (
        "carrier",
        "connection",
        "hooks",
        "is_subscribed",
        "close_info",
        "_born",
        "_service",
        "_channels",
        "__weakref__",
    )

    connection: SockJSConnection

    def __init__(
        self, carrier: Session, service: "_Service", channels: dict[str, "Channel"]
    ) -> None:
        self.carrier = carrier
        self.hooks = _ChannelHooks(self)
        self.is_subscribed = True
        self.close_info: CloseInfo | None = None
        self._born = asyncio.get_running_loop().time()
        self._service = service
        self._channels = channels

    def __str__(self) -> str:
        return f"{self.carrier}, channel {self.name}"

    def __repr__(self) -> str:
        return f"<Channel {self.name} of {self.carrier!r}>"

    @property
    def name(self) -> str:
        """The channel's name as the client writes it: escaped, by websocket-multiplex's client."""
        return self._service.name

    @property
    def id(self) -> str:  # type: ignore[override]
        """The carrier's: the same for all channels of one client."""
        return self.carrier.id

    @property
    def info(self) -> ConnectionInfo:  # type: ignore[override]
        """About the request that opened the carrier."""
        return self.carrier.info

    @property
    def transport(self) -> str:
        """The name of the transport that opened the carrier."""
        return self.carrier.transport

    @property
    def channels(self) -> Subscriptions:
        """The subscriptions of the router's sessions."""
        return self.carrier.channels

    @property
    def is_open(self) -> bool:
        """Whether messages are accepted, in both directions."""
        return self.is_subscribed and self.carrier.is_open

    @property
    def is_closed(self) -> bool:
        """Whether the channel or its carrier has been closed, by whomever."""
        return not self.is_subscribed or self.carrier.is_closed

    @property
    def context(self) -> contextvars.Context:
        """What the hooks of this channel run in: a copy of the carrier's."""
        return self.hooks.context

    @property
    def is_cut_off(self) -> bool:
        """Whether the server is ending and has cancelled the carrier's hook, and so ours in it."""
        return self.hooks.is_cancelled or self.carrier.is_cut_off

    def send(self, message: str | bytes) -> None:
        """Queue `message` for the carrier.

        Raises:
            TypeError: If `message` is no text: the protocol carries nothing else.
        """
        if self.is_subscribed:
            self.carrier.send(self._service.addressed(message))

    def send_shared(self, message: PreparedMessage) -> None:
        """As `send`, for a message that goes to many and is encoded once for each channel name."""
        if self.is_subscribed:
            self.carrier.send_shared(message.behind(self._service.prefix))

    def send_json(self, text: str) -> None:
        """As `send`: the protocol carries text, so JSON arrives as text."""
        self.send(text)

    def flush(self) -> None:
        """Write what the carrier has queued."""
        self.carrier.flush()

    async def drain(self) -> None:
        """Wait until the carrier, whose queue the channels share, has room; not once closed."""
        if self.is_subscribed:
            await self.carrier.drain()

    def close(
        self,
        code: int = GO_AWAY.code,
        reason: str = GO_AWAY.reason,
        initiator: Initiator = "server",
    ) -> None:
        """Close the channel: ``uns,CHANNEL``, which has no place for a code and a reason."""
        if self.is_subscribed:
            self.carrier.send(f"uns,{self.name}")
            self.leave(End(code, reason, initiator))

    def leave(self, end: End) -> None:
        """End the channel without a word, and have `on_close` called unless a hook runs."""
        if self.is_subscribed:
            self.is_subscribed = False
            seconds = asyncio.get_running_loop().time() - self._born
            self.close_info = CloseInfo(*end, seconds, self.transport)
            self.channels.leave(self)
        self.hooks.close()

    def leave_with_carrier(self) -> None:
        """End the channel as its carrier has ended."""
        info = self.carrier.close_info
        assert info is not None, "the carrier's on_close is being called"
        self.leave(End(info.code, info.reason, info.initiator))

    def peer_failed(self, end: End) -> None:
        """Its carrier is told that, not a channel."""

    def hooks_returned(self) -> None:
        """`on_close` has returned: forget the channel; again, this does nothing."""
        if self._channels.get(self.name) is self:
            del self._channels[self.name]
            self.hooks.break_cycles()  # they must not wait for the garbage collector
            del self.connection


class _ChannelHooks(Hooks):
    """Calls a channel's hooks inside the carrier's; an `on_close` with none before it in a task."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel, receive_queue_limit=0)  # messages do not wait here
        self._channel: Channel | None = channel

    def break_cycles(self) -> None:
        """Forget the channel, which is over."""
        super().break_cycles()
        self._channel = None

    def _fail(self, name: str, error: BaseException) -> None:
        # what is cancelled at shutdown is the carrier's hook, and so the channel's inside it
        if self._channel is not None:
            self.is_cancelled = self.is_cancelled or self._channel.carrier.is_cut_off
        super()._fail(name, error)


class _Service:
    """What a client can subscribe to under one name."""

    __slots__ = ("name", "connect", "prefix")

    def __init__(self, name: str, connect: Connect) -> None:
        self.name = name
        self.connect = connect
        self.prefix = f"msg,{name},"

    def addressed(self, message: str | bytes) -> str:
        """Make the carrier's message of the channel's."""
        if not isinstance(message, str):
            raise TypeError(
                f"a channel's message is a str, not {type(message).__name__}: encode it first, "
                "for instance with json.dumps()"
            )
        return self.prefix + message


def escaped(name: str) -> str:
    """Write `name` as JavaScript's ``escape`` does, and with it websocket-multiplex's client."""
    units = name.encode("utf-16-be", "surrogatepass")
    return "".join(map(_escaped_unit, units[::2], units[1::2]))


def _escaped_unit(high: int, low: int) -> str:
    if high:
        return f"%u{high:02X}{low:02X}"
    return chr(low) if chr(low) in UNESCAPED else f"%{low:02X}"


async def _finish(channels: list[Channel]) -> None:
    for channel in channels:
        await channel.hooks.finish()
        channel.hooks_returned()


def _check(name: str, connect: object) -> None:
    if "," in name:
        raise ValueError(f"channel {name!r} cannot be used: its name has a comma")
    if not callable(connect) or (
        isinstance(connect, type) and not issubclass(connect, SockJSConnection)
    ):
        raise TypeError(
            f"channel {name!r}: {connect!r} has to be a SockJSConnection class, or return one"
        )
    warn_of_plain_hooks(connect)
