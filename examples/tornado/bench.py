"""A server for load tests: ``python -m examples.tornado.bench [--port PORT]``.

Clients connect to ``/broadcast``, and each message is sent to all of them.  The server prints the
number of clients every second.
"""

import asyncio

from examples.tornado.start import make_app, run
from sockjs_aio.tornado import SockJSConnection, SockJSRouter


class BroadcastConnection(SockJSConnection):
    clients = set()

    def on_open(self, info):
        self.clients.add(self)

    def on_message(self, message):
        self.broadcast(self.clients, message)

    def on_close(self):
        self.clients.discard(self)


def print_clients():
    print(f"Clients: {len(BroadcastConnection.clients)}", flush=True)
    asyncio.get_running_loop().call_later(1, print_clients)


async def begin(app):
    print_clients()


BroadcastRouter = SockJSRouter(BroadcastConnection, "/broadcast")

if __name__ == "__main__":
    app = make_app(BroadcastRouter)
    app.on_startup.append(begin)
    run(app, "Broadcast messages to all clients, and print the number of clients.")
