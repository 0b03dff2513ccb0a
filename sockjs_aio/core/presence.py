"""Tells the application who has come to a channel and who has left, in any process.

It does not pass on events: it compares states.  What makes it look is a hint, which a process sends
when its own members have changed; it then asks the broker who is there, and tells the application
the difference to what it told before.  So a hint may be lost, come twice or be overtaken, and
processes that die, and brokers that lose their data, need no code of their own.

One task per router does this, in rounds, for all channels that a session watches.
"""

import asyncio
import contextlib
import contextvars
import heapq
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import TypeAlias

import async_timeout

from sockjs_aio.brokers.base import Broker
from sockjs_aio.connection import Session
from sockjs_aio.core.process_exit import exit_soon
from sockjs_aio.errors import BrokerUnavailableError
from sockjs_aio.protocol.framing import PreparedMessage

logger: logging.Logger = logging.getLogger("sockjs_aio.hooks")

OnPresence: TypeAlias = Callable[[str, list[str], list[str]], Awaitable[object]]
"""Awaited with a channel, the members who have joined, and those who have left."""

ROUND = 0.25
"""Seconds between two rounds: what happens meanwhile is told in one call."""

RETRY = 1.0
"""Seconds until the broker is asked again if it could not answer."""

QUIET = 60.0
"""Seconds between two lines in the log about a broker that refuses to answer."""

LAST_GRACE = 1.0
"""Seconds that calls get to end at a shutdown, after they were cancelled."""

CHUNK = 100
"""How many channels to look at together."""


class Roster:
    """One channel: who is there, and who was told."""

    __slots__ = ("watchers", "remote", "told", "leaving", "is_heard", "has_news", "ends", "awaited")

    def __init__(self) -> None:
        self.watchers: set[Session] = set()
        self.remote: set[str] = set()  # the members in other processes, as last heard of
        self.told: set[str] = set()
        self.leaving: dict[str, float] = {}  # who of `told` is absent, and until when they linger
        self.is_heard: bool = False  # whether hints of other processes come in
        self.has_news: bool = False  # whether other processes must be given a hint
        self.ends: float | None = None  # if nobody watches it any more, when to forget it
        self.awaited: float | None = None  # when to look at it: someone may have left by then

    def compare(self, present: set[str], now: float, linger: float) -> tuple[list[str], list[str]]:
        """Return who has joined and who has left, and count them as told."""
        absent = self.told - present
        for member in self.leaving.keys() - absent:
            del self.leaving[member]
        for member in absent - self.leaving.keys():
            self.leaving[member] = now + linger
        joined = sorted(present - self.told)
        left = sorted(member for member, until in self.leaving.items() if until <= now)
        self.told.update(joined)
        for member in left:
            self.told.remove(member)
            del self.leaving[member]
        return joined, left

    @property
    def next_leave(self) -> float | None:
        """When the first lingering member counts as left, or this is to be forgotten."""
        leave = next(iter(self.leaving.values()), None)
        return leave if self.ends is None else self.ends if leave is None else min(leave, self.ends)


