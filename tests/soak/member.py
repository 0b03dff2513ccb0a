"""One client of the load: sends numbered messages, and verifies all that comes."""

import asyncio
import random
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import async_timeout

from tests.soak.link import GONE, Event, Gone, Link
from tests.soak.numbering import Sequence, number_of, text

if TYPE_CHECKING:
    from tests.soak.load import Load

PATIENCE = 30.0
"""Seconds after which what has not come is lost, and who has not ended is forgotten."""

SERVICE_RESTART = 1012

KINDS = {"e": "echo", "b": "broadcast", "p": "large", "l": "last"}


class Member:
    """A session of the load.

    Args:
        load: Which it is part of.
        link: Not opened yet.
        plan: Name of what it is going to do, for faults.
    """

    def __init__(self, load: "Load", link: Link, plan: str) -> None:
        self.load = load
        self.link = link
        self.plan = plan
        # what was sent, and what has come of each kind; broadcasts begin with the welcome
        self.sent = 0
        self.come = {kind: Sequence() for kind in "ebpl"}
        self.is_welcome = False
        self.close_frame: list[Any] | None = None
        self.reading_pause = 0.0
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._expected_ends: Collection[str] = ()
        self._has_closed = False

    def fault(self, what: str) -> None:
        """Something went wrong that may not."""
        self.load.fault(f"{self.plan}, {self.link.name}: {what}")

    # Beginning and end.

    async def open(self) -> None:
        self.load.members[self.link.token] = self
        async with async_timeout.timeout(PATIENCE):
            await self.link.open()
        self.load.opened += 1
        self._reader = asyncio.ensure_future(self._read())

    async def leave(self) -> None:
        """End as a client does."""
        self.expect_end("client" if not self.link.is_http else "network", "timeout")
        await self.link.leave()
        await self.until_ended()

    def expect_end(self, *initiators: str) -> None:
        """From now on the session may end, by one of `initiators`."""
        self._expected_ends = initiators

    def server_says(self, initiator: str) -> None:
        """The server has seen the end of the session."""
        if initiator not in self._expected_ends and not self.load.is_ending:
            self.fault(f"ended by {initiator}, not by {' or '.join(self._expected_ends)}")
        self._has_closed = True
        self._changed.set()

    def server_has_gone(self) -> None:
        """Nobody will tell how the session has ended."""
        self._has_closed = True
        self._changed.set()

    async def until_ended(self) -> None:
        """Wait for the server to notice."""
        if not await self.until(lambda: self._has_closed):
            self.fault("the server has not ended it")

    def finish(self, **ends: int) -> None:
        """Count what has come; `ends` has the number of messages of each kind that had to."""
        self.load.members.pop(self.link.token, None)
        if self._reader is not None:
            self._reader.cancel()
        self.link.close()
        is_restart = self.close_frame is not None and self.close_frame[0] == SERVICE_RESTART
        if is_restart and self.is_welcome:
            self.load.last_broadcasts[self.come["b"].next] += 1
        for kind, sequence in self.come.items():
            tally = sequence.finish(ends.get(kind))
            self.load.tallies[KINDS[kind]].add(tally)
            if not tally.is_clean:
                self.load.note(f"{self.plan}, {self.link.name}, {KINDS[kind]}: {tally}")

    # Receiving.

    @property
    def is_over(self) -> bool:
        """Whether nothing can come any more."""
        return self._reader is None or self._reader.done()

    def stop_reading(self) -> None:
        """Take nothing more, for ever."""
        if self._reader is not None:
            self._reader.cancel()
        self.link.stop_reading()

    async def _read(self) -> None:
        try:
            while (event := await self.link.receive()) is not None:
                self._take(event)
                if self.reading_pause:
                    await asyncio.sleep(self.reading_pause)
        except (*GONE, Gone):
            pass
        except Exception as error:
            self.fault(f"cannot read what comes: {error!r}")
        finally:
            self._changed.set()

    def _take(self, event: Event) -> None:
        kind, content = event
        if kind == "a":
            for message in content:
                self._see(message)
            self._changed.set()
        elif kind == "c":
            self.close_frame = content
        elif kind == "o":
            self.fault("a second open frame")

    def _see(self, message: str) -> None:
        kind, number = message[0], number_of(message)
        if kind == "w":
            self.come["b"] = Sequence(number)
            self.is_welcome = True
        elif kind == "p":
            self.come["p"].see(number, intact=message.endswith("xxx"))
        elif kind == "b" and not self.is_welcome:
            self.fault("a broadcast before the welcome")
        else:
            self.come[kind].see(number, intact=message == text(kind, number))

    async def until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> bool:
        """Wait until `condition` holds; return whether it does, at the end or in time."""
        try:
            async with async_timeout.timeout(patience):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except asyncio.TimeoutError:
            return False
        return True

    # Sending.

    def next_texts(self, count: int) -> list[str]:
        """Make the next messages to send."""
        numbers = range(self.sent, self.sent + count)
        self.sent += count
        return [text("e", number) for number in numbers]

    async def echo_for(self, seconds: float) -> None:
        """Send batches of numbered messages for a time, or until the session or load ends."""
        end = time.monotonic() + seconds
        while not self.is_over and not self.load.is_pausing and time.monotonic() < end:
            await self.link.send(self.next_texts(random.choice((1, 1, 2, 4, 10))))
            await asyncio.sleep(random.uniform(0.1, 1.5))

    async def until_echoed(self) -> None:
        """Wait for the rest of the echoes."""
        await self.until(lambda: self.come["e"].next >= self.sent or self.is_over)
        self.check_alive()

    def check_alive(self) -> None:
        """See that the session has not ended.

        Raises:
            Gone: If it has.
        """
        if self.is_over:
            raise Gone(f"it ended before its time: {self.close_frame}")

    async def until_large(self, count: int) -> None:
        """Wait for large messages."""
        come = self.come["p"]
        await self.until(lambda: come.next >= count or self.is_over, 3 * PATIENCE)
        self.check_alive()
