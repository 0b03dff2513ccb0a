"""The part of the package that an application mounts."""

import concurrent.futures
import dataclasses
import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

from aiohttp import web

from sockjs_aio.brokers.base import Broker
from sockjs_aio.connection import (
    Session,
    SockJSConnection,
    broadcast,
    is_coroutine_function,
    warn_of_plain_hooks,
)
from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.server.admission import Authorize, Verify
from sockjs_aio.server.aiohttp_internals import guard
from sockjs_aio.server.health import service_health
from sockjs_aio.server.service import Service
from sockjs_aio.server.urls import routes
from sockjs_aio.settings import Settings

T = TypeVar("T")


class SockJSRouter:
    """Serves one SockJS service below a prefix of an aiohttp application.

    Args:
        connection: The connection class, or any callable that takes the session and returns a
            `SockJSConnection`; called once for each session.
        prefix: Path of the service, such as ``"/chat"``; may have several segments, or be empty:
            then the service is at the root.
        settings: A `Settings`, or a mapping from setting names to values.
        authorize: A coroutine function, awaited with the request before a session is opened, on
            every transport.  Return True to let the client in, or who it is: `info.identity` has
            that.  None and False refuse with 403, an aiohttp HTTP exception with its own status.
        verify: Called with each later request of a session and the `ConnectionInfo` of the one
            that opened it, and awaited if it is a coroutine function; unless it returns True the
            request is refused with 403.  Without it, anyone who knows a session's id can send to
            it and poll it.
        more_settings: Settings by name, such as ``heartbeat_delay=10``; they take precedence over
            those of `settings`.
        broker: What carries the messages of channels; several routers may have the same one.
            Without it, channels are the router's own, and end at its process.

    Raises:
        SettingsError: If a setting is unknown, of the wrong type or out of range.
        ValueError: If `prefix` does not start with a slash, or no path of a request could have it.
        TypeError: If `connection` or `verify` cannot be called, `authorize` is not a coroutine
            function, a keyword is misspelt, `connection` is a class that is no `SockJSConnection`,
            or `broker` is no `Broker`.
    """

    def __init__(
        self,
        connection: Callable[[Session], SockJSConnection],
        prefix: str = "",
        settings: Settings | Mapping[str, Any] | None = None,
        *,
        authorize: Authorize | None = None,
        verify: Verify | None = None,
        broker: Broker | None = None,
        **more_settings: Any,
    ) -> None:
        _check_connection(connection)
        if authorize is not None and not is_coroutine_function(authorize):
            raise TypeError(
                f"authorize must be a coroutine function, not {authorize!r}: "
                "write `async def authorize(request)`"
            )
        if verify is not None and not callable(verify):
            raise TypeError(f"verify must be a function, not {verify!r}")
        if broker is not None and not isinstance(broker, Broker):
            raise TypeError(f"broker has to be a Broker such as RedisBroker(url), not {broker!r}")
        self.settings = settings = _made_settings(settings, more_settings)
        self.prefix = _checked_prefix(prefix)
        self.authorize = authorize
        self._is_attached = False
        self.broker = broker
        self._registry = SessionRegistry(connection, settings, broker)
        self._service = Service(settings, self._registry, authorize, verify)

    def attach(self, app: web.Application) -> None:
        """Install the routes on `app`, and end the sessions when it shuts down.

        Raises:
            RuntimeError: If `app` has started, the router is attached already, or another one
                serves the same prefix there.
        """
        if app.frozen:
            raise RuntimeError("attach the SockJSRouter before the application starts")
        if self._is_attached:
            raise RuntimeError("a SockJSRouter can be attached once: make another one")
        if any(x.canonical == self.prefix + "/info" for x in app.router.resources()):
            raise RuntimeError(f"another SockJSRouter serves the prefix {self.prefix!r}")
        self._is_attached = True
        guard(app)
        app.add_routes(self.routes)
        app.on_startup.append(self._startup)
        app.on_shutdown.append(self._shutdown)

    @property
    def routes(self) -> list[web.RouteDef]:
        """The routes for ``app.add_routes``; `attach` ends the sessions at shutdown besides."""
        return routes(self._service, self.prefix)

    async def health(self, request: web.Request) -> web.StreamResponse:
        """Tell a load balancer whether to send new clients here; mount it where that asks.

        ``app.router.add_get("/health", router.health)`` answers 200 and
        ``{"status": "ok", "sessions": 12}``; from `announce_drain`, `drain` or `shutdown` on 503
        and ``"draining"``.
        Where the router was given a broker its state is there too: ``"broker": "connected"``; and
        that of `Nodes`: ``"nodes": "connected"``.  It tells of this process alone: with `Workers`,
        of the one that the request comes in at.
        """
        return service_health(self._service, self.broker)

    def call_threadsafe(
        self, function: Callable[..., T], *arguments: Any
    ) -> "concurrent.futures.Future[T]":
        """Call `function` in the event loop's thread: the way in from any other thread.

        Everything else here belongs to that thread; in asyncio's debug mode a `send` or `close`
        from elsewhere raises.  Calls of one thread are made in their order.

        Args:
            function: Such as ``connection.send``.
            arguments: Its arguments.

        Returns:
            What `function` returns or raises; an exception is logged too, as nobody may ask.

        Raises:
            RuntimeError: If the application has not started, or its loop has ended.
            TypeError: If `function` is a coroutine function.
        """
        return self._registry.thread.call(function, *arguments)

    @property
    def session_count(self) -> int:
        """How many sessions this process has, closed ones that still answer polls included."""
        return len(self._registry)

    def broadcast(self, clients: "Any", message: str | bytes) -> None:
        """Send `message` to all `clients`, encoding it once; closed ones are skipped."""
        broadcast(clients, message)

    async def publish(
        self,
        channel: str,
        message: str,
        *,
        exclude: SockJSConnection | Collection[SockJSConnection] = (),
    ) -> None:
        """Send `message` to all subscribers of `channel`; see `SockJSConnection.publish`."""
        await self._registry.channels.publish(channel, message, exclude)

    def subscribers(self, channel: str) -> list[SockJSConnection]:
        """Return the connections of this router that are subscribed to `channel`.

        Raises:
            TypeError, ValueError: If `channel` cannot be a name.
        """
        return self._registry.channels.subscribers(channel)

    async def members(self, channel: str) -> set[str]:
        """Tell who is there: as whom connections are subscribed to `channel`, in any process.

        Whoever is there several times is told once.

        Raises:
            BrokerUnavailableError: If other processes' members cannot be found out.
            TypeError, ValueError: If `channel` cannot be a name.
        """
        return await self._registry.channels.members(channel)

    def announce_drain(self) -> None:
        """Have `health` answer 503 from now on; sessions are opened as ever until `drain`.

        A load balancer needs a moment to notice, and nobody whom it still sends here is refused.
        """
        self._registry.closing.is_announced = True

    async def drain(self, over: float = 0) -> None:
        """Open no more sessions, and close those that there are, spread over a time.

        From now on `health` answers 503, and so do requests that would open a session.  Sessions
        are closed evenly over the time, each with ``c[1012,"Service restart"]`` after its queued
        messages, so that clients do not all come back at once.  Then this waits for what is left:
        polling clients to fetch their close frame, slow ones to take theirs, hooks to return; at
        most `shutdown_timeout` seconds.  Nobody is cut off: `shutdown` does that.  It may be called
        again, with a shorter time too.

        Args:
            over: Seconds, 0 or above.

        Raises:
            ValueError: If `over` is below 0.
        """
        if not over >= 0:
            raise ValueError(f"drain(over={over!r}) cannot be: a number of seconds, 0 or above")
        await self._registry.closing.drain(over)

    async def shutdown(self) -> None:
        """Open no more sessions, and end those that there are, within `shutdown_timeout` seconds.

        Queued messages and ``c[1012,"Service restart"]`` go out first.  `attach` has this called
        when the application shuts down; who adds `routes` alone calls it.
        """
        await self._registry.shutdown()
        await self._registry.channels.stop()

    async def _startup(self, _app: web.Application) -> None:
        self._registry.thread.bind()
        self._registry.channels.start()

    async def _shutdown(self, _app: web.Application) -> None:
        await self.shutdown()


