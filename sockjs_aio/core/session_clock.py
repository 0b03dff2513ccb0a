"""Ticks sessions when a heartbeat, ping or expiry is due.  One task serves all sessions.

When a session's heartbeat or expiry is due is for `protocol/heartbeat.py` to say, and pings
are for `core/liveness.py`.

There is a slot for each tick, and a session is in the slot of its deadline or in an earlier one.
So the cost of a tick depends on how many sessions are due, not on how many exist.  A message moves
its session's deadline but not the session: that is looked at again at the old deadline.

The clock ticks when a slot is due, not one interval after the last tick: a session that just misses
a tick is in the slot of the next one, and so is due at most one interval late, not two.
"""

import asyncio
import contextvars
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Protocol

from sockjs_aio.turns import Turn

logger: logging.Logger = logging.getLogger("sockjs_aio.session")

CATCH_UP_TURNS = 20
"""Loop iterations that a request already in a socket buffer needs to reach its session."""

BLOCK = 0.1
"""Seconds; shorter delays are those of a busy machine, which may always have some."""


class Ticked(Protocol):
    """What the clock needs of a session."""

    due_slot: "Slot | None"

    def deadline(self) -> float:
        """Return the time at which `tick` has something to do, or infinity."""
        ...

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""


class Slot(set[Ticked]):
    """The sessions that are due at tick `number`."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number: int = number


class Clock:
    """Ticks the sessions that are armed.

    Args:
        interval: Seconds between two ticks.
        now: Returns the time on the event loop's clock.
        stopped: Called if something other than `stop` cancels the clock's task.
        was_blocked: Awaited with the number of seconds for which the event loop was blocked.
    """

    __slots__ = (
        "lag",
        "_interval",
        "_now",
        "_stopped",
        "_was_blocked",
        "_origin",
        "_slots",
        "_current_slot",
        "_task",
    )

    def __init__(
        self,
        interval: float,
        now: Callable[[], float],
        stopped: Callable[[], None],
        was_blocked: Callable[[float], Awaitable[None]],
    ) -> None:
        self.lag: float = 0.0
        """Seconds by which the last tick came too late."""
        self._interval = interval
        self._now = now
        self._stopped = stopped
        self._was_blocked = was_blocked
        self._origin = 0.0  # when slot 0 is due
        self._slots: dict[int, Slot] = {}
        self._current_slot = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to tick, before a session is armed; if the clock ticks already, do nothing."""
        if self._task is None or self._task.done():  # the application may cancel any task
            loop = asyncio.get_running_loop()
            if not self._slots:  # not at full seconds, when all processes of a host would tick
                self._origin = self._now()
            # or of what was due while no task ran
            self._current_slot = min([self._last_due(self._now()), *self._slots])
            # in an empty context, not that of the request which happens to start it
            self._task = contextvars.Context().run(loop.create_task, self._run())

    def stop(self) -> None:
        """Stop ticking."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def arm(self, session: Ticked) -> None:
        """Tick `session` at its deadline, or earlier."""
        deadline = session.deadline()
        if deadline == math.inf:
            return
        number = max(math.ceil((deadline - self._origin) / self._interval), self._current_slot)
        if session.due_slot is not None and session.due_slot.number <= number:
            return
        if session.due_slot is not None:
            self.disarm(session)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = Slot(number)
        slot.add(session)
        session.due_slot = slot

    def disarm(self, session: Ticked) -> None:
        """Stop ticking `session`."""
        slot, session.due_slot = session.due_slot, None
        if slot is not None:
            slot.discard(session)
            if not slot:
                self._slots.pop(slot.number, None)

    def steps(self, now: float, least: int = 0) -> Iterator[None]:
        """Tick the sessions due at `now`, one in each step, so that other tasks can run between.

        Args:
            now: The time.
            least: A slot that is due, although it may not seem so because times are rounded.
        """
        first, last = self._current_slot, max(self._last_due(now), least)
        self._current_slot = last + 1  # what is armed from now on must go into a later slot
        numbers: Iterable[int] = range(first, last + 1)
        if last - first > len(self._slots):  # millions, if the interval is tiny
            numbers = sorted(number for number in self._slots if number <= last)
        for number in numbers:
            slot = self._slots.get(number)
            while slot:  # a tick may arm or forget other sessions
                session = slot.pop()
                session.due_slot = None
                try:
                    session.tick(now)
                except Exception:
                    logger.exception("session %s: tick failed", session)
                self.arm(session)
                yield
            self._slots.pop(number, None)

    async def tick(self, now: float, least: int = 0) -> None:
        """Tick those that are due at `now`; let others run every few milliseconds."""
        turn = Turn()
        for _ in self.steps(now, least):
            if turn.is_over:
                await turn.next()

    def _last_due(self, now: float) -> int:
        return math.floor((now - self._origin) / self._interval)

    async def _run(self) -> None:
        try:
            while True:
                number = max(self._last_due(self._now()) + 1, self._current_slot)
                due = self._origin + number * self._interval
                await asyncio.sleep(due - self._now())
                await self._catch_up(due)
                # a timer may be a little early
                await self.tick(max(self._now(), due), number)
        except asyncio.CancelledError:
            if self._task is asyncio.current_task():  # the loop ends without a shutdown
                self._stopped()
            raise

    async def _catch_up(self, due: float) -> None:
        """Read what came while the loop was blocked, because that delay is not the clients' fault.

        Polls and pongs that came in time wait in socket buffers.  They need a few turns of the
        loop, and time for the application's middlewares.  Clients whose sends were not answered
        need time to poll.

        Args:
            due: When this would have been called if nothing had blocked the loop.
        """
        self.lag = max(self._now() - due, 0.0)
        end = self._now() + (self._interval if await self._is_late(due) else 0)
        for turns in range(CATCH_UP_TURNS, 0, -1):
            # each by itself: on a busy machine all turns are late, and yet nothing is blocked
            due = self._now() + max(end - self._now(), 0) / turns
            await asyncio.sleep(due - self._now())
            await self._is_late(due)

    async def _is_late(self, due: float) -> bool:
        late = self._now() - due
        if late > max(self._interval / 4, BLOCK):
            await self._was_blocked(late)
        return late > self._interval / 4
