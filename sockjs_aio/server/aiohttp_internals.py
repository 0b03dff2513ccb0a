"""Protects a request from what an earlier request left on the same connection.

The two may belong to different clients, because proxies share connections between clients.

aiohttp (in all versions so far) treats the last trailer of a chunked body as a header of the next
request.  It also spends up to 10 seconds reading the rest of a body that no handler read; if that
body is compressed, aiohttp unpacks it without letting other tasks run.  Both affect every URL of an
application, even where no middleware runs (``Expect``).  So this module hooks into the place where
aiohttp creates requests.
"""

import asyncio

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from sockjs_aio.server.urls import finish_refusal

_GUARDED = web.AppKey("sockjs_aio guarded", bool)


def guard(app: web.Application) -> None:
    """Close connections to `app` after a chunked body, or after a compressed body left unread.

    This also lets pages of allowed origins read why a URL of a SockJS service refuses them, even
    if a middleware refuses or the code fails.
    Pass the application that you run: it also creates the requests for its sub-applications.
    """
    if _GUARDED in app:
        return
    app[_GUARDED] = True
    app.on_response_prepare.append(finish_refusal)
    make_request = app._make_request

    def make_guarded(
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.Request:
        if message.chunked:
            message = message._replace(should_close=True)
        if message.compression:
            protocol._lingering_time = 0.0
        return make_request(message, payload, protocol, writer, task)

    # plain assignment makes aiohttp warn in debug mode about custom attributes of an application
    object.__setattr__(app, "_make_request", make_guarded)
