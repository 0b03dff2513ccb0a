"""Has sessions look after themselves when something is due; one task for all of them.

What is due is found in slots, one for each tick: a session stands in the slot of its deadline or of
an earlier one.  So a tick costs what is due and not what exists, and a session that is written to
all the time is not moved: it is asked again at the old deadline.
"""

import asyncio
import contextvars
import logging
import math
from collections.abc import Callable, Iterator
from typing import Protocol

from sockjs_aio.turns import Turn

logger = logging.getLogger("sockjs_aio")

CATCH_UP_TURNS = 20
"""Loop iterations that a request already in a socket buffer needs to reach its session."""


class Ticked(Protocol):
    """What the clock ticks: a session."""

    due_slot: "Slot | None"

    def deadline(self) -> float:
        """Return the time at which `tick` has something to do; infinity if there is none."""
        ...

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""


class Slot(set[Ticked]):
    """Those that are due at tick `number`."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Clock:
    """Ticks what is armed.

    Args:
        interval: Seconds between two ticks.
        stopped: Called when the event loop cancels the clock's task, which nobody here has done.
    """

    __slots__ = ("_interval", "_stopped", "_slots", "_current_slot", "_task")

    def __init__(self, interval: float, stopped: Callable[[], None]) -> None:
        self._interval = interval
        self._stopped = stopped
        self._slots: dict[int, Slot] = {}
        self._current_slot = 0
        self._task: asyncio.Task[None] | None = None

    def start(self, now: float) -> None:
        """Begin to tick, at the time `now`; if it ticks already, do nothing."""
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._current_slot = math.floor(now / self._interval)
            # in a context of its own: it belongs to no one request
            self._task = contextvars.Context().run(loop.create_task, self._run())

    def stop(self) -> None:
        """Tick no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def arm(self, session: Ticked) -> None:
        """Have `session` ticked at its deadline, or earlier."""
        deadline = session.deadline()
        if deadline == math.inf:
            return
        number = max(math.ceil(deadline / self._interval), self._current_slot)
        if session.due_slot is not None and session.due_slot.number <= number:
            return
        self.disarm(session)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = Slot(number)
        slot.add(session)
        session.due_slot = slot

    def disarm(self, session: Ticked) -> None:
        """Do not tick `session` any more."""
        slot, session.due_slot = session.due_slot, None
        if slot is not None:
            slot.discard(session)
            if not slot:
                self._slots.pop(slot.number, None)

    def steps(self, now: float) -> Iterator[None]:
        """Tick those that are due at `now`, one at each step, so that others can run in between."""
        first, last = self._current_slot, math.floor(now / self._interval)
        self._current_slot = last + 1  # whatever is armed from here on must not get behind us
        for number in range(first, last + 1):
            slot = self._slots.get(number)
            while slot:  # a tick may have other sessions armed or forgotten
                session = slot.pop()
                session.due_slot = None
                try:
                    session.tick(now)
                except Exception:
                    logger.exception("session %s: its tick failed", session)
                self.arm(session)
                yield
            self._slots.pop(number, None)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                due = loop.time() + self._interval
                await asyncio.sleep(self._interval)
                is_late = loop.time() > due + self._interval / 4
                await self._catch_up(self._interval if is_late else 0)
                turn = Turn()
                for _ in self.steps(loop.time()):
                    if turn.is_over:
                        await turn.next()
        except asyncio.CancelledError:
            if self._task is asyncio.current_task():  # the loop ends, without a shutdown before
                self._stopped()
            raise

    async def _catch_up(self, seconds: float) -> None:
        """Take in what came while something held up the loop: the delay is ours.

        Polls and pongs that have come in time wait in sockets.  They take some turns of the loop,
        and an application's middlewares their time.
        """
        for _ in range(CATCH_UP_TURNS):
            await asyncio.sleep(seconds / CATCH_UP_TURNS)
