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
from sockjs_aio.connection import Session, SockJSConnection, broadcast
from sockjs_aio.core.connection_checks import warn_of_wrong_hooks
from sockjs_aio.core.events import Observer
from sockjs_aio.core.presence import OnPresence
from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.hook_names import is_coroutine_function
from sockjs_aio.observers.log import Log
from sockjs_aio.protocol.ends import GO_AWAY
from sockjs_aio.server.admission import Authorize, Verify
from sockjs_aio.server.aiohttp_internals import has_started
from sockjs_aio.server.guard import guard
from sockjs_aio.server.health import service_health
from sockjs_aio.server.service import Service
from sockjs_aio.server.urls import routes
from sockjs_aio.settings import Settings
from sockjs_aio.stats import Stats

T = TypeVar("T")


class SockJSRouter:
    """Serves one SockJS service below a prefix of an aiohttp application.

    Args:
        connection: The connection class, or any callable that takes the session and returns a
            `SockJSConnection`; called once for each session.
        prefix: Path of the service, such as ``"/chat"``.  It may have several segments.  If it is
            empty, the service is at the root.
        settings: A `Settings`, or a mapping from setting names to values.
        authorize: A coroutine function that is awaited with the request before a session is opened,
            on every transport.  Return True to accept the client, or return its identity, which
            becomes `info.identity`, or a `Grant` that ends.  None and False refuse with 403; an
            aiohttp HTTP exception refuses with its own status.
        verify: A function that is called with each later request of a session and the
            `ConnectionInfo` of the request that opened it; it may be a coroutine function.  Unless
            it returns True, the request gets 403.  Without `verify`, anyone who knows a
            session's id can send to it and poll it.
        broker: Carries the messages of channels; several routers may share one.  Without a broker,
            channels belong to this router and reach only this process.
        observers: They are told what happens: see docs/observing.md.
        on_presence: A coroutine function that is awaited with a channel, the members who have
            joined it and those who have left, for each channel to which a session has subscribed
            with ``presence=True``: see docs/scaling.md.
        more_settings: Settings by name, such as ``heartbeat_delay=10``; they override those in
            `settings`.

    Raises:
        SettingsError: If a setting is unknown, of the wrong type or out of range.
        ValueError: If `prefix` does not start with a slash, or cannot match the path of a request.
        TypeError: If `connection` or `verify` is not callable, `authorize` or `on_presence` is not
            a coroutine function, a keyword argument is misspelt, `connection` is a class not
            derived from `SockJSConnection`, `broker` is not a `Broker`, or one of `observers` is
            not an `Observer`.
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
        observers: Iterable[Observer] = (),
        on_presence: OnPresence | None = None,
        **more_settings: Any,
    ) -> None:
        _check_connection(connection)
        if authorize is not None and not is_coroutine_function(authorize):
            raise TypeError(
                f"authorize must be a coroutine function, not {authorize!r}: "
                "write `async def authorize(request)`"
            )
        if on_presence is not None and not is_coroutine_function(on_presence):
            raise TypeError(
                f"on_presence must be a coroutine function, not {on_presence!r}: "
                "write `async def on_presence(channel, joined, left)`"
            )
        if verify is not None and not callable(verify):
            raise TypeError(f"verify must be a function, not {verify!r}")
        if broker is not None and not isinstance(broker, Broker):
            raise TypeError(f"broker must be a Broker such as RedisBroker(url), not {broker!r}")
        if isinstance(observers, Observer):
            raise TypeError("observers must be a list of observers, such as [Metrics()]")
        settings = _made_settings(settings, more_settings)
        self.settings: Settings = settings
        self.prefix: str = _checked_prefix(prefix)
        self.authorize = authorize
        self._is_attached = False
        self.broker = broker
        self._registry = SessionRegistry(connection, settings, broker, [Log()], on_presence)
        self._service = Service(settings, self._registry, authorize, verify, self.prefix)
        for observer in observers:
            self.observe(observer)

    def attach(self, app: web.Application) -> None:
        """Add the routes to `app`, and end the sessions when it shuts down.

        Raises:
            TypeError: If `app` is not a `web.Application`.
            RuntimeError: If `app` has started, the router is already attached, or another router
                of `app` serves the same prefix.
        """
        if not isinstance(app, web.Application):
            raise TypeError(f"attach(app) needs the web.Application, not {app!r}")
        if has_started(app):
            raise RuntimeError("attach the SockJSRouter before the application starts")
        if self._is_attached:
            raise RuntimeError("this SockJSRouter is already attached: create another one")
        if any(x.canonical == self.prefix + "/info" for x in app.router.resources()):
            raise RuntimeError(f"another SockJSRouter serves the prefix {self.prefix!r}")
        self._is_attached = True
        guard(app)
        app.add_routes(self.routes)
        app.on_startup.append(self._startup)
        app.on_shutdown.append(self._shutdown)

    @property
    def routes(self) -> list[web.RouteDef]:
        """The routes for ``app.add_routes``.

        `attach` also ends the sessions at shutdown, as `run_app` and ``serve`` do in any case.
        """
        return routes(self._service, self.prefix)

    async def health(self, request: web.Request) -> web.StreamResponse:
        """Tell a load balancer whether to send new clients to this process.

        Mount it with ``app.router.add_get("/health", router.health)``.  It answers 200 and
        ``{"status": "ok", "sessions": 12, "process": 4711}``.  After `announce_drain`, `drain` or
        `shutdown` it answers 503, and the status is ``"draining"``.
        If the router has a broker, the answer includes its state: ``"broker": "connected"``.  With
        `Nodes` it also has ``"nodes": "connected"``.  The answer is about one process:
        ``"process"`` is its id, and with `Workers` ``"worker"`` is the worker's number.
        """
        return service_health(self._service, self.broker)

    def call_threadsafe(
        self, function: Callable[..., T], *arguments: Any
    ) -> "concurrent.futures.Future[T]":
        """Call `function` in the event loop's thread; use this from any other thread.

        Everything else in this package must be called in the event loop's thread.  Elsewhere,
        `close` raises an exception, and in asyncio's debug mode so do `send` and `broadcast`.
        Calls from one thread are made in order.

        Args:
            function: The function to call, such as ``connection.send``.
            arguments: Its arguments.

        Returns:
            A future with what `function` returns or raises.  An exception is also logged, because
            you may never look at the future.

        Raises:
            RuntimeError: If the application has not started, or its loop has ended.
            TypeError: If `function` is a coroutine function.
        """
        return self._registry.thread.call(function, *arguments)

    @property
    def session_count(self) -> int:
        """Number of sessions in this process, including closed ones that still answer polls."""
        return len(self._registry)

    @property
    def stats(self) -> Stats:
        """What this router has done in this process, and what it is doing now.

        To read it looks at each session, which takes about 10 ms for 50,000 of them.
        """
        return self._registry.stats

    def observe(self, observer: Observer) -> None:
        """Tell `observer` too, from now on; do this before the application starts.

        Raises:
            TypeError: If it is not an instance of a subclass of `Observer`.
        """
        self._service.observe(observer)

    def broadcast(self, clients: "Any", message: str | bytes, *, key: str | None = None) -> None:
        """Send `message` to all `clients`, encoding it once; closed connections are skipped."""
        broadcast(clients, message, key=key)

    async def publish(
        self,
        channel: str,
        message: str,
        *,
        exclude: SockJSConnection | Collection[SockJSConnection] = (),
        key: str | None = None,
    ) -> None:
        """Send `message` to all subscribers of `channel`; see `SockJSConnection.publish`."""
        await self._registry.channels.publish(channel, message, exclude, key)

    async def close_channel(
        self,
        channel: str,
        code: int = GO_AWAY.code,
        reason: str = GO_AWAY.reason,
        *,
        keep: SockJSConnection | Collection[SockJSConnection] = (),
    ) -> None:
        """Close all sessions that are subscribed to `channel`, in all processes.

        See `SockJSConnection.close_channel`.
        """
        await self._registry.channels.close_channel(channel, code, reason, keep)

    def subscribers(self, channel: str) -> list[SockJSConnection]:
        """Return the connections of this router that are subscribed to `channel`.

        Raises:
            TypeError, ValueError: If `channel` is not a valid name.
        """
        return self._registry.channels.subscribers(channel)

    async def members(self, channel: str) -> set[str]:
        """Return the names under which connections are subscribed to `channel`, in all processes.

        A member with several subscriptions is listed once.  If this process watches the channel
        (see `on_presence`), members that left within `presence_linger` are listed too.

        Raises:
            BrokerUnavailableError: If the members in other processes cannot be determined.
            TypeError, ValueError: If `channel` is not a valid name.
        """
        return await self._registry.channels.members(channel)

    def announce_drain(self) -> None:
        """Make `health` answer 503 from now on; new sessions are still accepted until `drain`.

        A load balancer needs a moment to notice.  Clients that it sends here until then are served.
        """
        self._registry.closing.is_announced = True

    async def drain(self, over: float = 0) -> None:
        """Open no more sessions, and close the existing ones, spread over `over` seconds.

        From now on `health` answers 503, and so do requests that would open a session.  Sessions
        are closed at an even rate, each with ``c[1012,"Service restart"]`` after its queued
        messages, so that clients do not all reconnect at once.  Then this waits at most
        `shutdown_timeout` seconds for polling clients to fetch their close frame, for slow clients
        to take theirs, and for hooks to return.  It cuts no one off; `shutdown` does that.  You may
        call it again, even with a shorter time.

        Args:
            over: Seconds, 0 or more.

        Raises:
            ValueError: If `over` is negative.
        """
        if not over >= 0:
            raise ValueError(f"drain(over={over!r}): `over` must be a number of seconds, 0 or more")
        await self._registry.closing.drain(over)

    async def shutdown(self) -> None:
        """Open no more sessions, and end the existing ones within `shutdown_timeout` seconds.

        Queued messages and ``c[1012,"Service restart"]`` go out first.  After `attach`, the
        application calls this when it shuts down.  If you only add `routes`, call it yourself,
        except under `run_app` and ``serve``.
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


