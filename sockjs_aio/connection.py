"""The class that you derive from: its hooks, and the methods that they call.

`Session` is the contract behind it, of the server's own sessions and the channels of `multiplex`.
"""

import abc
import contextvars
import logging
from collections.abc import Collection, Iterable
from typing import Any, Protocol, TypeAlias

from sockjs_aio.gaps import GapChannels, GapHook, GapSession
from sockjs_aio.grant import Until
from sockjs_aio.hook_names import meant_hook
from sockjs_aio.protocol.ends import GO_AWAY, check_close
from sockjs_aio.protocol.framing import PreparedMessage
from sockjs_aio.protocol.names import check_key
from sockjs_aio.session_info import CloseInfo, ConnectionInfo
from sockjs_aio.stats import Telling

logger: logging.Logger = logging.getLogger("sockjs_aio.hooks")


class Session(GapSession):
    """A client's session, as its connection sees it.  Only the server makes sessions."""

    __slots__ = ()

    id: str
    """The session id, as in the URL."""

    info: ConnectionInfo
    """About the request that opened the session."""

    connection: "SockJSConnection"
    """The application's object for this session."""

    close_info: CloseInfo | None
    """How and why the session ended; None while it is open."""

    @property
    def transport(self) -> str:
        """The name of the transport that opened the session."""
        return self.info.transport

    @property
    @abc.abstractmethod
    def channels(self) -> "Subscriptions":
        """The subscriptions of all sessions of the router."""

    @property
    @abc.abstractmethod
    def events(self) -> Telling:
        """Tells the router's observers what happens."""

    @property
    @abc.abstractmethod
    def is_open(self) -> bool:
        """True while the session accepts messages, in both directions."""

    @property
    @abc.abstractmethod
    def is_closed(self) -> bool:
        """True once the session was closed, by either side or by a lost connection."""

    @property
    @abc.abstractmethod
    def context(self) -> contextvars.Context:
        """The context (`contextvars`) in which the hooks of this session run."""

    @property
    @abc.abstractmethod
    def is_cut_off(self) -> bool:
        """True if the server is shutting down and has cancelled the running hook."""

    @abc.abstractmethod
    def send(self, message: str | bytes, key: str | None = None) -> None:
        """Queue `message`; see `SockJSConnection.send`."""

    @abc.abstractmethod
    def send_shared(self, message: PreparedMessage) -> None:
        """Like `send`, for a message that goes to many sessions and is encoded once."""

    @abc.abstractmethod
    def send_json(self, text: str) -> None:
        """Like `send`, for JSON text: the client receives the value instead of a string.

        The protocol allows only strings, but sockjs-client passes on any value in a frame.
        """

    @abc.abstractmethod
    def flush(self) -> None:
        """Write queued messages now, instead of at the end of this turn of the event loop."""

    @abc.abstractmethod
    async def drain(self) -> None:
        """Wait until the queue has room; see `SockJSConnection.drain`."""

    @abc.abstractmethod
    def close(self, code: int = GO_AWAY.code, reason: str = GO_AWAY.reason) -> None:
        """Close the session; see `SockJSConnection.close`."""

    @abc.abstractmethod
    def extend(self, until: Until) -> None:
        """Change when it is closed; see `SockJSConnection.extend`."""


class Subscriptions(GapChannels, Protocol):
    """Which sessions receive the messages of which channels."""

    async def subscribe(
        self, session: Session, channel: str, member: str | None, presence: bool
    ) -> None:
        """See `SockJSConnection.subscribe`."""

    def unsubscribe(self, session: Session, channel: str) -> None:
        """See `SockJSConnection.unsubscribe`."""

    def leave(self, session: Session) -> None:
        """End all subscriptions of `session`."""

    async def publish(
        self, channel: str, message: str, exclude: "Connections", key: str | None
    ) -> None:
        """See `SockJSConnection.publish`."""

    async def close_channel(
        self, channel: str, code: int, reason: str, keep: "Connections"
    ) -> None:
        """See `SockJSConnection.close_channel`."""

    async def members(self, channel: str) -> set[str]:
        """See `SockJSRouter.members`."""
        ...


