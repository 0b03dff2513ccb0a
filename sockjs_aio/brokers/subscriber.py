"""Keeps Redis told of the channels that this process listens to, and hands on what comes.

What is wanted is compared with what Redis has been asked for, so that sessions that come and go
while it does not answer leave no queue behind.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

from redis.asyncio.connection import AbstractConnection

CHUNK = 500
"""Channels in one command."""

TURN = 1 << 16
"""Bytes of messages after which the loop gets its turn, and sessions write what they have."""


class Subscriber:
    """The listening half of a link; what is wanted outlives its connections.

    Args:
        receive: Called with the name of a Redis channel and the payload.
    """

    def __init__(self, receive: Callable[[bytes, bytes], None]) -> None:
        self._receive = receive
        self._wanted: set[bytes] = set()
        self._changed = asyncio.Event()
        # who waits for a channel, whatever becomes of it
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        # this connection: what was asked for, and how many confirmations are to come
        self._asked: set[bytes] = set()
        self._unconfirmed: Counter[bytes] = Counter()
        self._is_ping_due = False
        self.is_settled = asyncio.Event()
        self.heard = 0

    def listen(self, name: bytes) -> None:
        """Want what is published to `name`."""
        self._wanted.add(name)
        self._changed.set()

    def unlisten(self, name: bytes) -> None:
        """Want it no more."""
        self._wanted.discard(name)
        self._changed.set()
        self._release(name)

    async def confirmed(self, name: bytes) -> None:
        """Wait until Redis has confirmed `name`, or it is wanted no more, or the link is lost."""
        if name in self._wanted and not self._is_live(name):
            if name not in self._waiting:
                self._waiting[name] = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._waiting[name])

    def ping(self) -> None:
        """See to it that something comes."""
        self._is_ping_due = True
        self._changed.set()

    def lose(self) -> None:
        """The connection is lost: have nobody wait, and begin anew with the next one."""
        self._asked.clear()
        self._unconfirmed.clear()
        self._is_ping_due = False
        self.is_settled.clear()
        for name in list(self._waiting):
            self._release(name)

    async def write(self, connection: AbstractConnection) -> None:
        """Ask for what is wanted, and no more for what is not, while the connection lasts."""
        while True:
            self._changed.clear()
            for command in self._due():
                await connection.send_command(*command, check_health=False)
            self._look()
            await self._changed.wait()

    async def read(self, connection: AbstractConnection) -> None:
        """Take what comes, while the connection lasts."""
        size = 0
        while True:
            reply = await connection.read_response()
            self.heard += 1
            if isinstance(reply, list) and len(reply) == 3:
                kind, name, data = reply
                if kind == b"message":
                    self._receive(name, data)
                    size += len(data)
                elif kind == b"subscribe":
                    self._confirm(name)
            if size > TURN:
                size = 0
                await asyncio.sleep(0)  # what is buffered would be read without a pause

    def _due(self) -> Iterator[tuple[bytes | str, ...]]:
        new, old = list(self._wanted - self._asked), list(self._asked - self._wanted)
        for start in range(0, len(new), CHUNK):
            chunk = new[start : start + CHUNK]
            self._asked.update(chunk)
            self._unconfirmed.update(chunk)
            yield ("SUBSCRIBE", *chunk)
        for start in range(0, len(old), CHUNK):
            chunk = old[start : start + CHUNK]
            self._asked.difference_update(chunk)
            yield ("UNSUBSCRIBE", *chunk)
        if self._is_ping_due:
            self._is_ping_due = False
            yield ("PING",)

    def _is_live(self, name: bytes) -> bool:
        return name in self._asked and name not in self._unconfirmed

    def _confirm(self, name: bytes) -> None:
        # asked for, not any more, and again: the last confirmation counts
        self._unconfirmed[name] -= 1
        if self._unconfirmed[name] <= 0:
            del self._unconfirmed[name]
            if name in self._asked:
                self._release(name)
        self._look()

    def _look(self) -> None:
        if not self._unconfirmed and self._wanted <= self._asked:
            self.is_settled.set()

    def _release(self, name: bytes) -> None:
        waiting = self._waiting.pop(name, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
