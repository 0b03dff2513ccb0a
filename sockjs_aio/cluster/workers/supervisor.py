"""Starts the workers of one host, restarts those that die or hang, reloads and ends them in turn.

It kills a worker in two cases only: the worker's event loop is blocked for too long, or the worker
takes longer to end than its application's settings allow.  Both are logged as errors.
"""

import asyncio
import contextlib
import dataclasses
import logging
import signal
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from sockjs_aio.cluster.workers.child import START_LIMIT, Child, WorkerEndedError
from sockjs_aio.cluster.workers.control import BEAT, GRACE
from sockjs_aio.cluster.workers.listeners import Listeners
from sockjs_aio.cluster.workers.worker import FAILED
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
"""Seconds before a worker is started again, by the number of such deaths in a row."""

NOTICED = 5.0
"""Seconds without a report from a worker after which a warning is logged."""


class Supervisor:
    """Runs the workers.

    Args:
        config: What all workers are told.
        listeners: The sockets that clients connect to.
        page: Where the metrics of all workers are, if anywhere.
    """

    def __init__(
        self, config: WorkerConfig, listeners: Listeners, page: "MetricsPage | None" = None
    ) -> None:
        self._page = page
        self._config = config
        self._listeners = listeners
        self._current: dict[int, Child] = {}
        self._retiring: set[Child] = set()
        self._reload = asyncio.Event()
        # held by the task that starts or replaces that worker
        self._changing = [asyncio.Lock() for _ in range(config.count)]
        self._ending = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failure: str | None = None
        self._has_killed = False

    async def run(self) -> int:
        """Serve until a signal, or until it gives up; return an exit status."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_end, signal.Signals(number).name)
        if self._page is not None:
            await self._page.start()
        watching = asyncio.create_task(self._watch())
        tasks = [asyncio.create_task(self._keep(n)) for n in range(self._config.count)]
        tasks += [
            asyncio.create_task(self._reload_when_asked()),
            asyncio.create_task(self._announce()),
        ]
        await self._ending.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._failure is not None:
            logger.error("%s", self._failure)
            self._kill_all()
        else:
            await self._end_all()
        await asyncio.gather(*(child.ended() for child in self._all()))
        watching.cancel()
        if self._page is not None:
            await self._page.stop()
        return 1 if self._failure is not None or self._has_killed else 0

    def _all(self) -> list[Child]:
        return [*self._current.values(), *self._retiring]

    def _kill_all(self) -> None:
        for child in self._all():
            child.kill()

    def _ask_end(self, name: str) -> None:
        if self._ending.is_set():
            logger.warning("%s again: shutting down without waiting for clients", name)
            self._hurry.set()
        else:
            logger.info("%s: shutting down", name)
            self._ending.set()

    def _fail(self, why: str) -> None:
        self._failure = self._failure or why
        self._ending.set()

    async def _announce(self) -> None:
        count = self._config.count
        while sum(child.is_ready for child in self._current.values()) < count:
            await asyncio.sleep(0.05)
        urls = ", ".join(self._listeners.urls)
        logger.info("%d %s %s", count, "workers serve" if count > 1 else "worker serves", urls)

    async def _watch(self) -> None:
        """Kill workers whose event loops are blocked."""
        while True:
            await asyncio.sleep(BEAT)
            for child in self._all():
                if child.process.returncode is not None:
                    continue
                child.count_silence()
                if child.silence >= self._patience(child):
                    self._abort(child)
                elif child.is_ready and child.silence == NOTICED:
                    logger.warning(
                        "%s has not reported for %g s: something blocks its event loop; after "
                        "%g s it is killed",
                        child,
                        NOTICED,
                        self._config.hang_limit,
                    )

    def _patience(self, child: Child) -> float:
        """Return for how long the event loop of a worker may be blocked."""
        if self._ending.is_set() and (self._hurry.is_set() or not _has_sessions(child)):
            return GRACE
        return self._config.hang_limit if child.is_ready else START_LIMIT

    def _abort(self, child: Child) -> None:
        if child.was_aborted:
            pass
        elif _has_sessions(child):
            logger.error("%s has not reported for %g s: killing it", child, child.silence)
            self._note_killed(child)
        else:
            logger.warning("%s has not started within %g s: killing it", child, child.silence)
        child.abort()

    def _note_killed(self, child: Child) -> None:
        self._has_killed = self._has_killed or (self._ending.is_set() and _has_sessions(child))

    # One worker.

    async def _start(self, number: int, *, replaces: bool) -> Child:
        config = dataclasses.replace(
            self._config,
            number=number,
            listeners=self._listeners.filenos(number),
            replaces=replaces,
        )
        child = await Child.start(config)
        if self._page is not None:
            self._page.add(child)
        return child

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
            child, status = await self._until_ended(number)
            quick_deaths = quick_deaths + 1 if child.seconds < STEADY else 0
            how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
            if status == FAILED and not was_ready:
                self._fail(f"worker {number} cannot start: {child.error}")
                return
            if quick_deaths >= MAX_QUICK_DEATHS and not self._is_another_steady(number):
                self._fail(
                    f"giving up: worker {number} died {quick_deaths} times in a row before it had "
                    f"served for {STEADY:g} s, the last time with {how}"
                )
                return
            if quick_deaths > 1:  # clients should not wait: it may not come back soon
                self._listeners.leave_out(number)
            why = how if child.error is None else child.error
            logger.warning("worker %d died (%s): starting it again", number, why)

    def _is_another_steady(self, number: int) -> bool:
        others = (child for other, child in self._current.items() if other != number)
        return any(child.seconds >= STEADY and not child.has_ended for child in others)

    async def _bring_up(self, number: int) -> bool:
        """Start a worker; return whether it came to serve."""
        child = self._current[number] = await self._start(number, replaces=False)
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
            status = await child.ended()
            async with self._changing[number]:
                if self._current[number] is child:
                    return child, status

    # A reload.

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            logger.info("reloading, one worker at a time")
            for number in range(self._config.count):
                async with self._changing[number]:
                    old = await self._replace(number)
                if old is None:
                    logger.error("reload failed at worker %d: the old workers keep running", number)
                    break
                await self._retire(old)
            else:
                logger.info("reload finished: all workers are new")

    async def _replace(self, number: int) -> Child | None:
        """Start a worker's successor; once it serves, return the old worker."""
        old = self._current[number]
        new = await self._start(number, replaces=True)
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

    async def _retire(self, old: Child) -> None:
        """Drain and end a worker that has a successor."""
        old.tell("retire")
        await self._await_drained([old])
        await self._end(old)
        self._retiring.discard(old)

    # The end.

    async def _end_all(self) -> None:
        """End all workers.  Each keeps listening until the clients of all have been told."""
        start = asyncio.get_running_loop().time()
        children = [child for child in self._all() if _has_sessions(child)]
        others = [child for child in self._all() if child not in children]
        leaving = [asyncio.create_task(self._end(child)) for child in others]
        if children:
            await self._drain(children)
        await asyncio.gather(*(self._end(child) for child in children), *leaving)
        logger.info(
            "all workers have ended after %.1f s", asyncio.get_running_loop().time() - start
        )

    async def _drain(self, children: list[Child]) -> None:
        config = self._config
        logger.info(
            "drain: readiness is off; closing sessions in %g s, spread over %g s (limit: %g s)",
            config.drain.notice,
            config.drain.over,
            config.drain.limit,
        )
        for child in children:
            child.tell("notice")
        await self._unless_hurried(asyncio.sleep(min(config.drain.notice, config.drain.limit)))
        for child in children:
            child.tell("drain")
        await self._unless_hurried(self._await_drained(children))

    async def _end(self, child: Child) -> None:
        """End a worker after its drain."""
        if (
            child.silence >= GRACE and child.process.returncode is None
        ):  # it hangs, and would not read the command
            self._abort(child)
        if not await child.end() and not child.was_aborted:
            logger.error("%s did not end within %g s, so it was killed", child, child.end_limit)
            self._note_killed(child)

    async def _unless_hurried(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Wait for something, or for a second signal."""
        tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(self._hurry.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()

    async def _await_drained(self, children: Iterable[Child]) -> None:
        await asyncio.gather(*map(self._await_one_drained, children))

    async def _await_one_drained(self, child: Child) -> None:
        drain = self._config.drain
        # it may be a moment late if its event loop runs
        for limit in (max(drain.limit - drain.notice, 0), GRACE):
            try:
                return await child.hear("drained", limit)
            except WorkerEndedError:
                if child.has_ended or child.silence >= GRACE:
                    return


def _has_sessions(child: Child) -> bool:
    return child.is_ready or child.was_told("publish")
