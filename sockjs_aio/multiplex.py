"""Several channels over one session, with the protocol of websocket-multiplex.

The client sends ``sub,CHANNEL``, ``msg,CHANNEL,DATA`` and ``uns,CHANNEL``; the server sends
``msg,CHANNEL,DATA`` and ``uns,CHANNEL``.  The session that carries the channels is the *carrier*.
"""

import asyncio
import contextvars
import logging
import string
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from sockjs_aio.cancellations import Cancellations as Cancellations
from sockjs_aio.connection import Session, SockJSConnection, Subscriptions
from sockjs_aio.core.awaited_hooks import AwaitedHooks
from sockjs_aio.core.connection_checks import checked, warn_of_wrong_hooks
from sockjs_aio.core.process_exit import exit_soon as exit_soon
from sockjs_aio.gaps import GapSession
from sockjs_aio.grant import Until
from sockjs_aio.protocol.ends import GO_AWAY, MESSAGES_MISSED, UNSUBSCRIBED, End, Initiator
from sockjs_aio.protocol.framing import PreparedMessage
from sockjs_aio.session_info import CloseInfo, ConnectionInfo
from sockjs_aio.stats import Telling

logger: logging.Logger = logging.getLogger("sockjs_aio.hooks")

Connect: TypeAlias = Callable[[Session], SockJSConnection]

UNESCAPED = frozenset(string.ascii_letters + string.digits + "@*_+-./")
"""The characters that JavaScript's ``escape`` does not change."""


class MultiplexConnection(SockJSConnection):
    """Carries channels.  Call `get` for a class that you can pass to `SockJSRouter`.

    Each channel has an ordinary `SockJSConnection`, and its hooks are called as for a session:
    `on_open` when the client subscribes, `on_message` for each message, and `on_close` exactly
    once, when the client unsubscribes, the server closes the channel or the carrier ends.  A hook
    that raises, or an `on_open` that returns False, closes only its own channel.

    The channels of one carrier take turns: the next message, for any channel, is handled when the
    running hook has returned.  Messages that are not part of the protocol, or are for a channel
    that is not open, are ignored.
    """

    _services: Mapping[str, "_Service"] = MappingProxyType({})

    @classmethod
    def get(cls, /, **channels: Connect) -> type["MultiplexConnection"]:
        """Make the connection class for a service with these channels.

        Args:
            channels: For each name, a connection class, or a callable that takes a `Channel` (it
                serves as the session) and returns a `SockJSConnection`.

        Raises:
            ValueError: If a name has a comma.
            TypeError: If a value is not callable, or is a class that does not derive from
                `SockJSConnection`.
        """
        for name, connect in channels.items():
            _check(name, connect)
        # websocket-multiplex's client escapes names; other clients may not
        known = {**channels, **{escaped(name): make for name, make in channels.items()}}
        services = {name: _Service(name, make) for name, make in known.items()}
        return type(cls.__name__, (cls,), {"_services": services, "__module__": cls.__module__})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._channels: dict[str, Channel] = {}

    async def on_message(self, message: Any) -> None:
        """Handle one message of the protocol.  If you override this, call it too."""
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
        if channel:
            await channel.settle()

    async def on_close(self) -> None:
        """Close the channels.  If you override this, call it too."""
        for channel in (channels := list(self._channels.values())):
            channel.leave_with_carrier()
        try:
            if len(channels) > 1:  # they begin by themselves, so all can be cancelled at once
                await asyncio.sleep(0)
            await _finish(channels)
        except asyncio.CancelledError:
            for channel in channels:
                channel.hooks.cancel()
            await _finish(channels)
            raise

    async def _subscribe(self, service: "_Service") -> "Channel | None":
        if (before := self._channels.get(service.name)) is not None:
            await before.hooks.finish()  # the server closed it a moment ago
        channel = Channel(self.session, service, self._channels)
        try:
            channel.connection = checked(channel.context.run(service.connect, channel), channel)
        except (Exception, asyncio.CancelledError):
            logger.exception("session %s: its connection could not be made", channel)
            channel.close()
            return None
        self._channels[service.name] = channel
        await channel.hooks.open()
        return channel


