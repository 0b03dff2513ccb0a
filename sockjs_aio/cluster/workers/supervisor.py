"""Starts the workers of one host, restarts those that die or hang, reloads and ends them in turn.

It kills a worker in two cases only: the worker's event loop is blocked for too long, or the worker
takes longer to end than its application's settings allow.  Both are logged as errors; see `ending`.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from sockjs_aio.cancellations import end
from sockjs_aio.cluster.workers.child import START_LIMIT, Child, WorkerEndedError
from sockjs_aio.cluster.workers.control import SIGNALS
from sockjs_aio.cluster.workers.ending import Ending
from sockjs_aio.cluster.workers.listeners import Listeners
from sockjs_aio.cluster.workers.service_manager import ServiceManager
from sockjs_aio.cluster.workers.source_watch import SourceWatch
from sockjs_aio.cluster.workers.worker_config import WorkerConfig

if TYPE_CHECKING:  # prometheus-client may not be installed
    from sockjs_aio.cluster.workers.metrics import MetricsPage

logger: logging.Logger = logging.getLogger("sockjs_aio.workers")

STEADY = 5.0
"""Seconds of service after which a worker's death no longer counts as a failed start."""

MAX_QUICK_DEATHS = 5
"""Deaths of one worker in a row, each before it has served for `STEADY` seconds, after which the
supervisor gives up, unless another worker is steady."""

