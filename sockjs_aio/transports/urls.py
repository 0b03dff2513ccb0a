"""The URLs of a service, and what all of them share: who may ask, and how failures are answered."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Handler

from sockjs_aio.errors import (
    BodyTimeout,
    CallbackError,
    PayloadBroken,
    PayloadMissing,
    PayloadTooLarge,
)
from sockjs_aio.transports import pages, polling, streaming, upstream, websocket
from sockjs_aio.transports.body import end_where_unsafe, invite_body
from sockjs_aio.transports.endpoint import (
    Endpoint,
    OriginRefused,
    endpoint_of,
    is_valid_id,
    plain_response,
)
from sockjs_aio.transports.headers import allow_origin, vary
from sockjs_aio.transports.response import for_refusals

_FAILURES = (
    PayloadMissing,
    PayloadBroken,
    PayloadTooLarge,
    CallbackError,
    BodyTimeout,
    web.RequestPayloadError,
    HttpProcessingError,  # the same, from aiohttp's parser in Python
    ConnectionError,
)
"""What reading a request may raise; see `_failure`."""

Transport = Callable[[Endpoint, web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Url:
    """One kind of URL: what answers it, and how."""

    method: str
    answer: Transport
    name: str | None = None
    """What `Settings.is_enabled` calls it, if it can be disabled."""
    has_preflight: bool = False
    has_head: bool = False
    is_linkable: bool = False
    """Whether a link, an image or a script could open a session by it."""

    @property
    def methods(self) -> str:
        """The methods for ``Allow``."""
        return f"OPTIONS, {self.method}" if self.has_preflight else self.method


_PLAIN_PREFIX = re.compile(r"[A-Za-z0-9/._~!$&'()*+,;=:@-]*")
"""One with nothing to be encoded."""

_GREETING = Url("GET", pages.greeting, has_head=True)
_INFO = Url("GET", pages.info, has_preflight=True, has_head=True)
_IFRAME = Url("GET", pages.iframe, "iframe", has_head=True)
_RAW_WEBSOCKET = Url("GET", websocket.raw_websocket, "rawwebsocket")

_SESSION_URLS = {
    "xhr": Url("POST", polling.xhr, "xhr", has_preflight=True),
    "xhr_send": Url("POST", upstream.xhr_send, has_preflight=True),
    "xhr_streaming": Url("POST", streaming.xhr_streaming, "xhr_streaming", has_preflight=True),
    "websocket": Url("GET", websocket.websocket, "websocket"),
    "eventsource": Url("GET", streaming.eventsource, "eventsource", is_linkable=True),
    "htmlfile": Url("GET", streaming.htmlfile, "htmlfile", is_linkable=True),
    "jsonp": Url("GET", polling.jsonp, "jsonp", is_linkable=True),
    "jsonp_send": Url("POST", upstream.jsonp_send, "jsonp"),
}


def routes(endpoint: Endpoint, prefix: str) -> list[web.RouteDef]:
    """Make the routes of the service at `prefix`, which may be empty."""
    session_url = "/{server_id:[^/.]+}/{session_id:[^/.]+}/{transport:%s}"
    urls: dict[str, tuple[str, Url | None]] = {
        session_url % "|".join(_SESSION_URLS): ("sockjs_session", None),
        "/info": ("sockjs_info", _INFO),
        r"/{page:iframe(?:-[^/]*)?\.html}": ("sockjs_iframe", _IFRAME),
        "/websocket": ("sockjs_raw_websocket", _RAW_WEBSOCKET),
        "/": ("sockjs_greeting", _GREETING),
    }
    if prefix:
        urls[""] = ("sockjs_greeting", _GREETING)
    return [
        web.route(
            "*",
            (_matched(prefix) if "{" in path else prefix) + path,
            _named(name, endpoint, url),
            expect_handler=invite_body,
        )
        for path, (name, url) in urls.items()
    ]


def _matched(prefix: str) -> str:
    """Return `prefix` for a path with variable parts.

    Between those aiohttp looks for the fixed ones as they are encoded, in a path that is decoded.
    """
    if _PLAIN_PREFIX.fullmatch(prefix):
        return prefix
    return f"/{{prefix_{prefix.encode().hex()}:{re.escape(prefix[1:])}}}"


def _named(name: str, endpoint: Endpoint, url: Url | None) -> Handler:
    """Make a route's handler, with a name for tools that trace requests."""
    handler = _handler(endpoint, url)
    handler.__name__ = handler.__qualname__ = name
    return endpoint.mark(handler)


