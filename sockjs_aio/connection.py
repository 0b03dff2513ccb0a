"""The class that applications derive from: three hooks, and what they can do.

`Session` is the contract behind it: what a connection may ask of its session.  The server's own
sessions (`core.session`) implement it, and so do the channels of `multiplex`.
"""

import abc
import contextvars
import difflib
import functools
import inspect
import logging
from collections.abc import Collection, Iterable
from typing import Any, Protocol

from sockjs_aio.close_info import CloseInfo
from sockjs_aio.info import ConnectionInfo
from sockjs_aio.protocol.ends import GO_AWAY
from sockjs_aio.protocol.framing import PreparedMessage

logger = logging.getLogger("sockjs_aio")

_HOOKS = {"onopen": "on_open", "onmessage": "on_message", "onclose": "on_close"}
_ELSEWHERE = {"onconnect": "on_open", "ondisconnect": "on_close", "onreceive": "on_message"}
"""What other libraries call these hooks."""


class Session(abc.ABC):
    """A client's session, as its connection sees it; not made by applications."""

    __slots__ = ()

    id: str
    """As in the URL."""

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
        """The subscriptions of the router's sessions, this one's among them."""

    @property
    @abc.abstractmethod
    def is_open(self) -> bool:
        """Whether messages are accepted, in both directions."""

    @property
    @abc.abstractmethod
    def is_closed(self) -> bool:
        """Whether the session was closed, by either side or by a lost connection."""

    @property
    @abc.abstractmethod
    def context(self) -> contextvars.Context:
        """What the hooks of this session run in."""

    @property
    @abc.abstractmethod
    def is_cut_off(self) -> bool:
        """Whether the server is ending and has cancelled the hook that runs."""

    @abc.abstractmethod
    def send(self, message: str | bytes) -> None:
        """Queue `message`; see `SockJSConnection.send`."""

    @abc.abstractmethod
    def send_shared(self, message: PreparedMessage) -> None:
        """As `send`, for a message that goes to many sessions and is encoded once."""

    @abc.abstractmethod
    def send_json(self, text: str) -> None:
        """As `send`, for JSON text: the client receives the value and not a string.

        The protocol knows only strings; sockjs-client passes on whatever the frame contains.
        """

    @abc.abstractmethod
    def flush(self) -> None:
        """Write what is queued now, not at the end of this turn of the event loop."""

    @abc.abstractmethod
    async def drain(self) -> None:
        """Wait until there is room in the queue; see `SockJSConnection.drain`."""

    @abc.abstractmethod
    def close(self, code: int = GO_AWAY.code, reason: str = GO_AWAY.reason) -> None:
        """Close the session; see `SockJSConnection.close`."""


class Subscriptions(Protocol):
    """Who receives what is published to which channel."""

    async def subscribe(self, session: Session, channel: str, member: str | None) -> None:
        """See `SockJSConnection.subscribe`."""

    def unsubscribe(self, session: Session, channel: str) -> None:
        """See `SockJSConnection.unsubscribe`."""

    def leave(self, session: Session) -> None:
        """End all subscriptions of `session`."""

    async def publish(
        self,
        channel: str,
        message: str,
        exclude: "SockJSConnection | Collection[SockJSConnection]",
    ) -> None:
        """See `SockJSConnection.publish`."""

    async def members(self, channel: str) -> set[str]:
        """See `SockJSRouter.members`."""
        ...


