"""The URLs of a service, and what they share: access checks and the answers to failures."""

import operator
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.core.events import Observer
from sockjs_aio.core.process_exit import exit_soon
from sockjs_aio.errors import (
    BodyTimeoutError,
    CallbackError,
    PayloadBrokenError,
    PayloadMissingError,
    PayloadTooLargeError,
)
from sockjs_aio.protocol.session_ids import is_valid_id
from sockjs_aio.protocol.transports import TRANSPORTS, Transport
from sockjs_aio.server import client_sends, info, pages, polling, streaming, websocket
from sockjs_aio.server.admission import OriginRefusedError
from sockjs_aio.server.aiohttp_internals import BODY_ERRORS, drop_rest, is_broken
from sockjs_aio.server.body import end_where_unsafe, invite_body
from sockjs_aio.server.direct.install import open_lane
from sockjs_aio.server.headers import allow_origin, vary
from sockjs_aio.server.responses import RETRY_AFTER, for_refusals, plain_response, reason_of
from sockjs_aio.server.service import Service, service_of

_CHECKED = web.RequestKey("sockjs_aio checked", tuple)
"""All that `_answer_early` has read of a request that it let pass, so that it runs only once.

A middleware may pass on a clone of the request, which has this too, with another method or origin.
"""

_checked = operator.attrgetter("method", "rel_url", "headers")

_FAILURES = (
    PayloadMissingError,
    PayloadBrokenError,
    PayloadTooLargeError,
    CallbackError,
    BodyTimeoutError,
    *BODY_ERRORS,
    ConnectionError,
)
"""Exceptions that a request may cause; `_failure` answers them."""