BACKOFF = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a worker is started again, by the number of such deaths, or of attempts."""

NO_RESOURCES = (OSError, RuntimeError, MemoryError)
"""What is raised if there are no file descriptors, processes, memory, or, for asyncio, threads."""


class Supervisor:
    """Runs the workers.

    Args:
        config: What all workers are told.
        listeners: The sockets that clients connect to.
        manager: The service manager, which is told what happens.
        page: Where the metrics of all workers are, if anywhere.
    """

    def __init__(
        self,
        config: WorkerConfig,
        listeners: Listeners,
        manager: ServiceManager,
        page: "MetricsPage | None" = None,
    ) -> None:
        self._page = page
        self._manager = manager
        self._config = config
        self._listeners = listeners
        self._current: dict[int, Child] = {}
        self._retiring: set[Child] = set()
        self._reload = asyncio.Event()
        # held by the task that starts or replaces that worker
        self._changing = [asyncio.Lock() for _ in range(config.count)]
        self._sources = SourceWatch() if config.reports_sources else None
        # workers that could not start, and are started again when their code has changed
        self._waiting: set[int] = set()
        self._ending = Ending(config)
        self._failure: str | None = None

    async def run(self) -> int:
        """Serve until a signal, or until it gives up; return an exit status."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.ask, signal.Signals(number).name)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # see `Workers.run`
        if self._page is not None:
            await self._page.start()
        watching = _start_lasting(self._ending.watch, self._all, self._manager.beat)
        tasks = [_start_lasting(self._keep, n) for n in range(self._config.count)]
        tasks += [_start_lasting(self._reload_when_asked), _start_lasting(self._announce)]
        if self._sources is not None:
            tasks.append(_start_lasting(self._reload_when_changed, self._sources))
        await self._ending.is_asked.wait()
        self._manager.stopping(self._ending.limit(self._all()))
        await end(*tasks)
        if self._failure is not None:
            logger.error("%s", self._failure)
            self._kill_all()
        else:
            await self._ending.end_all(self._all())
        await asyncio.gather(*(child.ended() for child in self._all()))
        watching.cancel()
        if self._page is not None:
            await self._page.stop()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # see `Workers.run`, again
        return 1 if self._failure is not None or self._ending.has_killed else 0

    def _all(self) -> list[Child]:
        return [*self._current.values(), *self._retiring]

    def _kill_all(self) -> None:
        for child in self._all():
            child.kill()

    def _fail(self, why: str) -> None:
        self._failure = self._failure or why
        self._ending.is_asked.set()

    async def _announce(self) -> None:
        count = self._config.count
        while sum(child.is_ready for child in self._current.values()) < count:
            await asyncio.sleep(0.05)
        logger.info("%s", self._status)
        self._manager.ready(self._status)

    @property
    def _status(self) -> str:
        count, urls = self._config.count, ", ".join(self._listeners.urls)
        return f"{count} {'workers serve' if count > 1 else 'worker serves'} {urls}"

    # One worker.

    async def _start(self, number: int, *, replaces: bool, inherits: int | None = None) -> Child:
        config = dataclasses.replace(
            self._config,
            number=number,
            listeners=self._listeners.filenos(number),
            replaces=replaces,
            inherits=inherits,
        )
        child = await Child.start(config)
        if self._page is not None:
            self._page.add(child)
        return child

    async def _start_at_last(self, number: int) -> Child:
        """Start a worker; while this process has no resources for it, try again."""
        for attempt in itertools.count(1):
            try:
                return await self._start(number, replaces=False, inherits=self._former(number))
            except NO_RESOURCES as error:
                logger.error("worker %d cannot be started, trying again: %s", number, error)
            self._leave_out(number)
            await asyncio.sleep(BACKOFF[min(attempt, len(BACKOFF) - 1)])
        raise AssertionError

    def _former(self, number: int) -> int | None:
        """Return the process id of a worker that still drains, though its successor has died."""
        drain = (x for x in self._retiring if x.number == number and not x.has_ended)
        return next((child.process.pid for child in drain), None)

    async def _keep(self, number: int) -> None:
        """Start a worker, and start it again each time it dies."""
        quick_deaths = 0
        was_ready = False
        child: Child | None = None
        while True:
            async with self._changing[number]:
                if self._current.get(number) is child:  # otherwise a reload has replaced it
                    await asyncio.sleep(BACKOFF[min(quick_deaths, len(BACKOFF) - 1)])
                    was_ready = await self._bring_up(number) or was_ready
                    self._waiting.discard(number)
            child, status = await self._until_ended(number)
            quick_deaths = quick_deaths + 1 if child.seconds < STEADY else 0
            how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
            if child.error is not None and self._sources is not None and child.sources:
                logger.error("%s cannot start: %s\nwaiting for changes", child, child.error)
                self._waiting.add(number)
                await self._reload.wait()
                continue
            if child.error is not None and not was_ready:
                self._fail(f"worker {number} cannot start: {child.error}")
                return
            if quick_deaths >= MAX_QUICK_DEATHS and not self._is_another_steady(number):
                self._fail(
                    f"giving up: worker {number} died {quick_deaths} times in a row before it had "
                    f"served for {STEADY:g} s, the last time with {how}"
                )
                return
            if quick_deaths > 1:  # clients should not wait: it may not come back soon
                self._leave_out(number)
            why = how if child.error is None else child.error
            logger.warning("worker %d died (%s): starting it again", number, why)

    def _leave_out(self, number: int) -> None:
        """Let clients not wait for a worker, if its listeners can be made again."""
        try:
            self._listeners.leave_out(number)
        except OSError as error:
            logger.warning("clients may wait for worker %d: %s", number, error)

    def _is_another_steady(self, number: int) -> bool:
        others = (child for other, child in self._current.items() if other != number)
        return any(child.seconds >= STEADY and not child.has_ended for child in others)

    async def _bring_up(self, number: int) -> bool:
        """Start a worker; return whether it came to serve."""
        child = self._current[number] = await self._start_at_last(number)
        try:
            await child.hear("loaded", START_LIMIT)
            child.tell("publish")
            await child.hear("ready", START_LIMIT)
        except WorkerEndedError:
            if not child.has_ended:
                logger.error("%s was not ready within %g s: ending it", child, START_LIMIT)
            await child.end()  # usually it is just ending, with an exit status
            return False
        return True

    async def _until_ended(self, number: int) -> tuple[Child, int]:
        """Wait until a worker, or the successor of a reload, has died; return it and its status."""
        while True:
            child = self._current[number]
            # a successor may die while its predecessor, which has not ended yet, still drains
            ended = asyncio.create_task(child.ended())
            replaced = asyncio.create_task(child.was_replaced.wait())
            try:
                await asyncio.wait((ended, replaced), return_when=asyncio.FIRST_COMPLETED)
            finally:
                await end(ended, replaced)
            async with self._changing[number]:
                if self._current[number] is child:
                    return child, ended.result()

    # A reload.

    async def _reload_when_changed(self, sources: SourceWatch) -> None:
        def add_all() -> None:
            for child in self._all():
                sources.add(child.sources, child.started)

        while True:
            changed = await sources.until_changed(add_all)
            logger.info("%s changed", ", ".join(changed[:3]) + " ..." * (len(changed) > 3))
            self._reload.set()

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            numbers = set(range(self._config.count)) - self._waiting
            if numbers:
                logger.info("reloading, one worker at a time")
                self._manager.reloading()
                await self._reload_all(sorted(numbers))
                self._manager.ready(self._status)

    async def _reload_all(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            async with self._changing[number]:
                old = await self._replace(number)
            if old is None:
                logger.error("reload failed at worker %d: the old workers keep running", number)
                return
            await self._ending.retire(old)
            self._retiring.discard(old)
        logger.info("reload finished: all workers are new")

    async def _replace(self, number: int) -> Child | None:
        """Start a worker's successor; once it serves, return the old worker."""
        old = self._current[number]
        try:
            new = await self._start(number, replaces=True)
        except NO_RESOURCES as error:
            logger.error("worker %d cannot be started: %s", number, error)
            return None
        self._retiring.add(new)  # so that a shutdown meanwhile ends it too
        try:
            await new.hear("loaded", START_LIMIT)
            await self._have_succeeded(old)  # from here on it opens no sessions
            new.tell("publish")
            await new.hear("ready", START_LIMIT)
        except WorkerEndedError:
            new.kill()
            await new.ended()
            self._retiring.discard(new)
            if self._sources is not None:
                self._sources.add(new.sources, new.started)
            if new.error is not None:
                logger.error("%s cannot start: %s", new, new.error)
            old.tell("resume")
            return None
        except asyncio.CancelledError:
            if not new.was_told("publish"):
                new.kill()
            raise
        self._retiring.discard(new)
        self._current[number] = new
        old.was_replaced.set()
        self._retiring.add(old)
        return old

    async def _have_succeeded(self, old: Child) -> None:
        """Have a worker leave new sessions to its successor.

        There is no time limit: if it hangs, it answers in the end, or it is killed.
        """
        old.forget("succeeded")  # its answer in an earlier reload, which failed
        old.tell("succeed")
        with contextlib.suppress(WorkerEndedError):
            await old.hear("succeeded", None)


def _start_lasting(work: Callable[..., Coroutine[Any, Any, None]], *of: Any) -> asyncio.Task[None]:
    """Start a task; if it fails as nothing should, log that and do the work again."""

    async def last() -> None:
        while True:
            try:
                return await work(*of)
            except Exception:
                logger.exception("part of the supervisor failed; starting it again")
                await asyncio.sleep(BACKOFF[-1])

    return asyncio.create_task(last())
