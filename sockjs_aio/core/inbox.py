"""What requests have brought for one session and no hook has handled yet."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Literal

from sockjs_aio.protocol.machine import MESSAGE_OVERHEAD

MAX_WAITING = 64
"""Requests of one session that wait for their turn; sockjs-client has one on its way at a time."""


class Turn(asyncio.Lock):
    """A lock that knows how many wait for it."""

    waiting = 0

    async def acquire(self) -> Literal[True]:
        """Wait for the turn."""
        self.waiting += 1
        try:
            return await super().acquire()
        finally:
            self.waiting -= 1


class Inbox:
    """Messages in their order, with a limit; who brings more waits for room.

    Args:
        limit: Bytes that may wait, `MESSAGE_OVERHEAD` of bookkeeping for each message included; one
            request's messages may always, if they are alone.
    """

    __slots__ = ("turn", "size", "is_closed", "_limit", "_messages", "_room")

    def __init__(self, limit: int) -> None:
        self.turn = Turn()
        """To be held from before a request's body is read until its messages are queued.

        So whoever came first is served first, and a session has one body in memory, however many
        requests wait: theirs stay with the connections.
        """
        self.size = 0  # bytes
        self.is_closed = False
        self._limit = limit
        self._messages: deque[tuple[str, int]] | None = None
        self._room: asyncio.Future[None] | None = None

    @property
    def is_crowded(self) -> bool:
        """Whether so many wait for their turn that nobody else may."""
        return self.turn.waiting >= MAX_WAITING

    def __bool__(self) -> bool:
        return bool(self._messages)

    async def put(self, messages: Sequence[str], size: int) -> bool:
        """Queue `messages` of `size` bytes in all, in one's turn; wait while there is no room.

        Return whether they were queued: not if the inbox is closed, or has been meanwhile.
        """
        size += len(messages) * MESSAGE_OVERHEAD
        while self.size > 0 and self.size + size > self._limit and not self.is_closed:
            self._room = asyncio.get_running_loop().create_future()
            try:
                await self._room
            finally:
                self._room = None
        if self.is_closed:
            return False
        if messages:
            share = size // len(messages)
            if self._messages is None:
                self._messages = deque()
            self._messages.extend([(message, share) for message in messages])
            self.size += share * len(messages)
        return True

    def take(self) -> str:
        """Remove the first message."""
        assert self._messages, "somebody has asked whether there is one"
        message, size = self._messages.popleft()
        if not self._messages:
            self._messages = None  # an idle session keeps nothing
        self.size -= size
        self._make_room()
        return message

    def close(self) -> None:
        """Take no more; those who wait are told so."""
        self.is_closed = True
        self._make_room()

    def clear(self) -> None:
        """Forget what has not been taken."""
        self._messages = None
        self.size = 0
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
