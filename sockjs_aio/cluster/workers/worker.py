"""One worker: serves the application, and obeys its supervisor.

The supervisor starts it with the file descriptor of a socket.  On it the worker reads a
`WorkerConfig` and then commands, one word a line, and writes its answers.  When the supervisor
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

from sockjs_aio.cancellations import end
from sockjs_aio.cluster.nodes.nodes import NODES
from sockjs_aio.cluster.relay.gateway import Gateway
from sockjs_aio.cluster.relay.relay import Relay
from sockjs_aio.cluster.workers import listeners, logs, placement
from sockjs_aio.cluster.workers.accepting import Listener
from sockjs_aio.cluster.workers.app_loader import TargetError, load, report
from sockjs_aio.cluster.workers.control import SIGNALS, Control
from sockjs_aio.cluster.workers.handover import Handovers
from sockjs_aio.cluster.workers.locator import WorkerLocator
from sockjs_aio.cluster.workers.main_task import run
from sockjs_aio.cluster.workers.placement import HostPlacement, worker_at
from sockjs_aio.cluster.workers.session_journal import SessionJournal
from sockjs_aio.cluster.workers.source_watch import (
    failed_directories,
    imported_directories,
    report_sources,
)
from sockjs_aio.cluster.workers.worker_config import WorkerConfig
from sockjs_aio.core.closing import LAST_GRACE
from sockjs_aio.core.process_exit import shutting_down
from sockjs_aio.exit_status import replace_closed_streams
from sockjs_aio.server.accept_errors import quiet_accept_errors
from sockjs_aio.server.aiohttp_protocol import Runner
from sockjs_aio.server.drain import end_sessions, number_of_sessions, progress
from sockjs_aio.server.forks import forks_apart, keep_directory_from_forks
from sockjs_aio.server.health import healthz, readyz
from sockjs_aio.server.service import services_of

logger: logging.Logger = logging.getLogger("sockjs_aio.workers")

SHUTDOWN_TIMEOUT = 5.0
"""Seconds that handlers have to finish once the listener is closed, and again once they are
cancelled."""

CLEANUP_LIMIT = 30.0
"""Seconds that the application's own ``on_shutdown`` and ``on_cleanup`` may take together."""

LATECOMERS = 0.5
"""Seconds for clients that have just connected to send a request, before sessions are closed."""

FAILED = 3
"""Exit status of a worker that has reported why it cannot start."""


