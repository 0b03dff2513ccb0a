"""Who may do what: the origin of a page, the right to open a session, and to use one."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import async_timeout
from aiohttp import web

from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.core.session import Session
from sockjs_aio.info import ConnectionInfo
from sockjs_aio.origins import is_allowed
from sockjs_aio.server.responses import RETRY_AFTER, unavailable
from sockjs_aio.settings import Settings

Authorize = Callable[[web.Request], Awaitable[Any]]
"""Lets a request in by returning True, or who it comes from; anything raised refuses it, and so do
None, False, responses and exceptions (403)."""

Verify = Callable[[web.Request, ConnectionInfo], "bool | Awaitable[bool]"]
"""Tells by True whether a request may use the session that another one has opened."""

logger = logging.getLogger("sockjs_aio")

CLIENT_PATIENCE = 0.3
"""Seconds that sockjs-client waits for a transport at least."""


class OriginRefusedError(web.HTTPForbidden):
    """The page that asks may not, nor read that."""


class Admission:
    """Decides for one service whether a request is let in.

    Args:
        settings: The router's settings.
        registry: Tells whether there is room for another session.
        authorize: The application's, if it has one.
        verify: Likewise.
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

    @property
    def is_personal(self) -> bool:
        """Whether sessions belong to somebody: others may not even learn how one ended."""
        return self._verify is not None or self._settings.verify_ip

    def check_origin(self, request: web.Request, *, is_linkable: bool = False) -> None:
        """Refuse pages of other origins than the settings allow.

        Scripts, frames and EventSource requests of a page's own origin carry no ``Origin``; for
        those the browser's ``Sec-Fetch-Site``, or else the ``Referer``, tells where they come from.

        Args:
            request: What is asked.
            is_linkable: Whether a link or an image on any page could ask it, and do harm: refuse
                it unless it tells where it comes from.

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
            raise OriginRefusedError(text="This origin is not allowed.\n")

    def may_read(self, request: web.Request) -> bool:
        """Tell whether the page that asks may read the answer, also a refusal."""
        allowed = self._settings.origins
        origin = _origin(request)
        return allowed == "*" or (origin is not None and is_allowed(allowed, origin))

    async def check_owner(self, request: web.Request, session: Session) -> bool:
        """Refuse a request for a session that somebody else has opened.

        Return whether anything was awaited for that: the session may have ended meanwhile.

        Raises:
            web.HTTPForbidden: If `verify_ip` is set and the request comes from another address, or
                `verify` does not return True.
        """
        if self._settings.verify_ip and request.remote != session.info.ip:
            raise web.HTTPForbidden(text="This session belongs to another address.\n")
        if self._verify is None:
            return False
        answer = self._verify(request, session.info)
        if inspect.isawaitable(answer):
            answer = await self._in_time(answer)
        if answer is not True:
            raise web.HTTPForbidden(text="This session belongs to somebody else.\n")
        return True

    async def admit(self, request: web.Request) -> Any:
        """Decide whether `request` may open a session; return who it comes from, if that is known.

        Raises:
            web.HTTPForbidden: If somebody opens the URL as a page, or `authorize` does not let it
                in.
            web.HTTPServiceUnavailable: If there are too many, or the server shuts down.
            web.HTTPTooManyRequests: If there are too many from this address.
            web.HTTPException: Whatever `authorize` raises.
            ConnectionResetError: If the client has left meanwhile.
        """
        # with a link go the user's SameSite=Lax cookies, and its maker knows the session's id
        if request.headers.get("Sec-Fetch-Dest") == "document":
            raise web.HTTPForbidden(text="This is no page.\n")
        self.check_room(request)
        if self._authorize is None:
            return None
        identity = await self._authorized(self._authorize, request)
        if isinstance(identity, web.HTTPException):  # returned where it was to be raised
            raise identity
        if _is_refusal(identity):
            raise web.HTTPForbidden(text="Not authorized.\n")
        self.check_room(request)
        return None if identity is True else identity

    async def _authorized(self, authorize: Authorize, request: web.Request) -> Any:
        start = self._registry.now()
        try:
            identity = await self._in_time(authorize(request))
        finally:
            if has_left := request.transport is None:  # aiohttp may have cancelled us, or not
                self._log_departure(self._registry.now() - start, request)
        if has_left:
            raise ConnectionResetError("the client has left during authorize")
        return identity

    def _log_departure(self, seconds: float, request: web.Request) -> None:
        text = "authorize took %.1f s, and the client from %s has left meanwhile"
        if seconds >= CLIENT_PATIENCE and not self._has_warned:
            self._has_warned = True
            text += (
                ": sockjs-client gives a transport up after 0.3 to 0.6 s, unless the page sets its "
                "option timeout (see docs/security.md)"
            )
            logger.warning(text, seconds, request.remote)
        else:
            logger.info(text, seconds, request.remote)

    async def _in_time(self, answer: Awaitable[Any]) -> Any:
        try:
            async with async_timeout.timeout(self._settings.authorize_timeout):
                return await answer
        except asyncio.TimeoutError:
            raise unavailable("Authorization took too long.\n") from None

    def check_room(self, request: web.Request) -> None:
        """Refuse a request that would open a session, if there is no room for one.

        Raises:
            web.HTTPServiceUnavailable: If there are too many, or the server shuts down.
            web.HTTPTooManyRequests: If there are too many from this address.
        """
        if self._registry.closing.is_begun:
            raise unavailable("The server is shutting down.\n")
        if self._registry.is_full:
            raise unavailable("Too many sessions.\n")
        if self._registry.addresses.is_full(request.remote):
            raise web.HTTPTooManyRequests(
                text="Too many sessions from this address.\n",
                headers={"Retry-After": RETRY_AFTER},
            )


def _is_refusal(identity: object) -> bool:
    """Tell whether `authorize` refuses by what it returns.

    A forgotten return must not let anybody in, nor a response or an exception, which is nobody.
    """
    if isinstance(identity, type):
        return issubclass(identity, BaseException)
    return (
        identity is None
        or identity is False
        or isinstance(identity, (web.StreamResponse, BaseException))
    )


def _origin(request: web.Request) -> str:
    # several are one list, which is no origin
    return ", ".join(request.headers.getall("Origin", ()))


def _origin_without_header(request: web.Request, untold: str | None) -> str | None:
    """Return the origin that a request without ``Origin`` comes from: None for our own, `untold`
    if nothing tells, as with clients that are no browsers.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site in ("same-origin", "none"):
        return None
    try:
        referer = urlsplit(request.headers.get("Referer", ""))
    except ValueError:  # brackets that are no IPv6 address
        return "null"
    if not referer.netloc:
        return untold if site is None else "null"
    # our own too has to be on the list: a page can have its host's name lead here (DNS rebinding)
    return f"{referer.scheme}://{referer.netloc}"
