"""Starts the workers of one host, restarts those that die, reloads and ends them in order."""

import asyncio
import logging
import shutil
import signal
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from sockjs_aio.running import Drain, check_no_loop
from sockjs_aio.workers.child import START_LIMIT, Child, WorkerEnded
from sockjs_aio.workers.listeners import Listeners
from sockjs_aio.workers.order import Order
from sockjs_aio.workers.places import new_key
from sockjs_aio.workers.target import split
from sockjs_aio.workers.worker import FAILED, SHUTDOWN_TIMEOUT

logger = logging.getLogger("sockjs_aio")

STEADY = 5.0
"""Seconds of service after which a worker's end is an accident, and not how it always ends."""

MAX_QUICK_DEATHS = 5
"""Ends of one worker in a row, each before it has served for `STEADY` seconds, that end it all."""

BACKOFF = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Seconds before a worker is started again, by how many such ends there were in a row."""

GRACE = 3.0
"""Seconds, beyond what a worker may take to end, before it is killed."""


@dataclass(frozen=True)
class Workers:
    """Several processes that serve one application on one port.

    A session belongs to the worker that its id hashes to; a request that comes in at another one is
    handed on, whatever the load balancer does.  Not on Windows.

    Args:
        count: How many processes.
        notice: Seconds for load balancers to notice the end, before sessions are closed.
        over: Seconds over which the sessions of a process are closed.
        limit: Seconds after which a process ends, whoever is left.
        access_log: Whether requests are logged.

    Raises:
        ValueError: If there is less than one, or a time is below 0.
    """

    count: int
    notice: float = Drain.notice
    over: float = Drain.over
    limit: float = Drain.limit
    access_log: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.count, int) and self.count >= 1):
            raise ValueError(f"Workers({self.count!r}) cannot be: a whole number above 0")
        Drain(self.notice, self.over, self.limit)

    def run(self, target: str, *, host: str = "127.0.0.1", port: int = 8080) -> int:
        """Serve until SIGTERM or SIGINT; SIGHUP reloads the code, one process at a time.

        Args:
            target: ``"package.module:name"`` of an aiohttp application, or of a function, plain or
                not, that returns one; each process imports it.
            host: Address to listen at.
            port: Port to listen at; 0 for any.

        Returns:
            An exit status: 1 if the processes cannot be kept running.

        Raises:
            TargetError: If `target` has another form.
            OSError: If the address cannot be listened at.
            ValueError: If `port` is none.
            RuntimeError: If it is called while an event loop runs.
        """
        check_no_loop("Workers.run")
        split(target)
        directory = tempfile.mkdtemp(prefix="sockjs-aio-")  # for this user alone
        try:
            with Listeners(host, port, self.count) as listeners:
                return asyncio.run(Supervisor(self, target, listeners, directory).run())
        finally:
            shutil.rmtree(directory, ignore_errors=True)


class Supervisor:
    """Keeps the workers."""

    def __init__(self, workers: Workers, target: str, listeners: Listeners, directory: str) -> None:
        self._workers = workers
        self._target = target
        self._listeners = listeners
        self._directory = directory
        self._key = new_key().hex()
        self._current: dict[int, Child] = {}
        self._retiring: set[Child] = set()
        self._reload = asyncio.Event()
        # held while a worker is started or replaced, by one task at a time
        self._changing = [asyncio.Lock() for _ in range(workers.count)]
        self._ending = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failure: str | None = None

    async def run(self) -> int:
        """Serve until the end; return an exit status."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_end)
        keepers = [asyncio.create_task(self._keep(n)) for n in range(self._workers.count)]
        reloader = asyncio.create_task(self._reload_when_asked())
        announcer = asyncio.create_task(self._announce())
        await self._ending.wait()
        for task in (*keepers, reloader, announcer):
            task.cancel()
        await asyncio.gather(*keepers, reloader, announcer, return_exceptions=True)
        if self._failure is not None:
            logger.error("%s", self._failure)
            self._kill_all()
        else:
            await self._drain()
        await asyncio.gather(*(child.ended() for child in self._all()))
        return 0 if self._failure is None else 1

    def _all(self) -> list[Child]:
        return [*self._current.values(), *self._retiring]

    def _kill_all(self) -> None:
        for child in self._all():
            child.kill()

    def _ask_end(self) -> None:
        if self._ending.is_set():
            self._hurry.set()
        self._ending.set()

    def _fail(self, why: str) -> None:
        self._failure = self._failure or why
        self._ending.set()

    async def _announce(self) -> None:
        while len(self._current) < self._workers.count:
            await asyncio.sleep(0.05)
        await asyncio.gather(*(c.hear("ready", START_LIMIT) for c in self._current.values()))
        logger.info("%d workers serve %s", self._workers.count, self._listeners.url)

    # One worker.

    async def _start(self, number: int, *, replaces: bool) -> Child:
        workers = self._workers
        order = Order(
            target=self._target,
            number=number,
            count=workers.count,
            directory=self._directory,
            key=self._key,
            listener=self._listeners.fileno(number),
            replaces=replaces,
            notice=workers.notice,
            over=workers.over,
            limit=workers.limit,
            access_log=workers.access_log,
        )
        return await Child.start(order)

    async def _keep(self, number: int) -> None:
        """Start a worker, and start it again whenever it has ended."""
        quick_deaths = 0
        was_ready = False
        child: Child | None = None
        while True:
            async with self._changing[number]:
                if self._current.get(number) is child:  # no reload has replaced it meanwhile
                    await asyncio.sleep(BACKOFF[quick_deaths])
                    was_ready = await self._bring_up(number) or was_ready
            child, status = await self._until_ended(number)
            quick_deaths = quick_deaths + 1 if child.seconds < STEADY else 0
            how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
            if status == FAILED and not was_ready:
                self._fail(f"worker {number} cannot start: see above")
                return
            if quick_deaths >= MAX_QUICK_DEATHS:
                self._fail(
                    f"worker {number} has ended {quick_deaths} times in a row before it had served "
                    f"for {STEADY:g} seconds, at last with {how}: that is given up"
                )
                return
            logger.warning("worker %d has ended (%s): it is started again", number, how)

    async def _bring_up(self, number: int) -> bool:
        """Start a worker; return whether it serves."""
        child = self._current[number] = await self._start(number, replaces=False)
        try:
            await child.hear("loaded", START_LIMIT)
            child.tell("publish")
            await child.hear("ready", START_LIMIT)
        except WorkerEnded:
            await child.end(GRACE)  # as a rule it just does, with a status of its own
            return False
        return True

    async def _until_ended(self, number: int) -> tuple[Child, int]:
        """Wait until whoever is this worker at the time has ended, and was not meant to."""
        while True:
            child = self._current[number]
            status = await child.ended()
            async with self._changing[number]:
                if self._current[number] is child:
                    return child, status

    # All of them.

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            logger.info("reloading, one worker at a time")
            for number in range(self._workers.count):
                async with self._changing[number]:
                    old = await self._replace(number)
                if old is None:
                    logger.error("worker %d cannot start anew: the old ones go on", number)
                    break
                await self._retire(old)
            else:
                logger.info("all workers are new")

    async def _replace(self, number: int) -> Child | None:
        """Start a worker's successor; return the worker once that serves."""
        old = self._current[number]
        new = await self._start(number, replaces=True)
        self._retiring.add(new)  # which is where the end finds it, if that comes first
        try:
            await new.hear("loaded", START_LIMIT)
            await self._have_succeeded(old)  # from here on it has no new sessions
            new.tell("publish")
            await new.hear("ready", START_LIMIT)
        except WorkerEnded:
            new.kill()
            await new.ended()
            self._retiring.discard(new)
            old.tell("resume")
            return None
        except asyncio.CancelledError:
            if not new.was_told("publish"):
                new.kill()
            raise
        self._retiring.discard(new)
        self._current[number] = new
        self._retiring.add(old)
        return old

    async def _have_succeeded(self, old: Child) -> None:
        """Have a worker leave new sessions to its successor; one that has died has none."""
        old.forget("succeeded")  # of a successor that has not come to serve
        old.tell("succeed")
        try:
            await old.hear("succeeded", GRACE)
        except WorkerEnded:
            if not old.has_ended:
                raise

    async def _retire(self, old: Child) -> None:
        """End a worker that has a successor."""
        old.tell("retire")
        await self._await_drained([old])
        await old.end(SHUTDOWN_TIMEOUT + GRACE)
        self._retiring.discard(old)

    async def _drain(self) -> None:
        """End all: each keeps its listener until no session of any is left."""
        logger.info("ending: readiness is off")
        children = self._all()
        for child in children:
            child.tell("notice")
        await self._unless_hurried(asyncio.sleep(self._workers.notice))
        for child in children:
            child.tell("drain")
        await self._unless_hurried(self._await_drained(children))
        await asyncio.gather(*(child.end(SHUTDOWN_TIMEOUT + GRACE) for child in children))

    async def _unless_hurried(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Wait for something, unless a second signal says not to."""
        tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(self._hurry.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()

    async def _await_drained(self, children: list[Child]) -> None:
        limit = self._workers.limit + GRACE
        await asyncio.gather(
            *(child.hear("drained", limit) for child in children), return_exceptions=True
        )
