"""What a client gets whose session has ended with its process."""

from collections.abc import Callable

from aiohttp import web

from sockjs_aio.protocol.frames import INTERRUPTED, close_frame
from sockjs_aio.transports import polling, upstream
from sockjs_aio.transports.callback import read_callback
from sockjs_aio.transports.endpoint import unavailable
from sockjs_aio.transports.headers import JAVASCRIPT, readable_head
from sockjs_aio.transports.response import ShortResponse
from sockjs_aio.transports.streaming import EVENTSOURCE, HTMLFILE, XHR_STREAMING

FRAME = close_frame(*INTERRUPTED)

_LAST_WORDS = {wire.transport: wire.dress(FRAME) for wire in (XHR_STREAMING, EVENTSOURCE, HTMLFILE)}


def last_words(transport: str) -> bytes:
    """Return what a stream ends with; empty for other responses, which have not begun."""
    return _LAST_WORDS.get(transport, b"")


def answer_lost(transport: str, request: web.Request) -> web.StreamResponse:
    """Answer a request whose response has not begun.

    Raises:
        web.HTTPServiceUnavailable: If it is a stream: another one is better than one that ends.
        CallbackError: If the request names no callback where it has to.
    """
    answer = _ANSWERS.get(transport)
    if answer is None:
        raise unavailable("The session's process has ended.\n")
    return answer(request)


def _xhr(request: web.Request) -> web.StreamResponse:
    head = readable_head(request, 200, JAVASCRIPT)
    return ShortResponse(head, polling.line(FRAME))


def _jsonp(request: web.Request) -> web.StreamResponse:
    return ShortResponse(polling.JSONP_HEAD, polling.call(read_callback(request), FRAME))


def _send(_request: web.Request) -> web.StreamResponse:
    return upstream.unknown_session()


_ANSWERS: dict[str, Callable[[web.Request], web.StreamResponse]] = {
    "xhr": _xhr,
    "jsonp": _jsonp,
    "xhr_send": _send,
    "jsonp_send": _send,
}
