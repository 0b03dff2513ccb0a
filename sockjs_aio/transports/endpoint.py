"""What every transport does first: check who asks, and find or open the session."""

import asyncio
import functools
import inspect
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import async_timeout
from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.errors import SessionEnded
from sockjs_aio.info import ConnectionInfo
from sockjs_aio.origins import is_allowed
from sockjs_aio.protocol.framing import SOCKJS, Framing
from sockjs_aio.registry import EXPIRED_FRAME, SessionRegistry
from sockjs_aio.session import Session
from sockjs_aio.settings import Settings
from sockjs_aio.transports.headers import PLAIN

Authorize = Callable[[web.Request], Awaitable[Any]]
"""Lets a request in by returning True, or who it comes from; anything raised refuses it, and so do
None, False, responses and exceptions (403)."""

Verify = Callable[[web.Request, ConnectionInfo], "bool | Awaitable[bool]"]
"""Tells by True whether a request may use the session that another one has opened."""

logger = logging.getLogger("sockjs_aio")

_MARK = "sockjs_endpoint"

RETRY_AFTER = "5"
"""Seconds after which a client that found no room may ask again."""

CLIENT_PATIENCE = 0.3
"""Seconds that sockjs-client waits for a transport at least."""

MAX_ID_LENGTH = 256

# no line ends of any kind: ids are written to logs
# aiohttp joins it with what follows, and decodes once more: %2%46 becomes %2F, and that a slash
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_FORBIDDEN_IN_ID = re.compile(r"[./\x00-\x1f\x7f-\x9f\u2028\u2029]")


def plain_response(status: int, text: str) -> web.Response:
    """Make a short text response."""
    return web.Response(status=status, body=text.encode(), headers={"Content-Type": PLAIN})


class OriginRefused(web.HTTPForbidden):
    """The page that asks may not, nor read that."""


