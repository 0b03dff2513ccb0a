"""Run both applications: ``python -m examples.tornado_side_by_side``; needs Tornado."""

import argparse
import contextlib
from functools import partial
from pathlib import Path

import tornado.web
import tornado.websocket
from aiohttp import web

from examples.chat import CDN, SOCKJS_CLIENT, send_file
from examples.serving import port_number
from sockjs_aio import run_app
from sockjs_aio.tornado import SockJSRouter
from sockjs_aio.tornado.migrate import WebsocketHandler

SCRIPT = "/chat-client/sockjs.min.js"


class Visitor:
    """What old and new visitors share: the methods of a Tornado handler, and one room."""

    room = set()
    name = "somebody"

    def open(self):
        self.tell_all(f"{self.name} joined.")
        self.room.add(self)

    def on_message(self, message):
        self.tell_all(f"{self.name}: {message}")

    def on_close(self):
        if self in self.room:
            self.room.remove(self)
            self.tell_all(f"{self.name} left.")

    def tell_all(self, message):
        for visitor in list(self.room):
            # Tornado's handler raises this after its client has left and before its on_close
            with contextlib.suppress(tornado.websocket.WebSocketClosedError):
                visitor.write_message(message)


class OldVisitor(Visitor, tornado.websocket.WebSocketHandler):
    name = "An old one"


class NewVisitor(Visitor, WebsocketHandler):
    name = "A new one"


class Page(tornado.web.RequestHandler):
    def initialize(self, **ports):
        self.ports = ports

    def get(self):
        self.render("page.html", script=script_url(), **self.ports)


def script_url():
    return SCRIPT if SOCKJS_CLIENT.is_file() else CDN


def make_old_app(ports):
    return tornado.web.Application(
        [(r"/", Page, ports), (r"/old-socket", OldVisitor)],
        template_path=str(Path(__file__).parent),
    )


def make_new_app(options):
    app = web.Application()
    SockJSRouter(NewVisitor, "/chat", {"sockjs_url": script_url()}).attach(app)
    if SOCKJS_CLIENT.is_file():
        app.add_routes([web.get(SCRIPT, partial(send_file, SOCKJS_CLIENT))])

    async def tornado_beside(app):
        server = make_old_app(vars(options)).listen(options.old_port, "127.0.0.1")
        print(f"old: http://127.0.0.1:{options.old_port}/  new: {options.new_port}", flush=True)
        yield
        server.stop()
        for visitor in list(Visitor.room):
            visitor.close(1012, "Service restart")
        await server.close_all_connections()

    app.cleanup_ctx.append(tornado_beside)
    return app


def main():
    parser = argparse.ArgumentParser(prog="python -m examples.tornado_side_by_side")
    parser.add_argument("--old-port", type=port_number, default=8081)
    parser.add_argument("--new-port", type=port_number, default=8082)
    options = parser.parse_args()
    run_app(
        make_new_app(options),
        host="127.0.0.1",
        port=options.new_port,
        access_log=None,
        print=None,
    )


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        raise SystemExit(f"Cannot listen on one of the two ports: {error.strerror}") from None
