"""The events of a service, and those who are told: its observers.

There is no event for a message.  A message costs an addition (see `core.counters`), because a call
for each observer would soon cost more than the message itself.
"""

import logging
import traceback
from collections.abc import Callable, Iterable
from typing import Concatenate, Literal, ParamSpec, Protocol

from sockjs_aio.brokers.base import Broker
from sockjs_aio.connection import Session
from sockjs_aio.core.process_exit import exit_soon
from sockjs_aio.session_info import CloseInfo
from sockjs_aio.stats import Stats

logger: logging.Logger = logging.getLogger("sockjs_aio")

P = ParamSpec("P")

Reason = Literal[
    "origin",
    "page",
    "authorize",
    "verify",
    "timeout",
    "max_sessions",
    "max_sessions_per_ip",
    "draining",
    "another_connection",
    "session_ended",
    "unavailable",
    "bad_request",
]
"""Why a request was refused.

- ``origin``: its page's origin is not in the setting `origins`.
- ``page``: a browser opened the URL as a page.
- ``authorize``, ``verify``: your function refused it, or `verify_ip` did.
- ``timeout``: `authorize` or `verify` took longer than `authorize_timeout`.
- ``max_sessions``, ``max_sessions_per_ip``: the limit is reached.
- ``draining``: the process opens no more sessions.
- ``another_connection``: the session already has a receiver (close code 2010).
- ``session_ended``: the session has ended, and the request got its close frame.
- ``unavailable``: any other 503, for instance because the owner of the session cannot be found.
- ``bad_request``: anything else that gets a status of 400 or more, such as broken JSON.
"""


class Source(Protocol):
    """A router, as observers see it."""

    @property
    def prefix(self) -> str:
        """The path of the service; empty if it is at the root."""

    @property
    def stats(self) -> Stats:
        """The numbers of this moment."""

    def observe(self, observer: "Observer") -> None:
        """See `SockJSRouter.observe`."""


class Observer:
    """Is told what happens in a service: derive from it, and override what you need.

    Pass instances to a router: ``SockJSRouter(Chat, "/chat", observers=[MyObserver()])``.  Several
    routers may share one.  The methods are plain functions, called in the event loop's thread while
    the event is being handled; so be quick, and do not close the session there.  If a method
    raises, that is logged once, and the session is not affected.

    What concerns a session is told in its context (`contextvars`).
    """

    def attached(self, service: Source) -> None:
        """A router has this observer now: you may read its `stats`.

        If this method raises, the router raises too.
        """

    def opened(self, session: Session) -> None:
        """A session exists; its connection was made, and `on_open` was not called yet."""

    def closed(self, session: Session, info: CloseInfo) -> None:
        """A session was closed, by either side.  `on_close` was not called yet.

        If its connection's own constructor closes it, this comes before `opened`.
        """

    def refused(self, reason: Reason, transport: str, ip: str | None) -> None:
        """A request from the address `ip` was refused.

        `transport` is the last part of its URL, such as ``"xhr_send"``, if that names a transport;
        otherwise ``"other"``.
        """

    def hook_started(self, session: Session, hook: str) -> None:
        """A hook starts, such as ``"Chat.on_message"``; this is called in its task.

        If an observer has this method or `hook_returned`, each hook costs about two microseconds
        more.
        """

    def hook_returned(
        self, session: Session, hook: str, seconds: float, error: BaseException | None
    ) -> None:
        """The hook has returned, or raised `error`, after that time; called in its task."""

    def hook_failed(self, session: Session, hook: str, error: BaseException) -> None:
        """A hook has raised `error`, and its session is about to be closed.

        If `session.is_cut_off`, the server is shutting down and has cancelled the hook.
        """

    def overflowed(self, session: Session) -> None:
        """The client does not keep up: `send_queue_limit` was reached; `closed` comes next."""

    def unanswered(self, session: Session) -> None:
        """The client has not answered a ping, or takes nothing; `closed` comes next."""

    def relayed(self, transport: str) -> None:
        """A request was passed on to the process that has its session."""

    def broker_gap(self, broker: Broker) -> None:
        """From now on messages from other processes may be missed; see `broker.state`."""


_EVENTS = [name for name in vars(Observer) if not name.startswith("_")]


class Events:
    """Tells observers.

    Args:
        observers: Who is told, in this order.
    """

    __slots__ = ("watches_hooks", "_methods", "_failures")

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self.watches_hooks: bool = False
        """Whether someone wants to know when each hook starts or returns."""
        # by event, the methods to call: those that an observer has not inherited from `Observer`
        self._methods: dict[str, list[Callable[..., None]]] = {name: [] for name in _EVENTS}
        self._failures: set[Callable[..., None]] = set()
        for observer in observers:
            self.add(observer)

    def add(self, observer: Observer) -> None:
        """Tell `observer` too."""
        for name, methods in self._methods.items():
            if getattr(type(observer), name) is not getattr(Observer, name):
                methods.append(getattr(observer, name))
        self.watches_hooks = any(self._methods[name] for name in ("hook_started", "hook_returned"))

    def tell(
        self,
        event: Callable[Concatenate[Observer, P], None],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> None:
        """Call the method `event` of each observer: ``tell(Observer.opened, session)``."""
        name = event.__name__
        for method in self._methods[name]:
            try:
                method(*arguments, **named)
            except (KeyboardInterrupt, SystemExit) as error:
                exit_soon(error)  # not from here: what has told this must go on to its end
            except BaseException:  # also CancelledError, as of a future's result
                self._log_once(method, name)

    def _log_once(self, method: Callable[..., None], name: str) -> None:
        if method not in self._failures:
            self._failures.add(method)
            observer = type(getattr(method, "__self__", method)).__qualname__
            try:
                logger.exception("%s.%s failed; this is logged only once", observer, name)
            except Exception:  # of a filter, perhaps the same that has made our `Log` fail
                traceback.print_exc()
