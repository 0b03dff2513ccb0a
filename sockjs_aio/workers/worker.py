"""One worker: serves the application, and does what its supervisor says.

Its supervisor starts ``python -m sockjs_aio.workers FD``; FD is a socket on which an `Order`
comes, then commands, a word a line, and the worker's answers go back.  If it ends, so does the
worker.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import traceback

import async_timeout
from aiohttp import web
from aiohttp.log import access_logger

from sockjs_aio.nodes.nodes import NODES
from sockjs_aio.running import Drain, endings_of, healthz, readyz
from sockjs_aio.workers import listeners, places
from sockjs_aio.workers.gateway import Gateway
from sockjs_aio.workers.order import Order
from sockjs_aio.workers.places import HostPlaces, worker_at
from sockjs_aio.workers.target import TargetError, load

logger = logging.getLogger("sockjs_aio")

SHUTDOWN_TIMEOUT = 5.0
"""Seconds that handlers have, once the listener is closed."""

LATECOMERS = 0.5
"""Seconds for whom the listener has let in to ask for something, before no session is opened."""

FAILED = 3
"""Exit status of a worker that has printed why it cannot begin."""


class Worker:
    """Serves one application in one of several processes."""

    def __init__(self, order: Order, app: web.Application, writer: asyncio.StreamWriter) -> None:
        self._order = order
        self._app = app
        self._writer = writer
        key = bytes.fromhex(order.key)
        self._places = HostPlaces(order.directory, order.count, order.number, key)
        self._relay = Gateway(self._places, key)
        self._drain = Drain(order.notice, order.over, order.limit)
        self._site: web.SockSite | None = None
        self._runner = web.AppRunner(
            app,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
            access_log=access_logger if order.access_log else None,
        )

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Serve until the supervisor has it end."""
        _add_health(self._app)
        self._relay.install(self._app)
        await self._runner.setup()
        await web.SockSite(self._runner, self._places.listen(), backlog=places.BACKLOG).start()
        self._say("loaded")
        commands = {
            b"publish": self._publish,
            b"succeed": self._succeed,
            b"resume": self._resume,
            b"retire": self._retire,
            b"notice": self._notice,
            b"drain": self._close_sessions,
        }
        async for line in reader:
            command = line.strip()
            if command == b"end":
                break
            await commands[command]()
        else:
            logger.warning("worker %d: the supervisor has ended", self._order.number)
            await self._drain.run(self._app)
        await self._runner.cleanup()

    def _say(self, word: str) -> None:
        with contextlib.suppress(ConnectionError):
            self._writer.write(f"{word}\n".encode())

    async def _publish(self) -> None:
        """Begin to serve."""
        self._places.publish(replaces=self._order.replaces)
        if self._order.replaces:
            # nobody starts that one anew
            self._relay.predecessor = worker_at(self._places.previous_path, patience=0)
        listener = socket.socket(fileno=self._order.listener)
        self._site = web.SockSite(self._runner, listener, backlog=listeners.BACKLOG)
        await self._site.start()
        self._say("ready")

    async def _succeed(self) -> None:
        """Somebody else takes over: new sessions are theirs."""
        self._places.yield_place()
        self._relay.successor = worker_at(self._places.own_path)
        self._say("succeeded")

    async def _resume(self) -> None:
        """Nobody takes over after all."""
        successor, self._relay.successor = self._relay.successor, None
        if successor is not None:
            self._places.reclaim()
            await successor.client.close()

    async def _retire(self) -> None:
        """Have all clients go elsewhere: the successor has the same listener."""
        self._places.leave()
        if self._site is not None:
            await self._site.stop()
        self._relay.is_retiring = True
        await asyncio.sleep(LATECOMERS)
        await self._close_sessions()

    async def _notice(self) -> None:
        for ending in endings_of(self._app):
            ending.is_announced = True

    async def _close_sessions(self) -> None:
        """Close all sessions; wait until their clients know, and those of the relay."""
        endings = [ending.drain(self._drain.over) for ending in endings_of(self._app)]
        exchanges = self._relay.exchanges
        until_left = exchanges.end if self._relay.is_retiring else exchanges.finished
        try:
            async with async_timeout.timeout(self._drain.limit):
                await asyncio.gather(*endings, until_left())
                await until_left()  # some may have come meanwhile
        except asyncio.TimeoutError:
            logger.warning("worker %d: the end takes too long", self._order.number)
        self._say("drained")


def _add_health(app: web.Application) -> None:
    """Add the pages for load balancers, unless the application has its own."""
    taken = {resource.canonical for resource in app.router.resources()}
    for path, handler in (("/healthz", healthz), ("/readyz", readyz)):
        if path not in taken:
            app.router.add_get(path, handler)


async def work(control: int) -> int:
    """Be a worker; return the exit status."""
    _keep_read_buffers()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the supervisor hears them, too
        loop.add_signal_handler(number, _leave_to_supervisor)
    connection = socket.socket(fileno=control)
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    order = Order.decode(await reader.readline())
    try:
        app = await load(order.target)
        if NODES in app:
            raise TargetError(
                "an application with Nodes is no application for Workers: start its processes each "
                "by itself, with a port and a url of its own"
            )
    except TargetError as error:
        print(f"sockjs_aio serve: {error}", file=sys.stderr)
        return FAILED
    except Exception:
        traceback.print_exc()
        return FAILED
    await Worker(order, app, writer).serve(reader)
    writer.close()
    return 0


def _keep_read_buffers() -> None:
    """Have the C library keep memory of the size in which asyncio reads: 256 KiB each time.

    Micro-optimisation: glibc gives blocks of more than 128 KiB back to the kernel, and takes them
    anew, until it has seen a larger one come and go.  That was a quarter of what a poll costs.
    """
    bytes(1 << 20)


def _leave_to_supervisor() -> None:
    pass


def main() -> None:
    """Run a worker."""
    logging.basicConfig(level=logging.INFO, format=f"[{os.getpid()}] %(levelname)s %(message)s")
    sys.exit(asyncio.run(work(int(sys.argv[1]))))
