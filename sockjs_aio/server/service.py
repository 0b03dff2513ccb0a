"""One SockJS service: what its transports share, and how they find and open sessions."""

import asyncio
import functools
import logging
import secrets
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.core.events import Observer
from sockjs_aio.core.registry import EXPIRED_FRAME, SessionRegistry
from sockjs_aio.core.request_session import RequestSession
from sockjs_aio.core.websocket_session import InlineSession
from sockjs_aio.errors import SessionEndedError
from sockjs_aio.protocol.framing import SOCKJS, Framing
from sockjs_aio.protocol.transports import TRANSPORTS, Transport
from sockjs_aio.server.admission import Admission, Authorize, Verify
from sockjs_aio.server.missed_sends import MissedSends
from sockjs_aio.session_info import ConnectionInfo
from sockjs_aio.settings import Settings
from sockjs_aio.stats import Stats

logger: logging.Logger = logging.getLogger("sockjs_aio.transports")

_MARK = "sockjs_service"


class Relaying(Protocol):
    """Relays requests to the processes that own their sessions."""

    @property
    def state(self) -> str | None:
        """Whether it can find sessions, as text; None if it always can."""

    @property
    def middleware(self) -> Callable[..., Any]:
        """The middleware that does it."""

    @property
    def is_transparent(self) -> bool:
        """Whether it changes nothing for clients whose sessions this process has."""

    @property
    def is_retiring(self) -> bool:
        """Whether each connection of a client is closed after its next response."""

    def is_from_peer(self, request: web.Request) -> bool:
        """Tell whether another process has sent a request."""


class Service:
    """What the transports of one router share.

    Args:
        settings: The router's settings.
        registry: The router's sessions.
        authorize: See `SockJSRouter`.
        verify: See `SockJSRouter`.
        prefix: The path of the service.
    """

    def __init__(
        self,
        settings: Settings,
        registry: SessionRegistry,
        authorize: Authorize | None = None,
        verify: Verify | None = None,
        prefix: str = "",
    ) -> None:
        self.prefix = prefix
        self.settings = settings
        self.registry = registry
        self.admission: Admission = Admission(settings, registry, authorize, verify)
        self.missed_sends: MissedSends = MissedSends()
        self.relay: Relaying | None = None
        """Set if requests are relayed between processes."""
        self.worker: int | None = None
        """The number of the worker that this process is, if it is one."""
        self.direct: dict[tuple[web.Application, ...], dict[str, Service] | None] = {}
        """For each application that has the routes, what its direct lanes serve, by prefix; None if
        there may be no lanes."""
        self._has_warned = False

    @property
    def stats(self) -> Stats:
        """See `SockJSRouter.stats`."""
        return self.registry.stats

    def observe(self, observer: Observer) -> None:
        """See `SockJSRouter.observe`."""
        if not isinstance(observer, Observer):
            raise TypeError(
                f"an observer must be an instance of a subclass of Observer, not {observer!r}"
            )
        observer.attached(self)
        self.registry.events.add(observer)

    def mark(self, handler: Handler) -> Handler:
        """Record on `handler` that it belongs to this service, for `service_of`."""
        setattr(handler, _MARK, self)
        return handler

    async def existing_session(self, request: web.Request) -> RequestSession | None:
        """Find the session that `request` names.

        Raises:
            web.HTTPForbidden: If it belongs to another client: see `Admission.check_owner`.
        """
        session_id = request.match_info["session_id"]
        while (session := self.registry.get(session_id)) is not None:
            has_waited = await self.admission.check_owner(request, session)
            if not has_waited or self.registry.get(session_id) is session:
                break
            # The session ended while we awaited `verify`.  If there is a new one with this id, it
            # may belong to another client.
        return session

    async def session(self, request: web.Request, transport: str) -> RequestSession:
        """Find the session that `request` names, or open it.

        Raises:
            SessionEndedError: If the session has ended.
            web.HTTPException: As in `existing_session` and `Admission.admit`.
        """
        session = await self.existing_session(request)
        if session is None:
            self._check_not_ended(request)
            identity = await self.admission.admit(request)
            session = await self.existing_session(request)  # another request may have been faster
            if session is None:
                self._check_not_ended(request)
                session = self.open_session(request, transport, identity)
        return session

    async def begin(self, session: RequestSession) -> None:
        """Let `on_open` begin, before the client hears that its session is open.

        Raises:
            SessionEndedError: If the session has ended in the meantime.
        """
        if session.begin():
            await asyncio.sleep(0)
            if self.registry.get(session.id) is not session:
                raise SessionEndedError(session.close_frame or EXPIRED_FRAME)

    def _check_not_ended(self, request: web.Request) -> None:
        frame = self.registry.ended(request.match_info["session_id"])
        if frame is None:
            return
        if self.admission.is_personal:
            # we no longer know whose session it was, and only its owner may learn why it ended
            frame = EXPIRED_FRAME
        transport = requested_transport(request).name
        self.registry.events.tell(Observer.refused, "session_ended", transport, request.remote)
        raise SessionEndedError(frame)

    def open_session(self, request: web.Request, transport: str, identity: Any) -> RequestSession:
        """Open a session for an admitted request with the given `identity`."""
        self._warn_if_unmarked(request)
        info = ConnectionInfo(request, transport, identity)
        return self.registry.open(request.match_info["session_id"], info, SOCKJS)

    def open_inline_session(
        self,
        request: web.Request,
        transport: str,
        framing: Framing,
        identity: Any,
        protocol: str | None,
    ) -> InlineSession:
        """Open the session of an admitted WebSocket with the given `identity`."""
        self._warn_if_unmarked(request)
        info = ConnectionInfo(request, transport, identity, protocol)
        # a raw WebSocket has no session id, but its log lines need one
        session_id = request.match_info.get("session_id") or secrets.token_hex(4)
        return self.registry.open_inline(session_id, info, framing)

    def _warn_if_unmarked(self, request: web.Request) -> None:
        if not self._has_warned and service_of(request.match_info.handler) is not self:
            self._has_warned = True
            logger.warning(
                "the handler of %s hides the SockJS handler that it wraps, so drains, readyz, "
                "Workers and Nodes ignore its sessions: use functools.wraps in the decorator",
                request.match_info.route.resource,
            )


def service_of(handler: Any) -> Service | None:
    """Return the service that a route's handler belongs to, or None.

    This looks through `functools.partial` and decorators that use `functools.wraps`.
    """
    while handler is not None:
        service: Service | None = getattr(handler, _MARK, None)
        if service is not None:
            return service
        is_partial = isinstance(handler, functools.partial)
        handler = handler.func if is_partial else getattr(handler, "__wrapped__", None)
    return None


def requested_transport(request: web.Request) -> Transport:
    """Return the transport of a request to the URL of a session."""
    resource = request.match_info.route.resource
    assert resource is not None, "our routes have a resource"
    return TRANSPORTS[resource.canonical.rpartition("/")[2]]


def is_wrapped(handler: Any) -> bool:
    """Tell whether a route's handler, for which `service_of` finds a service, is a wrapper."""
    return getattr(handler, _MARK, None) is None or hasattr(handler, "__wrapped__")


def services_of(app: web.Application) -> list[Service]:
    """Return the SockJS services of `app` and its sub-applications."""
    services = (service_of(route.handler) for route in app.router.routes())
    return list(dict.fromkeys(service for service in services if service is not None))