Answer = Callable[[Service, web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Page:
    """A URL that does not belong to a transport."""

    method: str
    answer: Answer
    switch: str | None = None
    """See `Transport.switch`."""
    has_preflight: bool = False
    is_linkable: bool = False
    is_public: bool = False
    """Whether pages of all origins may request it."""


_PLAIN_PREFIX = re.compile(r"[A-Za-z0-9/._~!$&'()*+,;=:@-]*")
"""Matches a prefix without characters to encode."""

_GREETING = Page("GET", pages.greeting)
_INFO = Page("GET", info.info, has_preflight=True)
_IFRAME = Page("GET", pages.iframe, "iframe")
_SCRIPT = Page("GET", pages.script, is_public=True)

ANSWERS: dict[str, Answer] = {
    "websocket": websocket.websocket,
    "rawwebsocket": websocket.raw_websocket,
    "xhr": polling.xhr,
    "xhr_streaming": streaming.xhr_streaming,
    "eventsource": streaming.eventsource,
    "htmlfile": streaming.htmlfile,
    "jsonp": polling.jsonp,
    "xhr_send": client_sends.xhr_send,
    "jsonp_send": client_sends.jsonp_send,
}
"""The coroutine function that answers each transport of `protocol.transports`."""


_FREQUENT = ("xhr", "xhr_send")
"""Transports that make the most requests.  aiohttp tries their URLs before those of the others."""


def routes(service: Service, prefix: str) -> list[web.RouteDef]:
    """Make the routes of `service` at `prefix`, which may be empty."""
    # a URL for each transport: tools that measure requests by route see them apart
    urls: dict[str, tuple[str, Page | Transport]] = {
        f"/{{server_id:[^/.]+}}/{{session_id:[^/.]+}}/{name}": (f"sockjs_{name}", row)
        for name, row in sorted(TRANSPORTS.items(), key=lambda item: item[0] not in _FREQUENT)
        if row.has_session_url
    }
    urls |= {
        "/info": ("sockjs_info", _INFO),
        r"/{page:iframe(?:-[^/]*)?\.html}": ("sockjs_iframe", _IFRAME),
        r"/reconnecting-sockjs.{kind:js|mjs|d\.mts}": ("sockjs_script", _SCRIPT),
        "/websocket": ("sockjs_raw_websocket", TRANSPORTS["rawwebsocket"]),
        "/": ("sockjs_greeting", _GREETING),
    }
    if prefix:
        urls[""] = ("sockjs_greeting", _GREETING)
    return [
        web.route(
            "*",
            (_matched(prefix) if "{" in path else prefix) + path,
            _named(name, service, url),
            expect_handler=invite_body,
        )
        for path, (name, url) in urls.items()
    ]


def _matched(prefix: str) -> str:
    """Return `prefix` in a form that works in a path with variable parts.

    In such a path, aiohttp compares the encoded fixed parts with the decoded path of the request.
    So a prefix with characters to encode becomes a variable part itself.
    """
    if _PLAIN_PREFIX.fullmatch(prefix):
        return prefix
    return f"/{{prefix_{prefix.encode().hex()}:{re.escape(prefix[1:])}}}"


def _named(name: str, service: Service, url: Page | Transport) -> Handler:
    """Make a route's handler; its name is for tools that trace requests."""
    handler = _handler(service, url)
    handler.__name__ = handler.__qualname__ = name
    return service.mark(handler)


def reaches_transport(service: Service, transport: Transport, request: web.Request) -> bool:
    """Tell whether a request for a session would reach its transport, or be answered before.

    If it would, the request keeps this, and its handler does not check it a second time.
    """
    try:
        reaches = _answer_early(service, transport, request) is None
    except web.HTTPForbidden:
        return False
    if reaches:
        request[_CHECKED] = (service.settings, transport, *_checked(request))
    return reaches


def answer(
    service: Service, transport: Transport, request: web.Request, by: Answer
) -> Awaitable[web.StreamResponse]:
    """Answer a request for a session: `by` does it, unless the request is refused first."""
    return _handler(service, transport, by)(request)


def _handler(service: Service, url: Page | Transport, by: Answer | None = None) -> Handler:
    # only one coroutine, to save memory: it lives as long as its WebSocket
    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            seen = None if service.relay is None else request.pop(_CHECKED, None)
            response = None
            if seen is None or seen != (service.settings, url, *_checked(request)):
                response = _answer_early(service, url, request)
            if response is None:
                response = await (by or _answer_of(url))(service, request)
                if by is None:
                    open_lane(service, request)
        except web.HTTPException as refusal:
            _tell_refusal(service, request, refusal)
            _finish_refusal(service, request, refusal)
            end_where_unsafe(request, refusal)
            raise
        except _FAILURES as error:
            response = _failure(request, error)
        except (KeyboardInterrupt, SystemExit) as error:
            exit_soon(error)  # not from here: two tasks of aiohttp would stop the loop, one by one
            response = _last_response(request, 503, "The server is shutting down.\n")
            response.headers["Retry-After"] = RETRY_AFTER
        if response.status >= 400 and not response.prepared:
            _tell_refusal(service, request, response)
            _finish_refusal(service, request, response)
        end_where_unsafe(request, response)
        return response

    return handler


def _tell_refusal(service: Service, request: web.Request, refusal: web.StreamResponse) -> None:
    """Tell observers, unless the process that has relayed the request does."""
    if refusal.status >= 400:  # `authorize` may redirect
        name = request.rel_url.raw_path.rpartition("/")[2]
        transport = name if name in TRANSPORTS else "other"
        service.registry.events.tell(
            Observer.refused, reason_of(refusal), transport, request.remote
        )


def _finish_refusal(
    service: Service, request: web.Request, refusal: web.StreamResponse | web.HTTPException
) -> None:
    """Let pages of allowed origins read why they are refused.

    No cache may store the refusal, because other requests to the same URL may be accepted.
    """
    headers = refusal.headers
    headers.setdefault("Cache-Control", "no-store")
    is_said = isinstance(refusal, OriginRefusedError) or "Access-Control-Allow-Origin" in headers
    if not is_said and service.admission.may_read(request):
        allow_origin(request, headers)
    vary(headers, "Origin")


@for_refusals
async def finish_refusal(request: web.Request, response: web.StreamResponse) -> None:
    """Do the same for other refusals: those of middlewares, and aiohttp's 500 when code fails.

    Add it to an application's `on_response_prepare`.
    """
    if response.status < 300 or response.status == 304:
        return
    service = service_of(request.match_info.handler)
    if service is not None and "Origin" not in response.headers.get("Vary", ""):
        _finish_refusal(service, request, response)


def _answer_early(
    service: Service, url: Page | Transport, request: web.Request
) -> web.StreamResponse | None:
    """Answer a request that must not reach the transport or page `url`; otherwise return None."""
    if "session_id" in request.match_info and not _has_valid_ids(request):
        return plain_response(404, "Not found.\n")
    method = request.method
    if method == "OPTIONS" and url.has_preflight:
        # even if the transport is disabled: otherwise the page could not read that it is disabled
        service.admission.check_origin(request, is_linkable=url.is_linkable)
        return pages.preflight(service, request, _methods(url))
    if url.switch is not None and not service.settings.is_enabled(url.switch):
        return plain_response(404, "This transport is disabled.\n")
    if not (method == url.method or (method == "HEAD" and isinstance(url, Page))):
        return web.Response(status=405, headers={"Allow": _methods(url)})
    if not (isinstance(url, Page) and url.is_public):
        service.admission.check_origin(request, is_linkable=url.is_linkable)
    return None


def _answer_of(url: Page | Transport) -> Answer:
    return url.answer if isinstance(url, Page) else ANSWERS[url.name]


def _methods(url: Page | Transport) -> str:
    """Return the value of ``Allow``."""
    return f"OPTIONS, {url.method}" if url.has_preflight else url.method


def _has_valid_ids(request: web.Request) -> bool:
    _, server_id, session_id, _ = request.rel_url.raw_path.rsplit("/", 3)
    return is_valid_id(server_id) and is_valid_id(session_id)


def _last_response(request: web.Request, status: int, text: str) -> web.Response:
    if is_broken(request):
        drop_rest(request)  # otherwise aiohttp tries to read it, and logs the failure
    response = plain_response(status, text)
    response.force_close()
    return response


def _failure(request: web.Request, error: BaseException) -> web.Response:
    if isinstance(error, ConnectionError):
        if request.transport is not None and not request.transport.is_closing():
            raise error  # from another connection of the application, for instance to a database
        return web.Response()  # the client has left and will not see this
    if isinstance(error, BodyTimeoutError):
        return _last_response(request, 408, "The request body did not arrive in time.\n")
    if isinstance(error, BODY_ERRORS):
        return _last_response(request, 400, "The request body cannot be read.\n")
    if isinstance(error, PayloadTooLargeError):
        return plain_response(413, "Payload too large.\n")
    if isinstance(error, PayloadMissingError):
        return plain_response(500, "Payload expected.")
    if isinstance(error, PayloadBrokenError):
        return plain_response(500, "Broken JSON encoding.")
    return plain_response(500, str(error))
