"""Runs code written for sockjs-tornado on aiohttp.

In your application's modules, you only change the import:
``from sockjs_aio.tornado import SockJSRouter, SockJSConnection``.  For the start of the server, see
docs/migrating-from-sockjs-tornado.md.  Names and behaviour are those of sockjs-tornado 1.0.7.  You
do not need Tornado.
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