class Worker:
    """Serves one application in one of several processes."""

    def __init__(self, config: WorkerConfig, control: Control) -> None:
        self._config = config
        self._control = control
        key = bytes.fromhex(config.key)
        self._placement = HostPlacement(config.directory, config.count, config.number, key)
        control.clear_up = self._placement.clear_up
        self._relay = Relay(key, spans_hosts=False)
        self._locator = WorkerLocator(self._placement, self._relay)
        self._gateway = Gateway(self._locator, self._relay, is_alone=config.count == 1)
        self._handovers = Handovers(self._placement)
        self._drain = config.drain
        self._drain_ends: float | None = None  # if there was a notice; on the loop's clock
        self._app: web.Application | None = None
        self._runner: web.AppRunner | None = None
        self._listeners = [Listener.take(number) for number in config.listeners]
        self._sites: list[tuple[web.SockSite, socket.socket]] = []
        self._reporting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the application and start it.  No client reaches it before the command ``publish``.

        Raises:
            TargetError: If there is no application, or workers cannot serve it.
            Exception: Anything that the application raises.
        """
        try:
            await self._start()
        except SystemExit as error:  # would end this process before it can report why
            raise TargetError(f"{self._config.target} exited: {error}") from None

    async def _start(self) -> None:
        app = await load(self._config.target)
        if NODES in app:
            raise TargetError(
                "Workers cannot serve an application with Nodes: start each of its processes "
                "by itself, with its own port and url"
            )
        _add_health(app)
        for service in services_of(app):
            service.worker = self._config.number
        if self._config.metrics:
            # loaded only here: prometheus-client may not be installed
            from sockjs_aio.cluster.workers.metrics import Reporter

            self._control.make_report = Reporter(app).report
        self._gateway.install(app)
        app.on_shutdown.append(end_sessions)
        self._app = app
        self._runner = Runner(
            app,
            self._handovers.protocol,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
            lingering_time=self._config.lingering_time,
            keepalive_timeout=self._config.keepalive_timeout,
            access_log_class=logs.EntryLogger,
            access_log=access_logger if self._config.access_log else None,
        )
        await self._runner.setup()
        quiet_accept_errors(asyncio.get_running_loop())
        await web.SockSite(
            self._runner, self._placement.listen(), backlog=placement.BACKLOG
        ).start()
        self._tell_limits(app)
        if self._config.reports_sources:
            self._reporting = asyncio.create_task(report_sources(self._control.say))
        self._control.say("loaded")

    async def serve(self) -> None:
        """Obey commands until this worker must end."""
        assert self._app is not None, "start the worker first"
        obeying = asyncio.create_task(self._obey())
        ending = asyncio.create_task(self._control.ending.wait())
        await asyncio.wait((obeying, ending), return_when=asyncio.FIRST_COMPLETED)
        if obeying.done():  # a command has failed
            obeying.result()
        await end(obeying)
        if self._control.is_lost:
            logger.warning("worker %d: the supervisor has died; shutting down", self._config.number)
            self._handovers.close_intake()
            await self._drain.run(self._app)

    async def stop(self) -> None:
        """Stop everything that was started."""
        with shutting_down():
            if self._reporting is not None:
                self._reporting.cancel()
            self._handovers.close_intake()
            await self._stop_accepting()
            if self._runner is not None:
                await self._runner.cleanup()
            self._handovers.close()
            if self._control.is_lost:
                self._placement.clear_up()

    def _tell_limits(self, app: web.Application) -> None:
        """Report how long `stop` may take: that depends on the application's settings."""
        settings = [service.settings for service in services_of(app)]
        sessions = sum(each.shutdown_timeout + 2 * LAST_GRACE for each in settings)
        limit = sessions + 2 * SHUTDOWN_TIMEOUT + CLEANUP_LIMIT
        self._control.say("limit", limit)
        self._control.end_limit = max(self._drain.notice, self._drain.limit) + limit

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
        """Start to serve clients."""
        assert self._app is not None and self._runner is not None
        self._locator.journal = journal = SessionJournal(self._app, self._placement.own_path)
        replaces, living = self._config.replaces, self._config.inherits
        if not replaces:  # there may have been a worker of this number, which has died
            await journal.take_over(living)
        self._placement.publish(replaces=replaces, inherits=living is not None)
        if replaces or living is not None:
            # no patience: a predecessor that has died is not started again
            self._locator.predecessor = worker_at(self._placement.previous_path, patience=0)
        self._handovers.open(self._runner)
        for listener in self._listeners:
            site = web.SockSite(self._runner, listener, backlog=listeners.BACKLOG)
            self._sites.append((site, listener))
            await site.start()  # if this is cancelled, the loop may listen already
        self._control.patience = self._config.hang_limit
        self._control.say("ready")

    async def _succeed(self) -> None:
        """Leave new sessions to a successor, which is about to serve."""
        self._handovers.close_intake()
        self._placement.yield_place()
        self._locator.successor = worker_at(self._placement.own_path)
        self._control.say("succeeded")

    async def _resume(self) -> None:
        """Open sessions again: the successor could not start."""
        successor, self._locator.successor = self._locator.successor, None
        if successor is not None:
            self._placement.reclaim()
            self._handovers.reopen()
            if self._locator.journal is not None:
                await (
                    self._locator.journal.take_over()
                )  # it may have opened sessions before it died
            await successor.client.close()

    async def _retire(self) -> None:
        """Send all clients to the successor, which has the same listeners."""
        self._placement.leave()
        await self._stop_accepting()
        self._gateway.retire()
        await asyncio.sleep(LATECOMERS)
        await self._close_sessions()

    async def _notice(self) -> None:
        assert self._app is not None
        self._drain_ends = asyncio.get_running_loop().time() + self._drain.limit
        for service in services_of(self._app):
            service.registry.closing.is_announced = True

    async def _close_sessions(self) -> None:
        """Close all sessions; wait until their clients, and those of relayed requests, are told."""
        assert self._app is not None
        self._handovers.close_intake()
        endings = [
            service.registry.closing.drain(self._drain.over) for service in services_of(self._app)
        ]
        exchanges = self._relay.exchanges
        loop = asyncio.get_running_loop()
        number, start = self._config.number, loop.time()
        sessions = number_of_sessions(sum(len(s.registry) for s in services_of(self._app)))
        logger.info("worker %d: closing %s over %g s", number, sessions, self._drain.over)
        until_left = exchanges.end if self._relay.is_retiring else exchanges.finished
        try:
            async with async_timeout.timeout_at(self._drain_ends or start + self._drain.limit):
                with progress(services_of(self._app), logger, f"worker {number}: "):
                    await asyncio.gather(*endings, until_left())
                await until_left()  # some may have arrived meanwhile
        except asyncio.TimeoutError:
            logger.warning(
                "worker %d: drain exceeded %g s; closing the remaining sessions",
                number,
                self._drain.limit,
            )
        else:
            logger.info("worker %d: drain finished after %.1f s", number, loop.time() - start)
        if self._relay.is_retiring:
            await self._locator.leave_ended_ids()
        self._control.say("drained")

    async def _stop_accepting(self) -> None:
        """Close the listeners in this process; others still have them open."""
        await listeners.stop_accepting(self._sites)
        self._sites = []  # not earlier: if this is cancelled, the next one must stop them
        for listener in self._listeners:
            listener.close()  # if it was not opened


