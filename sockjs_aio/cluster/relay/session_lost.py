"""What a client gets whose session has ended with its process."""

from collections.abc import Callable

from aiohttp import web

from sockjs_aio.protocol.frames import INTERRUPTED, close_frame
from sockjs_aio.server import polling, sending
from sockjs_aio.server.callback import read_callback
from sockjs_aio.server.headers import JAVASCRIPT, readable_head
from sockjs_aio.server.responses import ShortResponse
from sockjs_aio.server.streaming import EVENTSOURCE, HTMLFILE, XHR_STREAMING

FRAME = close_frame(*INTERRUPTED)

_STREAMS = {wire.transport: wire for wire in (XHR_STREAMING, EVENTSOURCE, HTMLFILE)}


def last_words(transport: str) -> bytes:
    """Return what a stream ends with; empty for other responses, which have not begun."""
    wire = _STREAMS.get(transport)
    return b"" if wire is None else wire.dress(FRAME)


def answer_lost(transport: str, request: web.Request) -> web.StreamResponse:
    """Answer a request whose response has not begun.

    Raises:
        CallbackError: If the request names no callback where it has to.
    """
    wire = _STREAMS.get(transport)
    if wire is None:
        return _ANSWERS[transport](request)
    headers, prelude = wire.begin(request)
    return web.Response(body=prelude + wire.dress(FRAME), headers=headers)


def _xhr(request: web.Request) -> web.StreamResponse:
    head = readable_head(request, 200, JAVASCRIPT)
    return ShortResponse(head, polling.line(FRAME))


def _jsonp(request: web.Request) -> web.StreamResponse:
    return ShortResponse(polling.JSONP_HEAD, polling.call(read_callback(request), FRAME))


def _send(_request: web.Request) -> web.StreamResponse:
    return sending.unknown_session()


_ANSWERS: dict[str, Callable[[web.Request], web.StreamResponse]] = {
    "xhr": _xhr,
    "jsonp": _jsonp,
    "xhr_send": _send,
    "jsonp_send": _send,
}