class Presence:
    """Watches channels for one router, while any of its sessions asks for that.

    Args:
        broker: Knows the members.
        on_presence: Awaited when they have changed, one call at a time for each channel.
        linger: Seconds for which a member that has left counts as present.
    """

    def __init__(self, broker: Broker, on_presence: OnPresence, linger: float) -> None:
        self._broker = broker
        self._on_presence = on_presence
        self._linger = linger
        self._rosters: dict[str, Roster] = {}
        # the calls that run, and what to look at when they have ended
        self._calls: dict[str, asyncio.Task[None]] = {}
        self._put_off: set[str] = set()
        # channels to look at: now, and at a time; a heap with each channel once
        self._stale: set[str] = set()
        self._later: list[tuple[float, str]] = []
        self._next_check: float | None = None
        self._retry_at: float | None = None
        self._unanswered: set[str] = set()
        self._quiet_until = 0.0
        self._woken = asyncio.Event()  # something is stale
        self._task: asyncio.Task[None] | None = None
        self._is_over = False

    def watch(self, session: Session, channel: str) -> None:
        """Tell about `channel`, because `session` asks for that.  A second call does nothing."""
        roster = self._rosters.get(channel)
        if roster is None:
            roster = self._rosters[channel] = Roster()
            roster.has_news = bool(self._broker.local_members(channel))
            self._broker.local.watch(channel, self)
            self._broker.subscribe(hints_of(channel), self)
            self._look_at(channel)
        roster.watchers.add(session)
        roster.ends = None

    def unwatch(self, session: Session, channel: str) -> None:
        """`session` has left `channel`.  After the last one, tell for `linger` seconds more."""
        roster = self._rosters.get(channel)
        if roster is not None and session in roster.watchers:
            roster.watchers.remove(session)
            if not roster.watchers:
                self._look_at(channel)

    def told(self, channel: str) -> Collection[str]:
        """Who is in `channel`, as far as the application was told."""
        roster = self._rosters.get(channel)
        return () if roster is None else roster.told

    def members_changed(self, channel: str) -> None:
        """Members of this process have joined or left `channel`."""
        self._rosters[channel].has_news = True
        self._look_at(channel)

    def deliver(
        self, channel: str, message: PreparedMessage, exclude: Collection[Session] = ()
    ) -> None:
        """Another process has sent a hint."""
        self._look_at(channel[1:])

    def gap_began(self) -> None:
        """Hints may be missed now: look again, and if the broker is away, until it is back."""
        for channel in self._rosters:
            self._look_at(channel)

    def gap_ended(self, channel: str) -> None:
        """Hints may have been missed, or were dropped where they came from; now they arrive."""
        self._look_at(channel[1:])

    async def stop(self) -> None:
        """Tell other processes what they do not know yet, and end."""
        self._is_over = True  # hints of other processes may still come
        tasks = [*self._calls.values(), *([self._task] if self._task else ())]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_GRACE)
        news = [(name, roster) for name, roster in self._rosters.items() if roster.has_news]
        for start in range(0, len(news), CHUNK):
            hints = (self._send_hint(*item) for item in news[start : start + CHUNK])
            await asyncio.gather(*hints, return_exceptions=True)
        for channel in list(self._rosters):
            self._forget(channel)

    # The rounds.

    def _look_at(self, channel: str) -> None:
        if self._is_over:
            return
        self._stale.add(channel)
        if self._task is None or self._task.done():
            self._woken = asyncio.Event()
            # in an empty context, not that of the session that happens to start it
            create_task = asyncio.get_running_loop().create_task
            self._task = contextvars.Context().run(create_task, self._run())
        self._woken.set()

    async def _run(self) -> None:
        await asyncio.sleep(0)  # an eager task (Python 3.12): the code that made it goes first
        self._next_check = self._check_time()
        while self._rosters:
            channels = list(self._stale)
            self._stale.clear()
            self._woken.clear()
            for start in range(0, len(channels), CHUNK):
                await asyncio.gather(*map(self._look, channels[start : start + CHUNK]))
            await asyncio.sleep(ROUND)
            if self._rosters:
                await self._until_due()

    async def _until_due(self) -> None:
        times = [self._later[0][0] if self._later else None, self._next_check, self._retry_at]
        due = min((time for time in times if time is not None), default=None)
        if due is None:
            await self._woken.wait()
        else:
            with contextlib.suppress(asyncio.TimeoutError):
                async with async_timeout.timeout_at(due):
                    await self._woken.wait()
        now = _now()
        while self._later and self._later[0][0] <= now:
            time, channel = heapq.heappop(self._later)
            roster = self._rosters.get(channel)
            if roster is not None and roster.awaited == time:  # or else it was watched again
                roster.awaited = None
                self._stale.add(channel)
        if self._retry_at is not None and self._retry_at <= now:
            self._retry()
        if self._next_check is not None and self._next_check <= now:
            self._next_check = self._check_time()
            self._stale.update(self._rosters)  # processes that die send no hints

    def _retry(self) -> None:
        if self._broker.state == "reconnecting":
            self._retry_at = _now() + RETRY
            return
        self._retry_at = None
        self._stale |= self._unanswered
        self._unanswered.clear()

    def _check_time(self) -> float | None:
        expiry = self._broker.member_expiry
        return None if expiry is None else _now() + expiry / 3

    async def _look(self, channel: str) -> None:
        roster = self._rosters.get(channel)
        if roster is None:
            return
        if channel in self._calls:
            self._put_off.add(channel)
            return
        try:
            await self._ask(channel, roster)
        except Exception as error:
            if self._retry_at is None:
                self._retry_at = _now() + RETRY
                self._complain(channel, error)
            self._unanswered.add(channel)
        self._tell(channel, roster)

    def _complain(self, channel: str, error: Exception) -> None:
        if not isinstance(error, BrokerUnavailableError):
            logger.exception("cannot find out the members of channel %r", channel)
        elif self._broker.state in ("connected", "degraded") and self._quiet_until <= _now():
            # in other states, the broker itself says why
            self._quiet_until = _now() + QUIET
            text = "on_presence is not told of members in other processes: channel %r: %s"
            logger.warning(text, channel, error)

    async def _ask(self, channel: str, roster: Roster) -> None:
        """Ask the broker who is there, and give others a hint if that is news for them."""
        if not roster.is_heard:
            await self._broker.ready(hints_of(channel))
            roster.is_heard = True
        roster.remote = await self._broker.remote_members(channel)
        if roster.has_news:
            await self._send_hint(channel, roster)

    def _tell(self, channel: str, roster: Roster) -> None:
        now = _now()
        present = self._broker.local_members(channel) | roster.remote
        joined, left = roster.compare(present, now, self._linger)
        if not roster.watchers and roster.ends is None:
            roster.ends = now + self._linger
        if not roster.watchers and roster.ends is not None and roster.ends <= now:
            left = sorted(roster.told.difference(joined).union(left))
            joined = []
            self._forget(channel)
        elif roster.awaited is None and (leave := roster.next_leave) is not None:
            roster.awaited = leave
            heapq.heappush(self._later, (leave, channel))
        if joined or left:
            call = asyncio.ensure_future(self._call(channel, joined, left))
            self._calls[channel] = call
            call.add_done_callback(lambda _: self._called(channel))

    async def _call(self, channel: str, joined: list[str], left: list[str]) -> None:
        try:
            await self._on_presence(channel, joined, left)
        except (KeyboardInterrupt, SystemExit) as error:
            exit_soon(error)
        except Exception:
            logger.exception("on_presence failed for channel %r", channel)

    def _called(self, channel: str) -> None:
        del self._calls[channel]
        if channel in self._put_off:
            self._put_off.remove(channel)
            self._look_at(channel)

    async def _send_hint(self, channel: str, roster: Roster) -> None:
        roster.has_news = False  # what changes from now on needs another hint
        try:
            await self._broker.send(hints_of(channel), "", None)
        except BaseException:
            roster.has_news = True
            raise

    def _forget(self, channel: str) -> None:
        del self._rosters[channel]
        self._broker.local.unwatch(channel, self)
        self._broker.unsubscribe(hints_of(channel), self)


def hints_of(channel: str) -> str:
    """Return the channel for hints about `channel`."""
    return f"\1{channel}"  # no application's channel has a control character


def _now() -> float:
    return asyncio.get_running_loop().time()
