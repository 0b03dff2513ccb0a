"""A chat and its live statistics: ``python -m examples.tornado.stats [--port PORT]``.

The chat is the one in ``chat.py``.  A second router sends the chat's statistics to a page every
second.  The page also opens clients that chat, so that there is something to count.
"""

import asyncio

from examples.tornado.chat import ChatRouter
from examples.tornado.start import SOCKJS_URL, make_app, run
from sockjs_aio.tornado import SockJSConnection, SockJSRouter, proto


class StatsConnection(SockJSConnection):
    def on_open(self, info):
        self.timer = None
        self.tell()

    def on_message(self, message):
        pass

    def on_close(self):
        self.timer.cancel()

    def tell(self):
        self.send(proto.json_encode(ChatRouter.stats.dump()))
        self.timer = asyncio.get_running_loop().call_later(1, self.tell)


StatsRouter = SockJSRouter(StatsConnection, "/statistics", {"sockjs_url": SOCKJS_URL})

if __name__ == "__main__":
    run(make_app(ChatRouter, StatsRouter, page="stats.html"), "A chat and its statistics.")
