"""Sends commands to Redis over one connection: in their order, each once, many at a time."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from sockjs_aio.brokers.redis.replies import read_reply, reason
from sockjs_aio.errors import BrokerUnavailableError

Command: TypeAlias = tuple[str | bytes | int, ...]

BATCH_COMMANDS, BATCH_SIZE = 500, 1 << 16
"""Commands and bytes that are sent before their answers are read."""

OVERHEAD = 100
"""Bytes that a command counts besides its arguments."""


@dataclass(eq=False)
class Pending:
    """A command, who waits for its answer, and what to call if Redis refuses it."""

    command: Command
    size: int
    answer: "asyncio.Future[Any] | None"
    refused: "Callable[[], object] | None"


class Commands:
    """The asking half of a link: a queue that outlives connections, though what is in it does not.

    Args:
        queue_limit: Bytes of commands that wait.
        probe: A command that only a server that can be used answers or refuses by itself.
    """

    def __init__(self, queue_limit: int, probe: Command) -> None:
        self._limit = queue_limit
        self._probe = probe
        self._size = 0
        self._queue: deque[Pending] = deque()
        self._sent: deque[Pending] = deque()
        self._changed = asyncio.Event()
        self.heard = 0

    async def call(self, *commands: Command) -> Any:
        """Queue `commands` one behind the other, and return the answer to the last.

        Raises:
            BrokerUnavailableError: If the queue is full, the link is lost or Redis refuses it.
        """
        answer = asyncio.get_running_loop().create_future()
        if not self.cast(*commands, answer=answer):
            raise BrokerUnavailableError(f"{self._limit} bytes wait for Redis already")
        return await answer

    def cast(
        self,
        *commands: Command,
        answer: "asyncio.Future[Any] | None" = None,
        refused: "Callable[[], object] | None" = None,
    ) -> bool:
        """Queue `commands`, and do not wait; return whether there was room.

        Args:
            commands: What to send, one behind the other.
            answer: Gets the answer to the last.
            refused: Called for each of them that Redis refuses.
        """
        sizes = [OVERHEAD + sum(map(_size, command)) for command in commands]
        if self._size and self._size + sum(sizes) > self._limit:
            return False
        for command, size in zip(commands, sizes, strict=True):
            self._queue.append(Pending(command, size, None, refused))
        self._queue[-1].answer = answer
        self._size += sum(sizes)
        self._changed.set()
        return True

    def ping(self) -> None:
        """Ask whether the server can still be used; the link ends if it cannot."""
        self.cast(self._probe)

    def lose(self, why: str) -> None:
        """The connection is lost: nothing of what waits is sent again, or at all."""
        lost = [*self._sent, *self._queue]
        self._sent.clear()
        self._queue.clear()
        self._size = 0
        for pending in lost:
            if pending.answer is not None and not pending.answer.done():
                pending.answer.set_exception(BrokerUnavailableError(why))

    async def run(self, connection: AbstractConnection) -> None:
        """Send what is queued, and read the answers, while the connection lasts."""
        while True:
            self._take()
            if self._sent:
                packed = connection.pack_commands([x.command for x in self._sent])
                await connection.send_packed_command(packed, check_health=False)
                while self._sent:
                    await self._read(connection)
            else:
                self._changed.clear()
                await self._changed.wait()

    def _take(self) -> None:
        size = 0
        while self._queue and len(self._sent) < BATCH_COMMANDS:
            size += self._queue[0].size
            if self._sent and size > BATCH_SIZE:
                break
            self._sent.append(self._queue.popleft())

    async def _read(self, connection: AbstractConnection) -> None:
        reply = await read_reply(connection)
        self.heard += 1
        pending = self._sent.popleft()
        self._size -= pending.size
        is_refused = isinstance(reply, ResponseError)
        if is_refused and pending.refused is not None:
            pending.refused()
        if pending.answer is None or pending.answer.done():
            return
        if is_refused:
            pending.answer.set_exception(BrokerUnavailableError(f"Redis refuses: {reason(reply)}"))
        else:
            pending.answer.set_result(reply)


def _size(argument: str | bytes | int) -> int:
    return 8 if isinstance(argument, int) else len(argument)
