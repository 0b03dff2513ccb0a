"""One worker: serves the application, and does what its supervisor says.

Its supervisor starts it with the number of a file descriptor, which is a socket: a `WorkerConfig`
comes on it, then commands, a word a line, and the worker's answers go back.  If the supervisor
ends, so does the worker.
"""

import asyncio
import contextlib
import faulthandler
import importlib
import logging
import operator
import signal
import socket
import sys

import async_timeout
from aiohttp import web
from aiohttp.log import access_logger

from sockjs_aio.cluster.nodes.nodes import NODES
from sockjs_aio.cluster.workers import listeners, logs, placement
from sockjs_aio.cluster.workers.accepting import Listener
from sockjs_aio.cluster.workers.app_loader import TargetError, load, report
from sockjs_aio.cluster.workers.control import Control
from sockjs_aio.cluster.workers.gateway import Gateway
from sockjs_aio.cluster.workers.placement import HostPlacement, worker_at
from sockjs_aio.cluster.workers.worker_config import WorkerConfig
from sockjs_aio.core.closing import LAST_GRACE
from sockjs_aio.server.forks import give_forks_their_signals
from sockjs_aio.server.health import healthz, readyz
from sockjs_aio.server.service import services_of

logger = logging.getLogger("sockjs_aio")

SHUTDOWN_TIMEOUT = 5.0
"""Seconds that handlers have, once the listener is closed; then they are cancelled, and have it
again."""

CLEANUP_LIMIT = 30.0
"""Seconds that the application's own ``on_shutdown`` and ``on_cleanup`` may take in all."""

LATECOMERS = 0.5
"""Seconds for whom the listener has let in to ask for something, before no session is opened."""

FAILED = 3
"""Exit status of a worker that has told why it cannot begin."""


class Worker:
    """Serves one application in one of several processes."""

    def __init__(self, config: WorkerConfig, control: Control) -> None:
        self._config = config
        self._control = control
        key = bytes.fromhex(config.key)
        self._placement = HostPlacement(config.directory, config.count, config.number, key)
        control.clear_up = self._placement.clear_up
        self._relay = Gateway(self._placement, key)
        self._relay.ended_ids_path = self._placement.ended_ids_path
        self._drain = config.drain
        self._app: web.Application | None = None
        self._runner: web.AppRunner | None = None
        self._sites: list[tuple[web.SockSite, socket.socket]] = []

    async def start(self) -> None:
        """Load the application and start it; clients do not find it before `serve`.

        Raises:
            TargetError: If there is none, or none that can be served.
            Exception: Whatever the application raises.
        """
        try:
            await self._start()
        except SystemExit as error:  # would end this process without a word to the supervisor
            raise TargetError(f"{self._config.target} ends the process: {error}") from None

    async def _start(self) -> None:
        app = await load(self._config.target)
        if NODES in app:
            raise TargetError(
                "an application with Nodes is no application for Workers: start its processes each "
                "by itself, with a port and a url of its own"
            )
        _add_health(app)
        self._relay.install(app)
        self._app = app
        self._runner = web.AppRunner(
            app,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
            lingering_time=self._config.lingering_time,
            keepalive_timeout=self._config.keepalive_timeout,
            access_log_class=logs.EntryLogger,
            access_log=access_logger if self._config.access_log else None,
        )
        await self._runner.setup()
        await web.SockSite(
            self._runner, self._placement.listen(), backlog=placement.BACKLOG
        ).start()
        self._tell_limits(app)
        self._control.say("loaded")

    async def serve(self) -> None:
        """Serve until this worker is to end."""
        assert self._app is not None, "it has not been started"
        obeying = asyncio.create_task(self._obey())
        ending = asyncio.create_task(self._control.ending.wait())
        await asyncio.wait((obeying, ending), return_when=asyncio.FIRST_COMPLETED)
        if obeying.done():  # it has failed
            obeying.result()
        obeying.cancel()
        await asyncio.wait((obeying,))
        if self._control.is_lost:
            logger.warning("worker %d: the supervisor has ended", self._config.number)
            await self._drain.run(self._app)

    async def stop(self) -> None:
        """End all that has been started."""
        await self._stop_accepting()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._control.is_lost:
            self._placement.clear_up()

    def _tell_limits(self, app: web.Application) -> None:
        """Say how long `stop` may take: that follows from the application's settings."""
        settings = [service.settings for service in services_of(app)]
        sessions = sum(each.shutdown_timeout + 2 * LAST_GRACE for each in settings)
        limit = sessions + 2 * SHUTDOWN_TIMEOUT + CLEANUP_LIMIT
        self._control.say("limit", limit)
        self._control.end_limit = self._drain.notice + self._drain.limit + limit

    # Commands.

    async def _obey(self) -> None:
        commands = {
            "publish": self._publish,
            "succeed": self._succeed,
            "resume": self._resume,
            "retire": self._retire,
            "notice": self._notice,
            "drain": self._close_sessions,
        }
        async for command in self._control.commands():
            await commands[command]()

    async def _publish(self) -> None:
        """Begin to serve."""
        assert self._runner is not None
        self._placement.publish(replaces=self._config.replaces)
        if self._config.replaces:
            # nobody starts that one anew
            self._relay.predecessor = worker_at(self._placement.previous_path, patience=0)
        for number in self._config.listeners:
            listener = Listener(fileno=number)
            site = web.SockSite(self._runner, listener, backlog=listeners.BACKLOG)
            await site.start()
            self._sites.append((site, listener))
        self._control.patience = self._config.hang_limit
        self._control.say("ready")

    async def _succeed(self) -> None:
        """Somebody else takes over: new sessions are theirs."""
        self._placement.yield_place()
        self._relay.successor = worker_at(self._placement.own_path)
        self._control.say("succeeded")

    async def _resume(self) -> None:
        """Nobody takes over after all."""
        successor, self._relay.successor = self._relay.successor, None
        if successor is not None:
            self._placement.reclaim()
            await successor.client.close()

    async def _retire(self) -> None:
        """Have all clients go elsewhere: the successor has the same listener."""
        self._placement.leave()
        await self._stop_accepting()
        self._relay.is_retiring = True
        await asyncio.sleep(LATECOMERS)
        await self._close_sessions()

    async def _notice(self) -> None:
        assert self._app is not None
        for service in services_of(self._app):
            service.registry.closing.is_announced = True

    async def _close_sessions(self) -> None:
        """Close all sessions; wait until their clients know, and those of the relay."""
        assert self._app is not None
        endings = [
            service.registry.closing.drain(self._drain.over) for service in services_of(self._app)
        ]
        exchanges = self._relay.exchanges
        loop = asyncio.get_running_loop()
        number, start = self._config.number, loop.time()
        count = sum(len(service.registry) for service in services_of(self._app))
        logger.info("worker %d: closing %d sessions over %g s", number, count, self._drain.over)
        until_left = exchanges.end if self._relay.is_retiring else exchanges.finished
        try:
            async with async_timeout.timeout(self._drain.limit):
                await asyncio.gather(*endings, until_left())
                await until_left()  # some may have come meanwhile
        except asyncio.TimeoutError:
            logger.warning(
                "worker %d: %g s have passed, whoever is left is cut off", number, self._drain.limit
            )
        else:
            logger.info("worker %d: the drain is over, after %.1f s", number, loop.time() - start)
        if self._relay.is_retiring:
            self._relay.leave_ended_ids()
        self._control.say("drained")

    async def _stop_accepting(self) -> None:
        """Close the listeners here; they are open elsewhere still."""
        sites, self._sites = self._sites, []
        await listeners.stop_accepting(sites)


