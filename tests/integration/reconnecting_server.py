"""A server that is killed and started again while pages are connected, as a process."""

import argparse
import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import async_timeout
from aiohttp import web

from sockjs_aio import Drain, SockJSConnection, SockJSRouter, run_app
from tests.forks import AsyncFork
from tests.ports import free_port

HEARTBEAT_DELAY = 0.5


class Echo(SockJSConnection):
    async def on_message(self, message: str | bytes) -> None:
        self.send(message)


class Server:
    """The process; it may be started again, on the same port.

    Args:
        sockjs_url: The script for the iframe page.
    """

    def __init__(self, sockjs_url: str) -> None:
        self._sockjs_url = sockjs_url
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/echo"
        self._process: AsyncFork | None = None

    async def start(self) -> None:
        options = ["--port", str(self.port), "--sockjs-url", self._sockjs_url]
        self._process = await AsyncFork.start("-m", __name__, *options)
        async with async_timeout.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except ConnectionError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    return

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self.send(number)
            await self._process.wait()
            self._process = None


@asynccontextmanager
async def running(sockjs_url: str) -> AsyncIterator[Server]:
    server = Server(sockjs_url)
    await server.start()
    try:
        yield server
    finally:
        await server.end(signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--sockjs-url")
    options = parser.parse_args()
    app = web.Application()
    settings = {"sockjs_url": options.sockjs_url, "heartbeat_delay": HEARTBEAT_DELAY}
    SockJSRouter(Echo, "/echo", settings).attach(app)
    drain = Drain(notice=0, over=0)
    run_app(app, host="127.0.0.1", port=options.port, drain=drain, access_log=None, print=None)


if __name__ == "__main__":
    main()