def _made_settings(
    settings: Settings | Mapping[str, Any] | None, more: Mapping[str, Any]
) -> Settings:
    _check_keywords(more)
    if isinstance(settings, Settings):
        return dataclasses.replace(settings, **more) if more else settings
    made = Settings.from_mapping({} if settings is None else settings)
    return dataclasses.replace(made, **more) if more else made


_ARGUMENTS = ("authorize", "verify", "broker")


def _check_keywords(names: Iterable[str]) -> None:
    """Raise TypeError for a misspelt argument; Settings answers for those like its names."""
    known = [*_ARGUMENTS, *(field.name for field in dataclasses.fields(Settings))]
    for name in names:
        nearest = difflib.get_close_matches(name, known, n=1)
        if nearest and nearest[0] in _ARGUMENTS:
            raise TypeError(f"SockJSRouter has no argument {name!r}: did you mean {nearest[0]!r}?")


def _check_connection(connection: object) -> None:
    if isinstance(connection, SockJSConnection):
        raise TypeError("pass the connection class, or a callable that makes one, not an instance")
    if not callable(connection) or (
        isinstance(connection, type) and not issubclass(connection, SockJSConnection)
    ):
        raise TypeError(f"{connection!r} has to be a SockJSConnection class, or return one")
    warn_of_plain_hooks(connection)


def _checked_prefix(prefix: str) -> str:
    """Return `prefix` as paths of requests are matched with it: decoded, but for slashes and %."""
    if not isinstance(prefix, str):
        raise TypeError(f"prefix {prefix!r} cannot be used: it has to be a str such as '/chat'")
    refused = f"prefix {prefix!r} cannot be used: it"
    if prefix.rstrip("/") and not prefix.startswith("/"):
        raise ValueError(f"{refused} has to start with a slash")
    try:
        prefix.encode()
        prefix = unquote(_KEPT_ESCAPE.sub(r"%25\1", prefix), errors="strict").rstrip("/")
    except UnicodeError:
        raise ValueError(f"{refused} has what is not UTF-8") from None
    if _FORBIDDEN_IN_PREFIX.search(prefix):
        raise ValueError(
            f"{refused} has a blank, one of {{}}?#, a segment of dots, or a % that escapes nothing"
        )
    return _KEPT_ESCAPE.sub(lambda escape: escape[0].upper(), prefix)


_KEPT_ESCAPE = re.compile("%(2f|25)", re.IGNORECASE)
_FORBIDDEN_IN_PREFIX = re.compile(r"[{}?#\s\x00-\x1f\x7f]|/\.\.?(?=/|\Z)|%(?!2[fF]|25)")
