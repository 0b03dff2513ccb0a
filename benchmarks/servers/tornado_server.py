"""Echo and broadcast on sockjs-tornado 1.0.7; runs in a virtual environment of its own."""

import argparse

import tornado.ioloop
import tornado.web
from sockjs.tornado import SockJSConnection, SockJSRouter


class Echo(SockJSConnection):
    def on_message(self, message):
        self.send(message)


class Broadcast(SockJSConnection):
    everybody = set()  # noqa: RUF012

    def on_open(self, info):
        self.everybody.add(self)

    def on_message(self, message):
        self.broadcast(self.everybody, message)

    def on_close(self):
        self.everybody.discard(self)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--heartbeat", type=float, default=25, help="seconds (25)")
    options = parser.parse_args()
    settings = {"heartbeat_delay": options.heartbeat}
    urls = SockJSRouter(Echo, "/echo", settings).urls
    urls += SockJSRouter(Broadcast, "/broadcast", settings).urls
    app = tornado.web.Application(urls, log_function=lambda _handler: None)
    app.listen(options.port, address="127.0.0.1", backlog=1024)
    tornado.ioloop.IOLoop.current().start()


if __name__ == "__main__":
    main()