class SockJSConnection(GapHook):
    """One client, as the application sees it; the router makes an instance for each session.

    First `on_open` is awaited.  Messages wait until it returns, but the open frame does not.  Then
    `on_message` is awaited for each message, one at a time and in order.  When the session has
    ended, for any reason, and the running hook has returned, `on_close` is awaited exactly once.
    The hooks of one session never run at the same time; hooks of different sessions do not wait
    for each other.

    If a hook raises, the error is logged with its traceback and the session is closed with
    ``c[1011,"Internal error"]``; `on_close` is still called.  A hook is not cancelled when its
    client disconnects.  At shutdown it is cancelled after `shutdown_timeout` seconds.
    """

    session: Session
    """The session that this connection belongs to."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Warn about methods whose names look like a misspelt hook."""
        super().__init_subclass__(**arguments)
        for name, value in vars(cls).items():
            hook = meant_hook(name) if callable(value) else None
            if hook and getattr(cls, hook) is getattr(SockJSConnection, hook):
                text = "%s.%s is not a hook: did you mean %s?"
                logger.warning(text, cls.__qualname__, name, hook)

    def __init__(self, session: Session) -> None:
        self.session = session

    async def on_open(self, info: ConnectionInfo) -> Any:
        """Called when the session opens.  Return False to close it with ``c[3000,"Go away!"]``."""

    async def on_message(self, message: Any) -> None:
        """Called for each message: a `str`, or `bytes` for a binary message on a raw WebSocket."""

    async def on_close(self) -> None:
        """Called when the session has ended; from then on `send` does nothing.

        If the client left, its accepted messages are handled first.  Messages still waiting when
        the server called `close` are dropped.
        """

    @property
    def info(self) -> ConnectionInfo:
        """About the request that opened the session."""
        return self.session.info

    @property
    def is_closed(self) -> bool:
        """True once the session was closed, by either side or by a lost connection."""
        return self.session.is_closed

    @property
    def close_info(self) -> CloseInfo | None:
        """How and why the session ended; None while it is open.  In `on_close` it is always set."""
        return self.session.close_info

    def _sockjs_hook_name(self, hook: str) -> str:
        """Return the name of a hook for the log; adapters return the name of the user's method."""
        return f"{type(self).__name__}.{hook}"

    def send(self, message: str | bytes, *, key: str | None = None) -> None:
        """Send `message` to the client, in order and without waiting; once closed, do nothing.

        Messages that you send within one turn of the event loop leave as one frame, or as several
        above 64 KiB.  A client that does not read is closed with ``c[1008,"Slow consumer"]`` when
        `send_queue_limit` bytes are queued.  To prevent that, await `drain` between large messages.

        Args:
            message: Text.  Raw WebSockets also take `bytes`.
            key: If a message with this key is queued, replace it, in its place, so that a slow
                client gets the latest.  1 to 200 bytes, no control characters.

        Raises:
            TypeError: If `message` or `key` has another type.
            ValueError: If `key` is not valid.
        """
        if key is not None:
            check_key(key)
        self.session.send(message, key)

    async def drain(self) -> None:
        """Wait until the session is closed or at most a quarter of `send_queue_limit` is queued."""
        await self.session.drain()

    def broadcast(
        self, clients: "Iterable[SockJSConnection]", message: str | bytes, *, key: str | None = None
    ) -> None:
        """Send `message` to all `clients`, encoding it once; raises what `send` raises."""
        broadcast(clients, message, key=key)

    async def subscribe(
        self, channel: str, *, member: str | None = None, presence: bool = False
    ) -> None:
        """Receive the messages that are published to `channel`, until the session ends.

        Messages from this process arrive as soon as you call this; messages from other processes
        arrive once it has returned.  If the broker cannot be reached, it also returns, and the
        subscription stays.  Call it again to change `member` or `presence`.  No effect once closed.

        Args:
            channel: The channel's name: 1 to 200 bytes, no control characters.
            member: The name under which `SockJSRouter.members` lists this connection, such as a
                user's name, or JSON: 1 to 1,000 bytes.
            presence: Have the router's `on_presence` told who joins and leaves.

        Raises:
            RuntimeError: If `presence` is True and the router has no `on_presence`.
            TooManyChannelsError: If the session has `max_channels` subscriptions already.
            TypeError: If `channel` or `member` is not a `str`.
            ValueError: If one of them is too short or too long, or has forbidden characters.
        """
        await self.session.channels.subscribe(self.session, channel, member, presence)

    def unsubscribe(self, channel: str) -> None:
        """Stop receiving messages of `channel`; without a subscription, do nothing.

        Raises:
            TypeError, ValueError: Like `subscribe`.
        """
        self.session.channels.unsubscribe(self.session, channel)

    async def publish(
        self, channel: str, message: str, *, exclude: "Connections" = (), key: str | None = None
    ) -> None:
        """Send `message` to all subscribers of `channel`, in all processes.

        This connection gets it too if it is subscribed, unless you exclude it.  The message is
        queued for the subscribers of this process before this method waits for anything.

        Args:
            channel: The channel's name, as for `subscribe`.
            message: Text.
            exclude: One or more connections that do not get the message.
            key: For each subscriber, replace what is still queued with the same key; see `send`.

        Raises:
            BrokerUnavailableError: If other processes may not have got the message.
            TypeError: If `channel`, `message` or `key` is not a `str`.
            ValueError: If `channel` or `key` is not valid, or `message` is too large.
        """
        await self.session.channels.publish(channel, message, exclude, key)

    async def close_channel(
        self,
        channel: str,
        code: int = GO_AWAY.code,
        reason: str = GO_AWAY.reason,
        *,
        keep: "Connections" = (),
    ) -> None:
        """Close all sessions that are subscribed to `channel`, in all processes, as `close` does.

        Args:
            channel: As for `subscribe`.  Those of this process are closed at once.
            code: As for `close`.
            reason: As for `close`; no longer than a message.
            keep: Connections of this process that stay open.  If all are closed, this does nothing.

        Raises:
            BrokerUnavailableError: If other processes may not have closed theirs.
            TypeError, ValueError: Like `publish` and `close`.
        """
        await self.session.channels.close_channel(channel, code, reason, keep)

    async def members(self, channel: str) -> set[str]:
        """Return the members of `channel`, in all processes: see `SockJSRouter.members`."""
        return await self.session.channels.members(channel)

    def close(self, code: int = GO_AWAY.code, reason: str = GO_AWAY.reason) -> None:
        """Close the session: queued messages are sent first, then ``c[code,"reason"]``.

        Messages from the client that are still waiting are dropped.  Closing again does nothing.

        Args:
            code: 1000 to 4999.  On a raw WebSocket, a code that RFC 6455, section 7.4, does not let
                a server send is replaced by 1000.
            reason: Text for the client.  On a raw WebSocket it is cut after 123 bytes.

        Raises:
            TypeError: If `code` is not an `int` or `reason` is not a `str`.
            ValueError: If `code` is out of range.
        """
        check_close(code, reason)
        self.session.close(code, reason)

    def extend(self, until: Until) -> None:
        """Change the time until which the client is authorized: see `Grant`.

        Raises:
            TypeError, ValueError: Like `Grant`.
        """
        self.session.extend(until)


Connections: TypeAlias = SockJSConnection | Collection[SockJSConnection]
"""One or more connections."""


def broadcast(
    clients: Iterable[SockJSConnection], message: str | bytes, *, key: str | None = None
) -> None:
    """Send `message` to all `clients`, encoding it once; closed ones are skipped.

    Arguments and exceptions are as for `SockJSConnection.send`.
    """
    if not isinstance(message, (str, bytes)):
        raise TypeError(
            f"broadcast(clients, message) sends a str, not {type(message).__name__}: encode it "
            "first, for example with json.dumps()"
        )
    shared = PreparedMessage(message, key=key)
    for client in tuple(clients):  # closing a slow client may remove it from the caller's set
        client.session.send_shared(shared)
