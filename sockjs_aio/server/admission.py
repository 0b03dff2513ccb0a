"""Access checks: which origins may connect, which requests may open a session or use one."""

import asyncio
import inspect
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import async_timeout
from aiohttp import web

from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.core.session import Session
from sockjs_aio.grant import Grant
from sockjs_aio.origins import is_allowed
from sockjs_aio.server.responses import RETRY_AFTER, because, unavailable
from sockjs_aio.session_info import ConnectionInfo
from sockjs_aio.settings import Settings

Authorize = Callable[[web.Request], Awaitable[Any]]
"""Return True or the user's identity to accept a request, or a `Grant` with one of them.  It is
refused if you raise an exception, or if you return None, False, a response or an exception (403),
or something that you should have awaited (500).
"""

Verify = Callable[[web.Request, ConnectionInfo], "bool | Awaitable[bool]"]
"""Return True if a request may use the session that another request opened."""

logger: logging.Logger = logging.getLogger("sockjs_aio.transports")

_WITHOUT_ROOM = web.RequestKey("sockjs_aio without room", bool)
"""Set on a request for which there was no room when it was checked."""

CLIENT_PATIENCE = 0.3
"""Minimum number of seconds for which sockjs-client waits for a transport."""


ORIGIN_INTERVAL = 60.0
"""Seconds between two lines about refused origins."""


class OriginRefusedError(web.HTTPForbidden):
    """The page's origin is not allowed, so the page cannot read this refusal either."""