def reaches_transport(endpoint: Endpoint, request: web.Request) -> bool:
    """Tell whether a request that names a session gets to its transport, or is answered before."""
    try:
        url = _SESSION_URLS[request.match_info["transport"]]
        return _answer_early(endpoint, url, request) is None
    except web.HTTPForbidden:
        return False


def answer(
    endpoint: Endpoint, url: Url | None, request: web.Request, by: Transport | None = None
) -> Awaitable[web.StreamResponse]:
    """Answer a request of `url`; None stands for those of sessions, told by their end.

    If it is not refused before, `by` may do what the transport of that URL does.
    """
    return _handler(endpoint, url, by)(request)


def _handler(endpoint: Endpoint, url: Url | None, by: Transport | None = None) -> Handler:
    # one coroutine for all, for memory: it stays as long as a WebSocket
    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            asked = url or _SESSION_URLS[request.match_info["transport"]]
            response = _answer_early(endpoint, asked, request)
            if response is None:
                response = await (by or asked.answer)(endpoint, request)
        except web.HTTPException as refusal:
            _finish_refusal(endpoint, request, refusal)
            end_where_unsafe(request, refusal)
            raise
        except _FAILURES as error:
            response = _failure(request, error)
        if response.status >= 400 and not response.prepared:
            _finish_refusal(endpoint, request, response)
        end_where_unsafe(request, response)
        return response

    return handler


def _finish_refusal(
    endpoint: Endpoint, request: web.Request, refusal: web.StreamResponse | web.HTTPException
) -> None:
    """Let pages of allowed origins read why they are refused; nobody keeps it: others are not."""
    headers = refusal.headers
    headers.setdefault("Cache-Control", "no-store")
    is_said = isinstance(refusal, OriginRefused) or "Access-Control-Allow-Origin" in headers
    if not is_said and endpoint.may_read(request):
        allow_origin(request, headers)
    vary(headers, "Origin")


@for_refusals
async def finish_refusal(request: web.Request, response: web.StreamResponse) -> None:
    """Do the same for refusals that are not ours: of middlewares, and of aiohttp where code fails.

    It is to be among an application's `on_response_prepare`.
    """
    if response.status < 300 or response.status == 304:
        return
    endpoint = endpoint_of(request.match_info.handler)
    if endpoint is not None and "Origin" not in response.headers.get("Vary", ""):
        _finish_refusal(endpoint, request, response)


def _answer_early(endpoint: Endpoint, url: Url, request: web.Request) -> web.StreamResponse | None:
    """Answer what is not for a transport or page to decide; None leaves it to `url`."""
    if "session_id" in request.match_info and not _has_valid_ids(request):
        return plain_response(404, "Not found.\n")
    method = request.method
    if method == "OPTIONS" and url.has_preflight:
        # also for a disabled transport: otherwise pages could not read that it is
        endpoint.check_origin(request, is_linkable=url.is_linkable)
        return pages.preflight(endpoint, request, url.methods)
    if url.name is not None and not endpoint.settings.is_enabled(url.name):
        return plain_response(404, "This transport is disabled.\n")
    if not (method == url.method or (method == "HEAD" and url.has_head)):
        return web.Response(status=405, headers={"Allow": url.methods})
    endpoint.check_origin(request, is_linkable=url.is_linkable)
    return None


def _has_valid_ids(request: web.Request) -> bool:
    _, server_id, session_id, _ = request.rel_url.raw_path.rsplit("/", 3)
    return is_valid_id(server_id) and is_valid_id(session_id)


def _last_response(request: web.Request, status: int, text: str) -> web.Response:
    if request.content.exception() is not None:
        request.content.feed_eof()  # aiohttp would look for the rest, and log that it fails
    response = plain_response(status, text)
    response.force_close()
    return response


def _failure(request: web.Request, error: BaseException) -> web.Response:
    if isinstance(error, ConnectionError):
        if request.transport is not None and not request.transport.is_closing():
            raise error  # of a connection of the application's, to a database perhaps
        return web.Response()  # for a client that has gone
    if isinstance(error, BodyTimeout):
        return _last_response(request, 408, "The request body did not come in time.\n")
    if isinstance(error, (web.RequestPayloadError, HttpProcessingError)):
        return _last_response(request, 400, "The request body cannot be read.\n")
    if isinstance(error, PayloadTooLarge):
        return plain_response(413, "Payload too large.\n")
    if isinstance(error, PayloadMissing):
        return plain_response(500, "Payload expected.")
    if isinstance(error, PayloadBroken):
        return plain_response(500, "Broken JSON encoding.")
    return plain_response(500, str(error))