def _add_health(app: web.Application) -> None:
    """Add the pages for load balancers, unless the application has its own."""
    taken = {resource.canonical for resource in app.router.resources()}
    for path, handler in (("/healthz", healthz), ("/readyz", readyz)):
        if path not in taken:
            app.router.add_get(path, handler)


async def work(number: int) -> int:
    """Be a worker, for a supervisor at the file descriptor `number`; return the exit status."""
    _keep_read_buffers()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(signal_number, _leave_to_supervisor)  # that hears them, too
    control, config = await Control.open(number)
    logs.set_up(config.log_level, config.log_format)
    worker = Worker(config, control)
    status = 0
    starting = asyncio.create_task(worker.start())
    ending = asyncio.create_task(control.ending.wait())
    await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,))
    elif error := starting.exception():
        control.say("failed", report(config.target, error))
        status = FAILED
    else:
        await worker.serve()
    await worker.stop()
    await control.close()
    return status


def _keep_read_buffers() -> None:
    """Have the C library keep memory of the size in which asyncio reads: 256 KiB each time.

    Micro-optimisation: glibc gives blocks of more than 128 KiB back to the kernel, and takes them
    anew, until it has seen a larger one come and go.  That was a quarter of what a poll costs.
    """
    bytes(1 << 20)


def _leave_to_supervisor() -> None:
    pass


def main(number: int, policy: str) -> None:
    """Run a worker for the supervisor at the file descriptor `number`, with a loop `policy`."""
    with contextlib.suppress(AttributeError, ValueError, OSError):  # there may be no stderr
        faulthandler.enable()  # says where it hangs when the supervisor ends it by SIGABRT
    give_forks_their_signals()
    if policy:
        module, _, name = policy.partition(":")
        make_policy = operator.attrgetter(name)(importlib.import_module(module))
        asyncio.set_event_loop_policy(make_policy())
    sys.exit(asyncio.run(work(number)))
