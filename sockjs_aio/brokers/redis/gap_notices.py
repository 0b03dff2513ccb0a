"""Tells of messages that were dropped: here, or on their way to other processes."""

import asyncio
from collections.abc import Callable

from sockjs_aio.brokers.redis.backoff import delay
from sockjs_aio.brokers.redis.commands import Command
from sockjs_aio.brokers.redis.link import Link
from sockjs_aio.errors import BrokerUnavailableError
from sockjs_aio.turns import Turn

MAX_CHANNELS = 10_000
"""How many channels to remember; the subscribers of any more are not told."""

PAUSE = 1.0
"""Seconds between two rounds.

What is dropped meanwhile is told in one call, not for each message, and neither for each process
that says so: after a restart of Redis, all that have dropped messages say so within seconds.
"""

CHUNK = 500
"""How many notices to send at once."""


class GapNotices:
    """The channels whose subscribers must still be told.

    Args:
        end_gap: Tells the subscribers of a channel in this process.
        command: Makes the command that tells those in other processes.
        max_retry_delay: The longest delay before a new attempt, in seconds.
    """

    def __init__(
        self,
        end_gap: Callable[[str], None],
        command: Callable[[str], Command],
        max_retry_delay: float,
    ) -> None:
        self._end_gap = end_gap
        self._command = command
        self._max_retry_delay = max_retry_delay
        self._here: set[str] = set()
        self._channels: set[str] = set()
        self._changed = asyncio.Event()

    def owe(self, channel: str) -> None:
        """A message to `channel` may not have reached other processes: tell them, once possible."""
        if len(self._channels) < MAX_CHANNELS:
            self._channels.add(channel)
            self._changed.set()

    def missed(self, channel: str) -> None:
        """Messages of `channel` were dropped, here or elsewhere: tell the subscribers here."""
        self._here.add(channel)
        self._changed.set()

    async def keep(self, link: Link) -> None:
        """Tell them, until the link is lost."""
        attempts = 0
        if self._channels or self._here:
            self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._tell_here()
            if await self._send(link):
                attempts = 0
                await asyncio.sleep(PAUSE)
            else:  # there is no room in the queue, or Redis refuses it
                self._changed.set()
                await asyncio.sleep(delay(attempts, self._max_retry_delay))
                attempts += 1

    async def _tell_here(self) -> None:
        turn = Turn()
        while self._here:
            self._end_gap(self._here.pop())
            if turn.is_over:
                await turn.next()

    async def _send(self, link: Link) -> bool:
        """Send all that is owed now; return False if some of it must be sent again."""
        owed, is_sent = list(self._channels), True
        for start in range(0, len(owed), CHUNK):
            answers = (self._tell(link, channel) for channel in owed[start : start + CHUNK])
            is_sent = all(await asyncio.gather(*answers)) and is_sent
        return is_sent

    async def _tell(self, link: Link, channel: str) -> bool:
        """Send one notice; return False if it must be sent again.

        Redis may refuse one channel: then those of the others must not be sent again.
        """
        self._channels.discard(channel)  # what is dropped from now on is owed again
        try:
            await link.call(self._command(channel))
        except BaseException as error:
            self._channels.add(channel)
            if not isinstance(error, BrokerUnavailableError):
                raise
            return False
        return True
