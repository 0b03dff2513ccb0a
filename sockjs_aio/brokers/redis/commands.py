"""Sends commands to Redis over one connection: in order, each once, in batches."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from sockjs_aio.brokers.redis.replies import read_reply, reason
from sockjs_aio.errors import BrokerUnavailableError

Command: TypeAlias = tuple[str | bytes | int, ...]

BATCH_COMMANDS, BATCH_SIZE = 500, 1 << 16
"""How many commands and bytes to send before reading their answers."""

OVERHEAD = 100
"""Bytes that each command counts besides its arguments."""


@dataclass(eq=False)
class Pending:
    """A command, the future that gets its answer, and what to call if it fails unnoticed."""

    command: Command
    size: int
    answer: "asyncio.Future[Any] | None"
    failed: "Callable[[], object] | None"

    def fail(self, why: str) -> None:
        """The command was lost, or Redis refuses it."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(BrokerUnavailableError(why))
        elif self.failed is not None:
            self.failed()


class Commands:
    """The half of a link that sends commands.

    The object outlives connections.  The commands in its queue do not: when the connection is lost,
    they fail.

    Args:
        queue_limit: Bytes of commands that may wait.
        probe: A command that checks the server: a usable one answers, or refuses only this command.
    """

    def __init__(self, queue_limit: int, probe: Command) -> None:
        self._limit = queue_limit
        self._probe = probe
        self._size = 0
        self._queue: deque[Pending] = deque()
        self._sent: deque[Pending] = deque()
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._turn = asyncio.Lock()
        self._reserved = 0  # bytes that whoever waits for room needs
        self.heard: int = 0

    async def call(self, *commands: Command, failed: "Callable[[], object] | None" = None) -> Any:
        """Queue `commands`, in order, and return the answer to the last one.

        Args:
            commands: The commands to send.
            failed: Called if the last one fails after this call was cancelled.

        Raises:
            BrokerUnavailableError: If the queue is full, the link is lost or Redis refuses it.
        """
        answer = asyncio.get_running_loop().create_future()
        if not self.cast(*commands, answer=answer, failed=failed):
            raise BrokerUnavailableError(f"the queue for Redis is full ({self._limit} bytes)")
        try:
            return await answer
        except asyncio.CancelledError:
            # it may have failed in the same turn, while this call still waited
            has_failed = answer.done() and not answer.cancelled() and answer.exception() is not None
            if has_failed and failed is not None:
                failed()
            raise

    async def call_with_room(self, make: Callable[[], Sequence[Command]]) -> Any:
        """Do what `call` does, but wait while the queue is full; others leave that room free.

        Args:
            make: Makes the commands when they are queued, in case they depend on the time.

        Raises:
            BrokerUnavailableError: If the link is lost or Redis refuses it.
        """
        answer = asyncio.get_running_loop().create_future()
        async with self._turn:  # so that only one of many is woken by each answer
            try:
                while not self._add(commands := make(), 0, answer):
                    self._reserved = sum(map(_cost, commands))
                    self._has_room.clear()
                    await self._has_room.wait()
            finally:
                self._reserved = 0
        return await answer

    def cast(
        self,
        *commands: Command,
        answer: "asyncio.Future[Any] | None" = None,
        failed: "Callable[[], object] | None" = None,
    ) -> bool:
        """Queue `commands` without waiting; return False if there is no room.

        Args:
            commands: The commands to send, in order.
            answer: Gets the answer to the last one.
            failed: Called for each command that fails while nobody waits for its answer.
        """
        return self._add(commands, self._reserved, answer, failed)

    def _add(
        self,
        commands: Sequence[Command],
        reserved: int,
        answer: "asyncio.Future[Any] | None",
        failed: "Callable[[], object] | None" = None,
    ) -> bool:
        sizes = [_cost(command) for command in commands]
        if (self._size or reserved) and self._size + sum(sizes) + reserved > self._limit:
            return False
        for command, size in zip(commands, sizes, strict=True):
            self._queue.append(Pending(command, size, None, failed))
        self._queue[-1].answer = answer
        self._size += sum(sizes)
        self._changed.set()
        return True

    def ping(self) -> None:
        """Check that the server is still usable; if it is not, the link ends."""
        self.cast(self._probe)

    def lose(self, why: str) -> None:
        """The connection is lost: fail all waiting commands.  None is sent later."""
        lost = [*self._sent, *self._queue]
        self._sent.clear()
        self._queue.clear()
        self._size = 0
        self._has_room.set()
        for pending in lost:
            pending.fail(why)

    async def run(self, connection: AbstractConnection) -> None:
        """Send queued commands and read the answers, until the connection is lost."""
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
        self._has_room.set()
        if isinstance(reply, ResponseError):
            pending.fail(f"Redis refuses: {reason(reply)}")
        elif pending.answer is not None and not pending.answer.done():
            pending.answer.set_result(reply)


def _cost(command: Command) -> int:
    return OVERHEAD + sum(map(_size, command))


def _size(argument: str | bytes | int) -> int:
    return 8 if isinstance(argument, int) else len(argument)
