"""What code written for sockjs-tornado imports, on aiohttp.

``from sockjs_aio.tornado import SockJSRouter, SockJSConnection`` is the whole change in an
application's modules; see docs/migrating-from-sockjs-tornado.md for the start of the server.  Names
and behaviour are those of sockjs-tornado 1.0.7; Tornado is not needed.
"""

from sockjs_aio.tornado import conn, migrate, multiplex, proto, router, session, stats, transports
from sockjs_aio.tornado.conn import SockJSConnection
from sockjs_aio.tornado.router import SockJSRouter

__all__ = [
    "SockJSConnection",
    "SockJSRouter",
    "conn",
    "migrate",
    "multiplex",
    "proto",
    "router",
    "session",
    "stats",
    "transports",
]