@dataclass(frozen=True)
class Endpoint:
    """What the transports of one router share."""

    settings: Settings
    registry: SessionRegistry
    authorize: Authorize | None
    verify: Verify | None = None
    warnings: set[str] = field(default_factory=set, compare=False)
    """What has been logged about it once, which is enough."""

    def mark(self, handler: Handler) -> Handler:
        """Have `endpoint_of` find the endpoint that `handler` answers for."""
        setattr(handler, _MARK, self)
        return handler

    def check_origin(self, request: web.Request, *, is_linkable: bool = False) -> None:
        """Refuse pages of other origins than the settings allow.

        Scripts, frames and EventSource requests of a page's own origin carry no ``Origin``; for
        those the browser's ``Sec-Fetch-Site``, or else the ``Referer``, tells where they come from.

        Args:
            request: What is asked.
            is_linkable: Whether a link or an image on any page could ask it, and do harm: refuse
                it unless it tells where it comes from.

        Raises:
            OriginRefused: If the request comes from a page that is not allowed.
        """
        allowed = self.settings.origins
        if allowed == "*":
            return
        sender = _origin(request) or _origin_without_header(
            request, "null" if is_linkable else None
        )
        if sender is not None and not is_allowed(allowed, sender):
            raise OriginRefused(text="This origin is not allowed.\n")

    def may_read(self, request: web.Request) -> bool:
        """Tell whether the page that asks may read the answer, also a refusal."""
        allowed = self.settings.origins
        origin = _origin(request)
        return allowed == "*" or (origin is not None and is_allowed(allowed, origin))

    async def existing_session(self, request: web.Request) -> Session | None:
        """Find the session that `request` names.

        Raises:
            web.HTTPForbidden: If `verify_ip` is set and the request comes from another address, or
                `verify` does not return True.
        """
        session_id = request.match_info["session_id"]
        while (session := self.registry.get(session_id)) is not None:
            if self.settings.verify_ip and request.remote != session.info.ip:
                raise web.HTTPForbidden(text="This session belongs to another address.\n")
            if self.verify is None:
                break
            await self._verify(self.verify, request, session)
            if self.registry.get(session_id) is session:
                break  # or it has ended meanwhile, and the next one is somebody else's, perhaps
        return session

    async def _verify(self, verify: Verify, request: web.Request, session: Session) -> None:
        answer = verify(request, session.info)
        if inspect.isawaitable(answer):
            answer = await self._in_time(answer)
        if answer is not True:
            raise web.HTTPForbidden(text="This session belongs to somebody else.\n")

    async def session(self, request: web.Request, transport: str) -> Session:
        """Find the session that `request` names, or open it.

        Raises:
            SessionEnded: If it has ended.
            web.HTTPException: As `existing_session` and `admit`.
        """
        session = await self.existing_session(request)
        if session is None:
            self._check_not_ended(request)
            identity = await self.admit(request)
            session = await self.existing_session(request)  # another request may have been faster
            if session is None:
                self._check_not_ended(request)
                session = self.open_session(request, transport, SOCKJS, identity, by_id=True)
        return session

    def _check_not_ended(self, request: web.Request) -> None:
        frame = self.registry.ended(request.match_info["session_id"])
        if frame is None:
            return
        if self.verify is not None or self.settings.verify_ip:
            frame = EXPIRED_FRAME  # nobody knows any more whose it was, and why it ended is theirs
        raise SessionEnded(frame)

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
        if self.authorize is None:
            return None
        identity = await self._authorized(self.authorize, request)
        if isinstance(identity, web.HTTPException):  # returned where it was to be raised
            raise identity
        if _is_refusal(identity):
            raise web.HTTPForbidden(text="Not authorized.\n")
        self.check_room(request)
        return None if identity is True else identity

    async def _authorized(self, authorize: Authorize, request: web.Request) -> Any:
        start = self.registry.now()
        try:
            identity = await self._in_time(authorize(request))
        finally:
            if has_left := request.transport is None:  # aiohttp may have cancelled us, or not
                self._log_departure(self.registry.now() - start, request)
        if has_left:
            raise ConnectionResetError("the client has left during authorize")
        return identity

    def _log_departure(self, seconds: float, request: web.Request) -> None:
        text = "authorize took %.1f s, and the client from %s has left meanwhile"
        if seconds >= CLIENT_PATIENCE and "slow authorize" not in self.warnings:
            self.warnings.add("slow authorize")
            text += (
                ": sockjs-client gives a transport up after 0.3 to 0.6 s, unless the page sets its "
                "option timeout (see docs/security.md)"
            )
            logger.warning(text, seconds, request.remote)
        else:
            logger.info(text, seconds, request.remote)

    async def _in_time(self, answer: Awaitable[Any]) -> Any:
        try:
            async with async_timeout.timeout(self.settings.authorize_timeout):
                return await answer
        except asyncio.TimeoutError:
            raise unavailable("Authorization took too long.\n") from None

    def open_session(
        self,
        request: web.Request,
        transport: str,
        framing: Framing,
        identity: Any,
        *,
        by_id: bool,
        protocol: str | None = None,
    ) -> Session:
        """Open a session for a request that was admitted, as `identity`."""
        if not self.warnings and endpoint_of(request.match_info.handler) is not self:
            self.warnings.add("unmarked")
            logger.warning(
                "%s is served by a handler that does not say what it wraps, so drains, readyz, "
                "Workers and Nodes do not know its sessions: use functools.wraps in the decorator",
                request.match_info.route.resource,
            )
        session_id = request.match_info.get("session_id")
        if session_id is None:  # a raw WebSocket: its lines in the log need one
            session_id = secrets.token_hex(4)
        info = ConnectionInfo(request, transport, identity, protocol)
        return self.registry.open(session_id, info, framing, by_id=by_id)

    def check_room(self, request: web.Request) -> None:
        """Refuse a request that would open a session, if there is no room for one.

        Raises:
            web.HTTPServiceUnavailable: If there are too many, or the server shuts down.
            web.HTTPTooManyRequests: If there are too many from this address.
        """
        if self.registry.closing.is_begun:
            raise unavailable("The server is shutting down.\n")
        if self.registry.is_full:
            raise unavailable("Too many sessions.\n")
        if self.registry.addresses.is_full(request.remote):
            raise web.HTTPTooManyRequests(
                text="Too many sessions from this address.\n",
                headers={"Retry-After": RETRY_AFTER},
            )


def endpoint_of(handler: Any) -> Endpoint | None:
    """Return the endpoint that a route's handler answers for, if it is one of ours.

    A decorator that uses `functools.wraps` keeps the mark; so does `functools.partial`.
    """
    while handler is not None:
        endpoint: Endpoint | None = getattr(handler, _MARK, None)
        if endpoint is not None:
            return endpoint
        is_partial = isinstance(handler, functools.partial)
        handler = handler.func if is_partial else getattr(handler, "__wrapped__", None)
    return None


def is_wrapped(handler: Any) -> bool:
    """Tell whether a route's handler, which leads to one of ours, is something around that."""
    return getattr(handler, _MARK, None) is None or hasattr(handler, "__wrapped__")


def is_valid_id(segment: str) -> bool:
    """Tell whether `segment` of a URL's path, still encoded, may be a server or session id."""
    if len(segment) > MAX_ID_LENGTH:
        return False
    if segment.isascii() and segment.isalnum():  # as sockjs-client's are: nothing to decode
        return True
    if _BROKEN_ESCAPE.search(segment):
        return False
    try:
        decoded = unquote_to_bytes(segment).decode()
    except UnicodeError:  # aiohttp's parser in Python, unlike the one in C, lets any bytes pass
        return False
    return _FORBIDDEN_IN_ID.search(decoded) is None


def unavailable(text: str) -> web.HTTPServiceUnavailable:
    """Make the refusal of a request that there is no room for now."""
    return web.HTTPServiceUnavailable(text=text, headers={"Retry-After": RETRY_AFTER})


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
