"""Keeps what one request leaves behind away from the next one on its connection.

That may be somebody else's: proxies share connections between their clients.

aiohttp (in all versions so far) takes the last trailer of a body in chunks for a header of the next
request.  And for 10 seconds it reads the rest of a body that no handler wanted; if that is
compressed, it unpacks it without giving anybody else a turn.  Both happen at every URL of an
application, also where no middleware has a say (``Expect``), so requests are changed where they are
made.
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
    """Have connections to `app` end with a body in chunks, and with a compressed one left unread.

    Besides, pages of allowed origins can read who refuses them on the URLs of its services, also
    where that is a middleware or a failure.
    It has to be the application that is run: requests for sub-applications are made by that.
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

    # past a warning of aiohttp's debug mode, about attributes of an application's own
    object.__setattr__(app, "_make_request", make_guarded)
