"""Three channels over one socket, in the style of sockjs-tornado.

Run it with ``python -m examples.tornado.multiplex [--port PORT]``.  It uses the page of
examples/multiplex.
"""

from aiohttp import web

from examples.multiplex import add_page
from examples.tornado.start import run
from sockjs_aio.tornado import SockJSConnection, SockJSRouter
from sockjs_aio.tornado.multiplex import MultiplexConnection


class AnnConnection(SockJSConnection):
    def on_open(self, info):
        self.send("Ann says hi!")

    def on_message(self, message):
        self.send("Ann nods: " + message)


class BobConnection(SockJSConnection):
    listeners = set()

    def on_open(self, info):
        self.listeners.add(self)
        self.tell_all()

    def on_message(self, message):
        self.broadcast(self.listeners, "Bob has heard: " + message)

    def on_close(self):
        self.listeners.discard(self)
        self.tell_all()

    def tell_all(self):
        self.broadcast(self.listeners, f"Bob's listeners: {len(self.listeners)}")


class CarlConnection(SockJSConnection):
    def on_message(self, message):
        self.send("Carl says goodbye to: " + message)
        self.close()


def make_app() -> web.Application:
    app = web.Application()
    connection = MultiplexConnection.get(ann=AnnConnection, bob=BobConnection, carl=CarlConnection)
    SockJSRouter(connection, "/multiplex", {"sockjs_url": add_page(app)}).attach(app)
    return app


if __name__ == "__main__":
    run(make_app(), "Three channels over one socket.")