class SockJSConnection:
    """One client, as the application sees it; the router makes an instance for each session.

    Order: the open frame goes out, then `on_open` is awaited while messages wait, then
    `on_message` for each message, one at a time and in order, then `on_close`, exactly once and
    after whichever hook was running has returned: however the session ended.  The hooks of one
    session never run at the same time, those of different sessions do not wait for each other.

    A hook that raises is logged with its traceback and closes the session with
    ``c[1011,"Internal error"]``; `on_close` is still called.  A hook is not cancelled because its
    client has gone; at shutdown it is after `shutdown_timeout` seconds.
    """

    session: Session
    """The session that this connection belongs to."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Warn of methods with nearly the name of a hook that the class does not have."""
        super().__init_subclass__(**arguments)
        for name, value in vars(cls).items():
            hook = _meant(name) if callable(value) else None
            if hook and getattr(cls, hook) is getattr(SockJSConnection, hook):
                logger.warning("%s.%s is no hook: did you mean %s?", cls.__qualname__, name, hook)

    def __init__(self, session: Session) -> None:
        self.session = session

    async def on_open(self, info: ConnectionInfo) -> Any:
        """The client has been let in.  Return False to turn it away with ``c[3000,"Go away!"]``."""

    async def on_message(self, message: Any) -> None:
        """A message came: a `str`; over the raw WebSocket `bytes`, if the client sent binary."""

    async def on_close(self) -> None:
        """The session is over: `send` does nothing any more.

        Messages that were accepted before a client left are still handled first; those left over
        when the server called `close` are not.
        """

    @property
    def info(self) -> ConnectionInfo:
        """About the request that opened the session."""
        return self.session.info

    @property
    def is_closed(self) -> bool:
        """Whether the session has been closed, by whomever."""
        return self.session.is_closed

    @property
    def close_info(self) -> CloseInfo | None:
        """How and why the session ended; None while it is open, always set in `on_close`."""
        return self.session.close_info

    def _sockjs_hook_name(self, hook: str) -> str:
        """Return what the log calls a hook: adapters put an application's own code behind it."""
        return f"{type(self).__name__}.{hook}"

    def send(self, message: str | bytes) -> None:
        """Send `message` to the client; never waits, keeps the order, does nothing once closed.

        All that is sent within one turn of the event loop leaves as one frame.  A client that
        takes nothing until `send_queue_limit` bytes are queued is closed with
        ``c[1008,"Slow consumer"]``: await `drain` between large messages.

        Args:
            message: Text.  `bytes` are possible over the raw WebSocket only.

        Raises:
            TypeError: If `message` is something else.
        """
        self.session.send(message)

    async def drain(self) -> None:
        """Wait until at most a quarter of `send_queue_limit` is queued; do not wait once closed."""
        await self.session.drain()

    def broadcast(self, clients: "Iterable[SockJSConnection]", message: str | bytes) -> None:
        """Send `message` to all `clients`, encoding it once; closed ones are skipped.

        Raises:
            TypeError: As `send`.
        """
        broadcast(clients, message)

    async def subscribe(self, channel: str, *, member: str | None = None) -> None:
        """Get what is published to `channel` from now on, until the session ends.

        Messages of this process come from the call on, those of others once it returns; but it also
        returns, and the subscription holds, when the broker cannot be reached.  Subscribing again
        changes the member.  Once the session is closed this does nothing.

        Args:
            channel: Its name: 1 to 200 bytes, no control characters.
            member: As whom to be counted in, for `SockJSRouter.members`: 1 to 1,000 bytes, such as
                a user's name, or JSON.

        Raises:
            TooManyChannelsError: If there are `max_channels` already.
            TypeError: If `channel` or `member` is no `str`.
            ValueError: If it is too short or too long, or has characters that it may not have.
        """
        await self.session.channels.subscribe(self.session, channel, member)

    def unsubscribe(self, channel: str) -> None:
        """Stop receiving what is published to `channel`; without a subscription, do nothing.

        Raises:
            TypeError, ValueError: As `subscribe`.
        """
        self.session.channels.unsubscribe(self.session, channel)

    async def publish(
        self,
        channel: str,
        message: str,
        *,
        exclude: "SockJSConnection | Collection[SockJSConnection]" = (),
    ) -> None:
        """Send `message` to all subscribers of `channel`, in whichever process.

        That goes for this connection too, if it is subscribed and not excluded; no subscription is
        needed.  Subscribers of this process have it queued before anything is waited for.

        Args:
            channel: Its name, as for `subscribe`.
            message: Text.
            exclude: A connection that does not get it, or several.

        Raises:
            BrokerUnavailableError: If it may not have reached other processes.
            TypeError: If `channel` or `message` is no `str`.
            ValueError: If `channel` cannot be a name, or `message` is too large.
        """
        await self.session.channels.publish(channel, message, exclude)

    async def members(self, channel: str) -> set[str]:
        """Tell who is there: see `SockJSRouter.members`."""
        return await self.session.channels.members(channel)

    def close(self, code: int = GO_AWAY.code, reason: str = GO_AWAY.reason) -> None:
        """Close the session: what was sent before goes out first, then ``c[code,"reason"]``.

        Messages that were accepted and not handled are dropped.  Closing again does nothing.

        Args:
            code: 1000 to 4999; over the raw WebSocket one that RFC 6455, section 7.4, lets a
                server send, or the client is told 1000.
            reason: Text for the client; over the raw WebSocket its first 123 bytes.

        Raises:
            TypeError: If `code` is no number or `reason` no text.
            ValueError: If `code` is out of range.
        """
        if not isinstance(code, int) or not isinstance(reason, str):
            raise TypeError(f"close({code!r}, {reason!r}) has to be close(code: int, reason: str)")
        if not 1000 <= code <= 4999:
            raise ValueError(f"close code {code!r} cannot be used: it has to be 1000 to 4999")
        self.session.close(code, reason)


