"""Keeps Redis told of the channels that this process listens to, and hands on what comes.

What is wanted is compared with what Redis has been asked for, so that sessions that come and go
while it does not answer leave no queue behind.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from sockjs_aio.brokers.complaints import Complaints

CHUNK = 500
"""Channels in one command."""

TURN = 0.005
"""Seconds of handing on after which the loop gets its turn, and sessions write what they have."""


@dataclass
class Request:
    """A command that was sent, and how many answers are to come."""

    command: tuple[bytes, ...]
    answers: int


class Subscriber:
    """The listening half of a link; what is wanted outlives its connections.

    Args:
        receive: Called with the name of a Redis channel and the payload.
        complaints: Where to say what Redis refuses.
    """

    def __init__(self, receive: Callable[[bytes, bytes], None], complaints: Complaints) -> None:
        self._receive = receive
        self._complaints = complaints
        self._wanted: set[bytes] = set()
        self._changed = asyncio.Event()
        # who waits for a channel, whatever becomes of it
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        # this connection: what was asked for, what is not answered yet, what may not be had
        self._asked: set[bytes] = set()
        self._sent: deque[Request] = deque()
        self._unconfirmed: Counter[bytes] = Counter()
        self._doubtful: set[bytes] = set()
        self._refused: set[bytes] = set()
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
        self._refused.discard(name)
        self._changed.set()
        self._release(name)

    async def confirmed(self, name: bytes) -> None:
        """Wait until Redis has confirmed `name`, or it is wanted no more, or the link is lost."""
        is_live = name in self._asked and name not in self._unconfirmed
        if name in self._wanted and not is_live and name not in self._refused:
            if name not in self._waiting:
                self._waiting[name] = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._waiting[name])

    def ping(self) -> None:
        """See to it that something comes."""
        self._is_ping_due = True
        self._changed.set()

    def lose(self) -> None:
        """The connection is lost: have nobody wait, and begin anew with the next one."""
        for of_the_connection in (self._asked, self._sent, self._unconfirmed):
            of_the_connection.clear()
        self._doubtful.clear()
        self._refused.clear()
        self._is_ping_due = False
        self.is_settled.clear()
        for name in list(self._waiting):
            self._release(name)

    async def write(self, connection: AbstractConnection) -> None:
        """Ask for what is wanted, and no more for what is not, while the connection lasts."""
        while True:
            self._changed.clear()
            for command in self._due():
                self._sent.append(Request(command, max(len(command) - 1, 1)))
                await connection.send_command(*command, check_health=False)
            self._look()
            await self._changed.wait()

    async def read(self, connection: AbstractConnection) -> None:
        """Take what comes, while the connection lasts."""
        clock = asyncio.get_running_loop().time
        turn_ends = clock() + TURN
        while True:
            try:
                reply = await connection.read_response()
            except ResponseError as error:
                if self._sent:
                    self._refuse(self._sent.popleft(), error)
            else:
                self._take(reply)
            self.heard += 1
            if clock() > turn_ends:
                await asyncio.sleep(0)  # what is buffered would be read without a pause
                turn_ends = clock() + TURN

    def _due(self) -> Iterator[tuple[bytes, ...]]:
        new = self._wanted - self._asked - self._refused
        alone = [[name] for name in new & self._doubtful]
        self._doubtful.clear()
        for chunk in alone + _chunks(new.difference(*alone)):
            self._asked.update(chunk)
            self._unconfirmed.update(chunk)
            yield (b"SUBSCRIBE", *chunk)
        for chunk in _chunks(self._asked - self._wanted):
            self._asked.difference_update(chunk)
            yield (b"UNSUBSCRIBE", *chunk)
        if self._is_ping_due:
            self._is_ping_due = False
            yield (b"PING",)

    def _take(self, reply: object) -> None:
        kind, name, data = reply if isinstance(reply, list) and len(reply) == 3 else (b"", b"", b"")
        if kind == b"message":
            self._receive(name, data)
            return
        if self._sent:
            self._sent[0].answers -= 1
            if not self._sent[0].answers:
                self._sent.popleft()
        if kind == b"subscribe":
            self._confirm(name)

    def _confirm(self, name: bytes) -> None:
        # asked for, not any more, and again: the last confirmation counts
        self._unconfirmed[name] -= 1
        if self._unconfirmed[name] <= 0:
            del self._unconfirmed[name]
            if name in self._asked:
                self._release(name)
        self._look()

    def _refuse(self, request: Request, error: ResponseError) -> None:
        """Ask again for each of several channels, as one may spoil the others; do without one."""
        verb, *names = request.command
        if verb != b"SUBSCRIBE":
            return
        for name in names:
            self._asked.discard(name)
            if len(names) > 1:
                self._doubtful.add(name)
            else:
                self._refused.add(name)
                self._release(name)
                text = "Redis refuses %s: %s; messages of other processes are missed"
                self._complaints.make("subscribe", text, name.decode(), error)
            self._confirm(name)
        self._changed.set()

    def _look(self) -> None:
        if not self._unconfirmed and self._wanted <= self._asked | self._refused:
            self.is_settled.set()

    def _release(self, name: bytes) -> None:
        waiting = self._waiting.pop(name, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


def _chunks(names: set[bytes]) -> list[list[bytes]]:
    ordered = list(names)
    return [ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK)]
