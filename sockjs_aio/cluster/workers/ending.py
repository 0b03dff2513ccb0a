"""Ends workers, all of them or those that a reload has replaced, and kills those that hang."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from sockjs_aio.cluster.workers.child import START_LIMIT, Child, WorkerEndedError
from sockjs_aio.cluster.workers.control import BEAT, GRACE
from sockjs_aio.cluster.workers.worker_config import WorkerConfig

logger: logging.Logger = logging.getLogger("sockjs_aio.workers")

NOTICED = 5.0
"""Seconds without a report from a worker after which a warning is logged."""


class Ending:
    """How workers end.

    Args:
        config: What all workers are told.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self.is_asked: asyncio.Event = asyncio.Event()
        """Set when all workers must end."""
        self.has_killed: bool = False
        """Whether a worker with sessions had to be killed since then."""
        self._config = config
        self._hurry = asyncio.Event()

    def ask(self, name: str) -> None:
        """Have all workers end, because of the signal `name`; the second one is impatient."""
        if self.is_asked.is_set():
            logger.warning("%s again: shutting down without waiting for clients", name)
            self._hurry.set()
        else:
            logger.info("%s: shutting down", name)
            self.is_asked.set()

    def limit(self, children: Iterable[Child]) -> float:
        """Return the seconds within which workers will have ended."""
        longest = max((child.end_limit for child in children), default=0)
        return self._config.drain.limit + longest + 3 * GRACE

    async def end_all(self, children: list[Child]) -> None:
        """End all workers.  Each keeps listening until the clients of all have been told."""
        start = asyncio.get_running_loop().time()
        serving = [child for child in children if _has_sessions(child)]
        others = [child for child in children if child not in serving]
        leaving = [asyncio.create_task(self.end(child)) for child in others]
        if serving:
            await self._drain(serving)
        await asyncio.gather(*(self.end(child) for child in serving), *leaving)
        logger.info(
            "all workers have ended after %.1f s", asyncio.get_running_loop().time() - start
        )

    async def retire(self, old: Child) -> None:
        """Drain and end a worker that has a successor."""
        old.tell("retire")
        await self._await_drained([old])
        await self.end(old)

    async def end(self, child: Child) -> None:
        """End a worker after its drain."""
        if (
            child.silence >= GRACE and child.process.returncode is None
        ):  # it hangs, and would not read the command
            self._abort(child)
        if not await child.end() and not child.was_aborted:
            logger.error("%s did not end within %g s, so it was killed", child, child.end_limit)
            self._note_killed(child)

    async def watch(self, children: Callable[[], list[Child]], beat: Callable[[], None]) -> None:
        """Kill workers whose event loops are blocked; call `beat` each time that it looks."""
        while True:
            await asyncio.sleep(BEAT)
            beat()
            for child in children():
                if child.process.returncode is None:
                    child.count_silence()
                    self._check(child)

    def _check(self, child: Child) -> None:
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
        if self.is_asked.is_set() and (self._hurry.is_set() or not _has_sessions(child)):
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
        self.has_killed = self.has_killed or (self.is_asked.is_set() and _has_sessions(child))

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
