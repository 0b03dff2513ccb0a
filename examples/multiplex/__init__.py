"""Three channels over one socket: run ``python -m examples.multiplex``, then open its page.

Ann answers each message, Bob repeats it to all his listeners, and Carl leaves after one message.
They show `send`, `broadcast` and `close` of a channel, each with an ordinary connection class.
"""

import string
from functools import partial
from pathlib import Path
from typing import ClassVar

from aiohttp import web

from examples import chat
from sockjs_aio import ConnectionInfo, SockJSConnection, SockJSRouter
from sockjs_aio.multiplex import MultiplexConnection

PAGE = Path(__file__).parent / "page"


class Ann(SockJSConnection):
    async def on_open(self, info: ConnectionInfo) -> None:
        self.send("Ann says hi!")

    async def on_message(self, message: str) -> None:
        self.send(f"Ann nods: {message}")


class Bob(SockJSConnection):
    listeners: ClassVar[set["Bob"]] = set()

    async def on_open(self, info: ConnectionInfo) -> None:
        self.listeners.add(self)
        self.tell_all()

    async def on_message(self, message: str) -> None:
        self.broadcast(self.listeners, f"Bob has heard: {message}")

    async def on_close(self) -> None:
        self.listeners.discard(self)
        self.tell_all()

    def tell_all(self) -> None:
        self.broadcast(self.listeners, f"Bob's listeners: {len(self.listeners)}")


class Carl(SockJSConnection):
    async def on_message(self, message: str) -> None:
        self.send(f"Carl says goodbye to: {message}")
        self.close()


def make_app(sockjs_client: Path = chat.SOCKJS_CLIENT) -> web.Application:
    """Make the application; if the file `sockjs_client` is missing, pages use a CDN."""
    app = web.Application()
    connection = MultiplexConnection.get(ann=Ann, bob=Bob, carl=Carl)
    sockjs_url = add_page(app, sockjs_client)
    settings = {"sockjs_url": sockjs_url, "heartbeat_delay": 10, "max_message_size": 16384}
    SockJSRouter(connection, "/multiplex", settings).attach(app)
    return app


def add_page(app: web.Application, sockjs_client: Path = chat.SOCKJS_CLIENT) -> str:
    """Add the page and its files to `app`; return the URL of sockjs-client."""
    sockjs_url = chat.CDN
    if sockjs_client.is_file():
        sockjs_url = "/sockjs.min.js"
        app.router.add_get(sockjs_url, partial(chat.send_file, sockjs_client))
    page = string.Template((PAGE / "index.html").read_text(encoding="utf-8"))
    html = page.substitute(sockjs_script=chat.script_tag(sockjs_url))
    app.router.add_get("/", partial(chat.send_page, html))
    app.router.add_static("/page/", PAGE)
    app.router.add_static("/style/", chat.PAGE)
    return sockjs_url
