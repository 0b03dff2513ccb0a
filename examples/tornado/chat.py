"""A chat in the style of sockjs-tornado: ``python -m examples.tornado.chat [--port PORT]``."""

from examples.tornado.start import SOCKJS_URL, make_app, run
from sockjs_aio.tornado import SockJSConnection, SockJSRouter


class ChatConnection(SockJSConnection):
    participants = set()

    def on_open(self, info):
        self.broadcast(self.participants, "Someone joined.")
        self.participants.add(self)

    def on_message(self, message):
        self.broadcast(self.participants, message)

    def on_close(self):
        self.participants.discard(self)
        self.broadcast(self.participants, "Someone left.")


ChatRouter = SockJSRouter(ChatConnection, "/chat", {"sockjs_url": SOCKJS_URL})

if __name__ == "__main__":
    run(make_app(ChatRouter, page="chat.html"), "A chat.")
