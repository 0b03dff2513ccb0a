"""Protects a request from what an earlier request left on the same connection.

The two may belong to different clients, because proxies share connections between clients.
"""

from aiohttp import web

from sockjs_aio.server.aiohttp_internals import end_after_leftovers
from sockjs_aio.server.aiohttp_protocol import let_shutdowns_end, use_own_server
from sockjs_aio.server.urls import finish_refusal

_GUARDED = web.AppKey("sockjs_aio guarded", bool)


def guard(app: web.Application) -> None:
    """Close connections to `app` after a chunked body, or after a compressed body left unread.

    Pass the application that you run, not one of its sub-applications: it is the one that reads
    requests.  Also lets pages of allowed origins read why a URL of a SockJS service refuses them,
    even if a middleware refuses or the code fails, and lets a shutdown of `app` end before a hook
    that calls `sys.exit()` ends the process.
    """
    if _GUARDED in app:
        return
    app[_GUARDED] = True
    app.on_response_prepare.append(finish_refusal)
    end_after_leftovers(app)
    use_own_server(app)
    let_shutdowns_end(app)
