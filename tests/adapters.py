"""Echo services with the APIs of sockjs-tornado and of aio-libs' sockjs.

Servers in processes of their own import this, so it does not import pytest.
"""

from typing import Any

from aiohttp import web

from sockjs_aio import aiolibs, tornado

PREFIXES = ["/tornado", "/aiolibs"]


class TornadoEcho(tornado.SockJSConnection):
    """Sends every message back."""

    def on_message(self, message: Any) -> None:
        self.send(message)


async def echo(_manager: Any, session: Any, message: Any) -> None:
    """Send every message back."""
    if message.type is aiolibs.MsgType.MESSAGE:
        session.send(message.data)


def add_adapters(app: web.Application) -> None:
    """Add a service of each at its prefix."""
    app.add_routes(tornado.SockJSRouter(TornadoEcho, "/tornado").urls)
    aiolibs.add_endpoint(app, echo, prefix="/aiolibs")