def broadcast(clients: Iterable[SockJSConnection], message: str | bytes) -> None:
    """Send `message` to all `clients`, encoding it once; closed ones are skipped.

    Raises:
        TypeError: If `message` is neither `str` nor, for raw WebSockets only, `bytes`.
    """
    if not isinstance(message, (str, bytes)):
        raise TypeError(
            f"broadcast(clients, message) sends a str, not {type(message).__name__}: encode it "
            "first, for instance with json.dumps()"
        )
    shared = PreparedMessage(message)
    for client in tuple(clients):  # a client that is closed for its full queue may leave the set
        client.session.send_shared(shared)


def checked(connection: SockJSConnection, session: object) -> SockJSConnection:
    """Return `connection`, which the application has made for `session`.

    Raises:
        TypeError: If it is none, or does not know its session.
    """
    if not isinstance(connection, SockJSConnection):
        raise TypeError(f"{connection!r} is no SockJSConnection: return one for each session")
    if getattr(connection, "session", None) is not session:
        name = type(connection).__name__
        raise TypeError(f"{name}.__init__ has to call super().__init__(session)")
    return connection


def warn_of_plain_hooks(connect: object) -> None:
    """Log which hooks of the class that `connect` is, or is a `partial` of, lack ``async``."""
    cls = connect.func if isinstance(connect, functools.partial) else connect
    if not (isinstance(cls, type) and issubclass(cls, SockJSConnection)):
        return
    for hook in _HOOKS.values():
        if not is_coroutine_function(getattr(cls, hook)):
            logger.warning(
                "%s.%s is a plain function, and fails when it is called unless it returns "
                "something to await: write async def %s",
                cls.__qualname__,
                hook,
                hook,
            )


def is_coroutine_function(function: Any) -> bool:
    """Tell whether calling `function`, decorated perhaps, gives something to await."""
    function = inspect.unwrap(function)
    if not callable(function):
        return False
    return any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))


def _meant(name: str) -> str | None:
    """Return the hook that is nearly called `name`, if there is one."""
    plain = name.replace("_", "").lower()
    if not plain.startswith("on") or name.startswith(("on_open_", "on_message_", "on_close_")):
        return None
    known = _HOOKS | _ELSEWHERE
    # "once_closed" is one letter further away than "on_clsoe"
    cutoff = 0.83 if name.startswith("on_") else 0.9
    return known.get("".join(difflib.get_close_matches(plain, known, n=1, cutoff=cutoff)))
