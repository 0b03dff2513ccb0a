"""The messages that requests have brought for one session and no hook has handled yet."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Literal

from sockjs_aio.protocol.session_machine import MESSAGE_OVERHEAD

MAX_WAITING = 64
"""How many requests of one session may wait for their turn; sockjs-client sends one at a time."""


class Turn(asyncio.Lock):
    """A lock that counts the tasks waiting for it."""

    waiting: int = 0

    async def acquire(self) -> Literal[True]:
        """Wait for the lock."""
        self.waiting += 1
        try:
            return await super().acquire()
        finally:
            self.waiting -= 1


class Inbox:
    """A queue of messages with a limit; a request that brings more waits for room.

    Args:
        limit: Bytes that may wait, including `MESSAGE_OVERHEAD` for each message.  An empty inbox
            takes the messages of one request even if they exceed the limit.
    """

    __slots__ = ("turn", "size", "is_closed", "_limit", "_messages", "_room")

    def __init__(self, limit: int) -> None:
        self.turn: Turn = Turn()
        """A request must hold it from before its body is read until its messages are queued.

        So requests are served in order, and a session has only one body in memory.  The bodies of
        waiting requests stay in their sockets.
        """
        self.size: int = 0  # bytes
        self.is_closed: bool = False
        self._limit = limit
        self._messages: deque[tuple[str, int]] | None = None
        self._room: asyncio.Future[None] | None = None

    @property
    def is_crowded(self) -> bool:
        """True if so many requests wait for their turn that a further one is refused."""
        return self.turn.waiting >= MAX_WAITING

    def __bool__(self) -> bool:
        return bool(self._messages)

    async def put(self, messages: Sequence[str], size: int) -> bool:
        """Queue `messages` of `size` bytes in all; wait while there is no room.

        The caller must hold `turn`.  Return False if the inbox is closed, or was closed meanwhile;
        then nothing is queued.
        """
        needed = size + len(messages) * MESSAGE_OVERHEAD
        while self.size > 0 and self.size + needed > self._limit and not self.is_closed:
            self._room = asyncio.get_running_loop().create_future()
            try:
                await self._room
            finally:
                self._room = None
        if self.is_closed:
            return False
        self.add(messages, size)
        return True

    def takes_now(self, count: int, size: int) -> bool:
        """Tell whether `put` would not need to wait for `count` messages of `size` bytes in all."""
        if self.turn.locked() or self.turn.waiting or self.is_closed:
            return False
        return self.size == 0 or self.size + size + count * MESSAGE_OVERHEAD <= self._limit

    def add(self, messages: Sequence[str], size: int) -> None:
        """Queue `messages` of `size` bytes in all, for which there is room."""
        if messages:
            size += len(messages) * MESSAGE_OVERHEAD
            share = size // len(messages)
            if self._messages is None:
                self._messages = deque()
            self._messages.extend([(message, share) for message in messages])
            self.size += share * len(messages)

    def take(self) -> str:
        """Remove the first message."""
        assert self._messages, "the caller has checked that the inbox is not empty"
        message, size = self._messages.popleft()
        if not self._messages:
            self._messages = None  # an idle session keeps no deque
        self.size -= size
        self._make_room()
        return message

    def close(self) -> None:
        """Accept no more messages, and release the request that waits for room."""
        self.is_closed = True
        self._make_room()

    def clear(self) -> None:
        """Drop all messages."""
        self._messages = None
        self.size = 0
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
