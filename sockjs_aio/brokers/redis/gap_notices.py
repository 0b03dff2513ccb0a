"""Tells other processes of which channels this one could not publish all messages."""

import asyncio
from collections.abc import Callable

from sockjs_aio.brokers.redis.backoff import delay
from sockjs_aio.brokers.redis.commands import Command
from sockjs_aio.brokers.redis.link import Link
from sockjs_aio.errors import BrokerUnavailableError

MAX_CHANNELS = 10_000
"""How many channels to remember; the subscribers of any more are not told."""

CHUNK = 500
"""How many notices to send at once."""


class GapNotices:
    """The channels whose subscribers in other processes must still be told.

    Args:
        command: Makes the command that tells the subscribers of a channel.
        max_retry_delay: The longest delay before a new attempt, in seconds.
    """

    def __init__(self, command: Callable[[str], Command], max_retry_delay: float) -> None:
        self._command = command
        self._max_retry_delay = max_retry_delay
        self._channels: set[str] = set()
        self._changed = asyncio.Event()

    def owe(self, channel: str) -> None:
        """A message to `channel` may not have reached other processes: tell them, once possible."""
        if len(self._channels) < MAX_CHANNELS:
            self._channels.add(channel)
            self._changed.set()

    async def keep(self, link: Link) -> None:
        """Send what is owed, until the link is lost."""
        attempts = 0
        while True:
            self._changed.clear()
            if await self._send(link):
                attempts = 0
                await self._changed.wait()
            else:  # there is no room in the queue, or Redis refuses it
                await asyncio.sleep(delay(attempts, self._max_retry_delay))
                attempts += 1

    async def _send(self, link: Link) -> bool:
        """Send all that is owed now; return False if some of it must be sent again."""
        while self._channels:
            chunk = [self._channels.pop() for _ in range(min(CHUNK, len(self._channels)))]
            try:
                await link.call(*map(self._command, chunk))
            except BaseException as error:
                self._channels.update(chunk)
                if not isinstance(error, BrokerUnavailableError):
                    raise
                return False
        return True