_ARGUMENTS = ("authorize", "verify", "broker", "observers", "on_presence")


def _check_keywords(names: Iterable[str]) -> None:
    """Raise TypeError for a misspelt argument; `Settings` checks names that resemble settings."""
    known = [*_ARGUMENTS, *(field.name for field in dataclasses.fields(Settings))]
    for name in names:
        nearest = difflib.get_close_matches(name, known, n=1)
        if nearest and nearest[0] in _ARGUMENTS:
            raise TypeError(f"SockJSRouter has no argument {name!r}: did you mean {nearest[0]!r}?")


def _check_connection(connection: object) -> None:
    if isinstance(connection, SockJSConnection):
        raise TypeError(
            "pass the connection class, or a callable that returns a connection, not an instance"
        )
    if not callable(connection) or (
        isinstance(connection, type) and not issubclass(connection, SockJSConnection)
    ):
        raise TypeError(
            "connection must be a subclass of SockJSConnection, or a callable that returns a "
            f"SockJSConnection, not {connection!r}"
        )
    warn_of_wrong_hooks(connection)


def _checked_prefix(prefix: str) -> str:
    """Return `prefix` in the form that aiohttp matches: decoded, except for slashes and %."""
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a str such as '/chat', not {prefix!r}")
    refused = f"prefix {prefix!r}"
    if prefix.rstrip("/") and not prefix.startswith("/"):
        raise ValueError(f"{refused} must start with a slash")
    try:
        prefix.encode()
        prefix = unquote(_KEPT_ESCAPE.sub(r"%25\1", prefix), errors="strict").rstrip("/")
    except UnicodeError:
        raise ValueError(f"{refused} must be valid UTF-8") from None
    if _FORBIDDEN_IN_PREFIX.search(prefix):
        raise ValueError(
            f"{refused} must not contain whitespace, control characters, any of {{}}?#, a segment "
            "'.' or '..', or a % that is not an escape"
        )
    return _KEPT_ESCAPE.sub(lambda escape: escape[0].upper(), prefix)


_KEPT_ESCAPE = re.compile("%(2f|25)", re.IGNORECASE)
_FORBIDDEN_IN_PREFIX = re.compile(r"[{}?#\s\x00-\x1f\x7f]|/\.\.?(?=/|\Z)|%(?!2[fF]|25)")
