"""Echo and broadcast on aio-libs' sockjs 0.13; runs in a virtual environment of its own."""

import argparse

from aiohttp import web
from sockjs import MsgType, add_endpoint


async def echo(manager, session, message):
    if message.type is MsgType.MESSAGE:
        session.send(message.data)


async def broadcast(manager, session, message):
    if message.type is MsgType.MESSAGE:
        manager.broadcast(message.data)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--heartbeat", type=float, default=25, help="seconds (25)")
    options = parser.parse_args()
    app = web.Application()
    for name, handler in (("echo", echo), ("broadcast", broadcast)):
        add_endpoint(app, handler, name=name, prefix=f"/{name}", heartbeat_delay=options.heartbeat)
    web.run_app(app, host="127.0.0.1", port=options.port, access_log=None)


if __name__ == "__main__":
    main()