def _add_health(app: web.Application) -> None:
    """Add ``/healthz`` and ``/readyz``, unless the application has its own."""
    taken = {resource.canonical for resource in app.router.resources()}
    for path, handler in (("/healthz", healthz), ("/readyz", readyz)):
        if path not in taken:
            app.router.add_get(path, handler)


async def work(number: int) -> int:
    """Run a worker for the supervisor at file descriptor `number`; return the exit status."""
    _keep_read_buffers()
    loop = asyncio.get_running_loop()
    for signal_number in SIGNALS:
        loop.add_signal_handler(signal_number, _leave_to_supervisor)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # see `Child.start`
    control, config = await Control.open(number)
    keep_directory_from_forks(config.directory)
    logs.set_up(config.log_level, config.log_format)
    worker = Worker(config, control)
    status = 0
    starting = asyncio.create_task(worker.start())
    ending = asyncio.create_task(control.ending.wait())
    try:
        await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:  # a task has called `sys.exit`, maybe just as the start ended
        control.ending.set()
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,))
    elif error := starting.exception():
        if config.reports_sources:
            control.say("sources", sorted(imported_directories() | failed_directories(error)))
        control.say("failed", report(config.target, error))
        status = FAILED
    else:
        with contextlib.suppress(asyncio.CancelledError):  # a hook has called `sys.exit`
            await worker.serve()
    await worker.stop()
    await control.close()
    return status


def _keep_read_buffers() -> None:
    """Make glibc keep the 256 KiB buffers that asyncio reads into.

    Micro-optimisation: glibc returns blocks above 128 KiB to the kernel each time, until it has
    freed a larger block.  That was a quarter of the cost of a poll.
    """
    bytes(1 << 20)


def _leave_to_supervisor(*_: object) -> None:
    pass


def main(number: int, policy: str) -> None:
    """Run a worker for the supervisor at file descriptor `number`, with an event loop `policy`."""
    replace_closed_streams()
    with contextlib.suppress(AttributeError, ValueError, OSError):  # it may not be a file
        faulthandler.enable()  # prints where it hangs when the supervisor sends SIGABRT
    with forks_apart():
        if policy:
            module, _, name = policy.partition(":")
            make_policy = operator.attrgetter(name)(importlib.import_module(module))
            asyncio.set_event_loop_policy(make_policy())
        try:
            status = run(work(number))
        finally:  # threads and `atexit` functions of the application may go on for a while
            for signal_number in SIGNALS:
                signal.signal(signal_number, _leave_to_supervisor)
        sys.exit(status)