class Channel(Session):
    """One channel; its connection has it as `session`.

    Args:
        carrier: The session that carries the channel.
        service: The service that the client subscribed to.
        channels: The carrier's channels by name.  The channel stays in it until its `on_close` has
            returned.
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
        self.carrier: Session = carrier
        self.hooks: AwaitedHooks = AwaitedHooks(self)
        self.is_subscribed: bool = True
        self.close_info: CloseInfo | None = None
        self._born = asyncio.get_running_loop().time()
        self._service = service
        self._channels = channels

    def __str__(self) -> str:
        return f"{self.carrier}, channel {self.name}"

    def __repr__(self) -> str:
        return f"<Channel {self.name} of {self.carrier!r}>"

    @property
    def events(self) -> Telling:
        """The carrier's: a channel's hooks are told like its own."""
        return self.carrier.events

    @property
    def name(self) -> str:
        """The channel's name as the client writes it; websocket-multiplex's client escapes it."""
        return self._service.name

    @property
    def id(self) -> str:  # type: ignore[override]
        """The carrier's id: the same for all channels of one client."""
        return self.carrier.id

    @property
    def info(self) -> ConnectionInfo:  # type: ignore[override]
        """About the request that opened the carrier's session."""
        return self.carrier.info

    @property
    def transport(self) -> str:
        """The name of the transport that opened the carrier."""
        return self.carrier.transport

    @property
    def channels(self) -> Subscriptions:
        """The subscriptions of all sessions of the router."""
        return self.carrier.channels

    @property
    def is_open(self) -> bool:
        """True while the channel accepts messages, in both directions."""
        return self.is_subscribed and self.carrier.is_open

    @property
    def is_closed(self) -> bool:
        """True once the channel or its carrier was closed, by either side."""
        return not self.is_subscribed or self.carrier.is_closed

    @property
    def context(self) -> contextvars.Context:
        """The context in which the hooks of this channel run: a copy of the carrier's."""
        return self.hooks.context

    @property
    def is_cut_off(self) -> bool:
        """True if shutdown has cancelled the carrier's hook, in which this channel's hook runs."""
        return self.hooks.is_cancelled or self.carrier.is_cut_off

    def send(self, message: str | bytes, key: str | None = None) -> None:
        """Queue `message` for the carrier.

        Raises:
            TypeError: If `message` is not a `str`: the protocol carries only text.
        """
        if self.is_subscribed:
            key = None if key is None else self._service.prefix + key
            self.carrier.send(self._service.addressed(message), key)

    def send_shared(self, message: PreparedMessage) -> None:
        """Like `send`, for a message to many clients, encoded once for each channel name."""
        if self.is_subscribed:
            self.carrier.send_shared(message.behind(self._service.prefix))

    def send_json(self, text: str) -> None:
        """Like `send`: the protocol carries only text, so the client gets JSON as text."""
        self.send(text)

    def flush(self) -> None:
        """Write what the carrier has queued."""
        self.carrier.flush()

    async def drain(self) -> None:
        """Wait until the carrier's queue, which all its channels share, has room."""
        if self.is_subscribed:
            await self.carrier.drain()

    def close(
        self,
        code: int = GO_AWAY.code,
        reason: str = GO_AWAY.reason,
        initiator: Initiator = "server",
    ) -> None:
        """Close the channel with ``uns,CHANNEL``; the client does not get the code and reason."""
        if self.is_subscribed:
            self.carrier.send(f"uns,{self.name}")
            self.leave(End(code, reason, initiator))

    def extend(self, until: Until) -> None:
        """Change until when the client is authorized, for all channels of the carrier."""
        if self.is_subscribed:
            self.carrier.extend(until)

    def end_after_gap(self) -> None:
        """Close the channel, but not its carrier."""
        self.close(*MESSAGES_MISSED)

    def insert_gap(self, session: GapSession, channel: str) -> None:
        """See `GapSession`: the channels of a carrier take turns."""
        self.carrier.insert_gap(session, channel)

    async def call_on_gap(self, channel: str) -> None:
        """Call `on_gap`."""
        await self.hooks.gap(channel)
        await self.settle()

    async def settle(self) -> None:
        """Call `on_close` if a hook has closed the channel."""
        # if the carrier has ended, its on_close does this, and can be cancelled as a whole
        if not self.is_subscribed and self.carrier.is_open:
            await self.hooks.finish()
            self.hooks_returned()

    def leave(self, end: End) -> None:
        """End the channel without telling the client; have `on_close` called unless a hook runs."""
        if self.is_subscribed:
            self.is_subscribed = False
            seconds = asyncio.get_running_loop().time() - self._born
            self.close_info = CloseInfo(*end, seconds, self.transport)
            self.channels.leave(self)
        self.hooks.close()

    def leave_with_carrier(self) -> None:
        """End the channel for the same reason as its carrier."""
        info = self.carrier.close_info
        assert info is not None, "the carrier's on_close is being called"
        self.leave(End(info.code, info.reason, info.initiator))

    def peer_failed(self, end: End) -> None:
        """Do nothing: the carrier handles this."""

    def hooks_returned(self) -> None:
        """Forget the channel, as `on_close` has returned.  A second call does nothing."""
        if self._channels.get(self.name) is self:
            del self._channels[self.name]
            self.hooks.break_cycles()  # so that it does not wait for the garbage collector
            del self.connection


class _Service:
    """What a client gets when it subscribes to a name."""

    __slots__ = ("name", "connect", "prefix")

    def __init__(self, name: str, connect: Connect) -> None:
        self.name: str = name
        self.connect: Connect = connect
        self.prefix: str = f"msg,{name},"

    def addressed(self, message: str | bytes) -> str:
        """Return the carrier's message for a message of the channel."""
        if not isinstance(message, str):
            raise TypeError(
                f"a channel's message is a str, not {type(message).__name__}: encode it first, "
                "for example with json.dumps()"
            )
        return self.prefix + message


def escaped(name: str) -> str:
    """Escape `name` like JavaScript's ``escape``, which websocket-multiplex's client uses."""
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
        raise ValueError(f"channel {name!r} is not valid: its name has a comma")
    if not callable(connect) or (
        isinstance(connect, type) and not issubclass(connect, SockJSConnection)
    ):
        raise TypeError(
            f"channel {name!r}: {connect!r} must be a SockJSConnection class, or a callable that "
            "returns a connection"
        )
    warn_of_wrong_hooks(connect)