class Admission:
    """Decides whether a request to one service is accepted.

    Args:
        settings: The router's settings.
        registry: Knows whether there is room for another session.
        authorize: The application's `authorize`, if it has one.
        verify: The application's `verify`, if it has one.
    """

    def __init__(
        self,
        settings: Settings,
        registry: SessionRegistry,
        authorize: Authorize | None,
        verify: Verify | None,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._authorize = authorize
        self._verify = verify
        self._has_warned = False
        self._next_origin = -math.inf

    @property
    def is_personal(self) -> bool:
        """Whether sessions belong to a client: others may not even learn how one ended."""
        return self._verify is not None or self._settings.verify_ip

    @property
    def needs_request(self) -> bool:
        """Whether it needs aiohttp's request to tell whether that may open a session."""
        return self._authorize is not None or callable(self._settings.origins)

    def admits(self, origin: str | None, ip: str | None) -> bool:
        """Tell whether a WebSocket may be opened, as far as that is sure without its request."""
        allowed = self._settings.origins
        is_from_allowed = allowed == "*" or (origin is not None and is_allowed(allowed, origin))
        return is_from_allowed and self._has_room(ip)

    def check_origin(self, request: web.Request, *, is_linkable: bool = False) -> None:
        """Refuse pages whose origin the settings do not allow.

        Browsers send no ``Origin`` with scripts, frames and EventSource requests of a page's own
        origin.  For those, ``Sec-Fetch-Site`` or else ``Referer`` tells where they come from.

        Args:
            request: The request to check.
            is_linkable: Whether a link or an image on any page could send this request and do
                harm.  If so, refuse it unless it tells where it comes from.

        Raises:
            OriginRefusedError: If the request comes from a page that is not allowed.
        """
        allowed = self._settings.origins
        if allowed == "*":
            return
        sender = _origin(request) or _origin_without_header(
            request, "null" if is_linkable else None
        )
        if sender is not None and not is_allowed(allowed, sender):
            self._tell_refused(_origin(request))
            raise because("origin", OriginRefusedError(text="This origin is not allowed.\n"))

    def _tell_refused(self, origin: str | None) -> None:
        """Log a refused ``Origin``, at most once in `ORIGIN_INTERVAL`: strangers send any number.

        Nobody should allow ``null``, which is the origin of all sandboxed pages.
        """
        now = time.monotonic()
        if origin and origin != "null" and now >= self._next_origin:
            self._next_origin = now + ORIGIN_INTERVAL
            logger.info("pages of %.200r may not connect: the setting origins forbids it", origin)

    def may_read(self, request: web.Request) -> bool:
        """Tell whether the requesting page may read the response, even if it is a refusal."""
        allowed = self._settings.origins
        origin = _origin(request)
        return allowed == "*" or (origin is not None and is_allowed(allowed, origin))

    async def check_owner(self, request: web.Request, session: Session) -> bool:
        """Refuse a request for a session that another client opened.

        Return True if this awaited `verify`: the session may have ended in the meantime.

        Raises:
            web.HTTPForbidden: If `verify_ip` is set and the request comes from another address, or
                `verify` does not return True.
        """
        if self._settings.verify_ip and request.remote != session.info.ip:
            text = "This session belongs to another address.\n"
            raise because("verify", web.HTTPForbidden(text=text))
        if self._verify is None:
            return False
        answer = self._verify(request, session.info)
        if inspect.isawaitable(answer):
            answer = await self._in_time(answer)
        if answer is not True:
            text = "This session belongs to another client.\n"
            raise because("verify", web.HTTPForbidden(text=text))
        return True

    async def admit(self, request: web.Request) -> Any:
        """Check that `request` may open a session; return the identity or `Grant`, if any.

        Raises:
            web.HTTPForbidden: If a browser opens the URL as a page, or `authorize` refuses.
            web.HTTPServiceUnavailable: If there are too many sessions, or the server shuts down.
            web.HTTPTooManyRequests: If there are too many sessions from this address.
            web.HTTPException: Whatever `authorize` raises.
            TypeError: If `authorize` returns something that it should have awaited or called.
            ConnectionResetError: If the client disconnected in the meantime.
        """
        # Browsers send SameSite=Lax cookies when the user follows a link, and the author of the
        # link knows the session id.
        if request.headers.get("Sec-Fetch-Dest") == "document":
            raise because("page", web.HTTPForbidden(text="This URL is not a page.\n"))
        self.check_room(request)
        if self._authorize is None:
            return None
        answer = await self._authorized(self._authorize, request)
        grant = answer if isinstance(answer, Grant) else Grant(answer)
        identity = grant.identity
        if inspect.isawaitable(identity) or _is_uncalled(identity):
            raise _unfinished(identity)
        if isinstance(identity, web.HTTPException):  # it should have been raised
            raise because("authorize", identity)
        if _is_refusal(identity) or grant.has_ended:
            raise because("authorize", web.HTTPForbidden(text="Not authorized.\n"))
        self.check_room(request)
        return Grant(None if identity is True else identity, grant.until)

    async def _authorized(self, authorize: Authorize, request: web.Request) -> Any:
        start = self._registry.now()
        try:
            identity = await self._in_time(_marked(authorize(request)))
        finally:
            # aiohttp cancels the handler of a lost connection only if it is configured to
            if has_left := request.transport is None:
                self._log_departure(self._registry.now() - start, request)
        if has_left:
            raise ConnectionResetError("the client disconnected during authorize")
        return identity

    def _log_departure(self, seconds: float, request: web.Request) -> None:
        text = "authorize took %.1f s; the client at %s disconnected before it returned"
        if seconds >= CLIENT_PATIENCE and not self._has_warned:
            self._has_warned = True
            text += (
                ": sockjs-client gives up on a transport after 0.3 to 0.6 s unless the page sets "
                "its `timeout` option (see docs/security.md)"
            )
            logger.warning(text, seconds, request.remote)
        else:
            logger.info(text, seconds, request.remote)

    async def _in_time(self, answer: Awaitable[Any]) -> Any:
        try:
            async with async_timeout.timeout(self._settings.authorize_timeout):
                return await answer
        except asyncio.TimeoutError:
            raise because("timeout", unavailable("Authorization took too long.\n")) from None

    def _has_room(self, ip: str | None) -> bool:
        registry = self._registry
        return not (registry.closing.is_begun or registry.is_full or registry.addresses.is_full(ip))

    def check_room(self, request: web.Request) -> None:
        """Refuse a request that would open a session if there is no room for one.

        It is refused again even if there is room by then: a node that has found no room for it has
        not recorded the session, so other nodes would open it too.

        Raises:
            web.HTTPServiceUnavailable: If there are too many sessions, or the server shuts down.
            web.HTTPTooManyRequests: If there are too many sessions from this address.
        """
        has_room = self._has_room(request.remote)
        if has_room and _WITHOUT_ROOM not in request:
            return
        request[_WITHOUT_ROOM] = True
        if self._registry.closing.is_begun:
            raise because("draining", unavailable("The server is shutting down.\n"))
        if self._registry.is_full or has_room:
            raise because("max_sessions", unavailable("Too many sessions.\n"))
        refusal = web.HTTPTooManyRequests(
            text="Too many sessions from this address.\n",
            headers={"Retry-After": RETRY_AFTER},
        )
        raise because("max_sessions_per_ip", refusal)


async def _marked(answer: Awaitable[Any]) -> Any:
    """Await `authorize`, and mark a refusal that it raises."""
    try:
        return await answer
    except web.HTTPException as refusal:
        raise because("authorize", refusal)  # noqa: B904


def _unfinished(identity: object) -> TypeError:
    """Explain a forgotten ``await`` or call, which must not let anyone in."""
    rest = "return its result" if _is_uncalled(identity) else "await it first"
    text = f"authorize returned {identity!r}, which identifies no one: {rest}"
    if inspect.iscoroutine(identity):
        identity.close()
    return TypeError(text)


def _is_uncalled(identity: object) -> bool:
    """Tell whether it is a function or a generator, of which the application wants the result."""
    return (
        inspect.isroutine(identity) or inspect.isgenerator(identity) or inspect.isasyncgen(identity)
    )


def _is_refusal(identity: object) -> bool:
    """Tell whether `authorize` returned a refusal.

    A forgotten ``return`` must not let anyone in.  Neither must a response or an exception: they
    identify no one.
    """
    if isinstance(identity, type):
        return issubclass(identity, BaseException)
    return (
        identity is None
        or identity is False
        or isinstance(identity, (web.StreamResponse, BaseException))
    )


def _origin(request: web.Request) -> str:
    # several headers make one list, which is not a valid origin
    return ", ".join(request.headers.getall("Origin", ()))


def _origin_without_header(request: web.Request, untold: str | None) -> str | None:
    """Return the origin of a request that has no ``Origin`` header.

    None stands for our own origin.  `untold` is returned if no header tells the origin, as with
    clients other than browsers.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site in ("same-origin", "none"):
        return None
    try:
        referer = urlsplit(request.headers.get("Referer", ""))
    except ValueError:  # brackets without an IPv6 address
        return "null"
    if not referer.netloc:
        return untold if site is None else "null"
    # Our own origin must be on the list too: a page can make its host name resolve to this server
    # (DNS rebinding).
    return f"{referer.scheme}://{referer.netloc}"
