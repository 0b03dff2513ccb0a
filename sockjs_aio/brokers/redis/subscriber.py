"""Subscribes to the Redis channels that this process needs, and passes on their messages.

It compares the channels that it wants with those that it has asked Redis for.  So sessions that
come and go while Redis does not answer leave no queue of commands behind.

If Redis refuses a channel, its messages are lost until Redis confirms it.  The subscriber asks
again and again, because an administrator can change a Redis user's rights at any time.
"""

import asyncio
import itertools
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from sockjs_aio.brokers.redis.backoff import delay
from sockjs_aio.brokers.redis.rate_limited_log import RateLimitedLog
from sockjs_aio.brokers.redis.replies import read_reply, reason
from sockjs_aio.turns import Turn

logger: logging.Logger = logging.getLogger("sockjs_aio.broker")

CHUNK = 500
"""How many channels to put into one command."""


@dataclass
class Request:
    """A command that was sent, and how many answers are still to come."""

    command: tuple[bytes, ...]
    answers: int


class Subscriber:
    """The half of a link that receives messages.  The wanted channels outlive its connections.

    Args:
        echo: A channel to listen to as soon as there is another one; its messages are counted.
        receive: Called for each message, with the name of its Redis channel and the payload.
        lost: Called when Redis starts to refuse channels.
        found: Called with the name of each channel whose messages were missed, once it works.
        max_retry_delay: The longest delay before asking again for refused channels, in seconds.
        rate_limited: The log for what Redis refuses.
    """

    def __init__(
        self,
        echo: bytes,
        receive: Callable[[bytes, bytes], None],
        *,
        lost: Callable[[], None],
        found: Callable[[bytes], None],
        max_retry_delay: float,
        rate_limited: RateLimitedLog,
    ) -> None:
        self._echo = echo
        self._receive = receive
        self._lost = lost
        self._found = found
        self._max_retry_delay = max_retry_delay
        self._rate_limited = rate_limited
        self._wanted: set[bytes] = set()
        # channels that may need a command: to look at all of them each time would take long
        self._touched: set[bytes] = set()
        self._changed = asyncio.Event()
        # resolved when a channel is confirmed, refused, or not wanted any more
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        # channels that Redis refused and has not confirmed since
        self.missing: set[bytes] = set()
        # channels whose messages were missed, until `found` was called
        self._gaps: set[bytes] = set()
        self._is_live = False
        # on this connection: channels asked for, not answered yet, to be tried alone, and refused
        self._asked: set[bytes] = set()
        self._first: set[bytes] = set()  # wanted from the beginning, and not answered yet
        self._sent: deque[Request] = deque()
        self._unconfirmed: Counter[bytes] = Counter()
        self._doubtful: set[bytes] = set()
        self._refused: dict[bytes, None] = {}  # first the one that was asked for longest ago
        self._retried: set[bytes] = set()
        self._retries = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_ping_due = False
        self._pings = 0  # how many were sent
        self._pongs = 0
        self._ponged = asyncio.Event()
        self.is_settled: asyncio.Event = asyncio.Event()
        self.heard: int = 0
        self.echoes: int = 0

    def listen(self, name: bytes) -> None:
        """Subscribe to `name`."""
        self._wanted |= {name, self._echo}
        self._touch(name, self._echo)

    def unlisten(self, name: bytes) -> None:
        """Unsubscribe from `name`."""
        self._wanted.discard(name)
        self._refused.pop(name, None)
        self.missing.discard(name)
        self._gaps.discard(name)
        self._first.discard(name)
        self._touch(name)
        self._release(name)

    async def go_live(self, was_lost: bool) -> None:
        """All is settled: call `found` for the channels that work, and later for the others.

        Args:
            was_lost: Whether messages of all channels were missed, also of new ones.
        """
        self._is_live = True
        if was_lost:
            self._gaps = self._wanted - {self._echo}
        turn = Turn()
        for name in list(self._gaps):
            if self._works(name):
                self._end_gap(name)
            if turn.is_over:
                await turn.next()

    @property
    def hears_echo(self) -> bool:
        """True once Redis has confirmed the echo channel."""
        return self._works(self._echo)

    async def confirmed(self, name: bytes) -> None:
        """Wait until Redis confirms or refuses `name`, it is not wanted, or the link is lost."""
        if name in self._wanted and not self._works(name) and name not in self._refused:
            if name not in self._waiting:
                self._waiting[name] = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._waiting[name])

    def ping(self) -> None:
        """Send a ping, so that Redis answers something."""
        self._is_ping_due = True
        self._changed.set()

    async def answered(self) -> None:
        """Wait until Redis has answered all that was sent so far, and a ping after it."""
        number = self._pings + 1
        self.ping()
        while self._pongs < number:
            self._ponged.clear()
            await self._ponged.wait()

    def lose(self) -> None:
        """The connection is lost: release all waiters, and reset the state for the next one."""
        for of_the_connection in (self._asked, self._sent, self._unconfirmed, self._refused):
            of_the_connection.clear()
        self._touched = set(self._wanted)
        self._doubtful.clear()
        self._gaps.clear()
        self._is_live = False
        self._retried.clear()
        self._retries = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_ping_due = False
        self._pings = self._pongs = 0
        self.is_settled.clear()
        for name in list(self._waiting):
            self._release(name)

    async def write(self, connection: AbstractConnection) -> None:
        """Subscribe and unsubscribe as needed, until the connection is lost."""
        self._first = set(self._wanted)
        turn = Turn()
        while True:
            self._changed.clear()
            for command in self._due():
                if turn.is_over:
                    await turn.next()
                self._sent.append(Request(command, max(len(command) - 1, 1)))
                await connection.send_command(*command, check_health=False)
            self._look()
            await self._changed.wait()

    async def read(self, connection: AbstractConnection) -> None:
        """Read replies and messages until the connection is lost."""
        turn = Turn()
        while True:
            reply = await read_reply(connection)
            if not isinstance(reply, ResponseError):
                self._take(reply)
            elif self._sent:
                self._refuse(self._sent.popleft(), reply)
            self.heard += 1
            if turn.is_over:
                await turn.next()  # reading from a full buffer would not let other tasks run

    def _due(self) -> Iterator[tuple[bytes, ...]]:
        touched, self._touched = self._touched, set()
        new = (touched & self._wanted) - self._asked - self._refused.keys()
        alone = [[name] for name in new & self._doubtful]
        self._doubtful.clear()
        for chunk in alone + _chunks(new.difference(*alone)):
            self._asked.update(chunk)
            self._unconfirmed.update(chunk)
            yield (b"SUBSCRIBE", *chunk)
        for chunk in _chunks((touched & self._asked) - self._wanted):
            self._asked.difference_update(chunk)
            yield (b"UNSUBSCRIBE", *chunk)
        if self._is_ping_due:
            self._is_ping_due = False
            self._pings += 1
            yield (b"PING",)

    def _take(self, reply: object) -> None:
        kind, name, data = reply if isinstance(reply, list) and len(reply) == 3 else (b"", b"", b"")
        if kind == b"message":
            if name == self._echo:
                self.echoes += 1
            else:
                self._receive(name, data)
            return
        if self._sent:
            self._sent[0].answers -= 1
            if not self._sent[0].answers:
                self._end(self._sent.popleft())
        if kind == b"subscribe":
            self._confirm(name)

    def _end(self, request: Request) -> None:
        """Redis has answered `request`."""
        if request.command == (b"PING",):
            self._pongs += 1
            self._ponged.set()

    def _confirm(self, name: bytes) -> None:
        # after subscribe, unsubscribe and subscribe again, only the last answer counts
        if self._is_answered_all(name) and name in self._asked:
            self._first.discard(name)
            self._release(name)
            if name in self.missing:
                self._find(name)
            if self._is_live:
                self._end_gap(name)
        self._look()

    def _is_answered_all(self, name: bytes) -> bool:
        self._unconfirmed[name] -= 1
        if self._unconfirmed[name] > 0:
            return False
        del self._unconfirmed[name]
        return True

    def _refuse(self, request: Request, error: ResponseError) -> None:
        """Redis has refused a command.

        If it had several channels, ask again for each alone: one of them may have spoiled the
        others.  If it had one, ask again later.
        """
        self._end(request)
        verb, *names = request.command
        if verb != b"SUBSCRIBE":
            return
        for name in names:
            if not self._is_answered_all(name):
                continue  # only the last answer counts
            self._asked.discard(name)
            if len(names) > 1:
                self._doubtful.add(name)
            elif name in self._wanted:
                self._miss(name, error)
        self._touch(*names)
        self._look()

    def _miss(self, name: bytes, error: ResponseError) -> None:
        self._refused[name] = None
        self._first.discard(name)
        if name == self._echo:
            return  # only the link's own check needs the echo
        if not self.missing:
            self._lost()
        self.missing.add(name)
        self._gaps.add(name)
        text = "Redis refuses channel %s: %s; its messages from other processes are lost"
        self._rate_limited.warn("subscribe", text, name.decode(), reason(error))
        self._release(name)
        self._retry_later()

    def _find(self, name: bytes) -> None:
        self.missing.remove(name)
        if name in self._retried:
            self._retries = 0  # Redis may now accept the others too
        if not self.missing:
            logger.warning("Redis accepts all channels again; no more messages are lost")

    def _works(self, name: bytes) -> bool:
        return name in self._asked and name not in self._unconfirmed

    def _end_gap(self, name: bytes) -> None:
        if name in self._gaps:
            self._gaps.remove(name)
            self._found(name)

    def _retry_later(self) -> None:
        if self._timer is None:
            pause = delay(self._retries, self._max_retry_delay)
            self._retries += 1
            self._timer = asyncio.get_running_loop().call_later(pause, self._retry)

    def _retry(self) -> None:
        """Ask again for some of the channels that were refused."""
        self._timer = None
        if self._refused.keys() <= {self._echo}:
            return
        self._retried = set(itertools.islice(self._refused, CHUNK))
        for name in self._retried:
            del self._refused[name]
        if self._refused:
            self._retry_later()
        self._touch(*self._retried)

    def _look(self) -> None:
        # not all channels: where sessions subscribe to new ones all the time, some always wait
        if not self._first:
            self.is_settled.set()

    def _touch(self, *names: bytes) -> None:
        self._touched.update(names)
        self._changed.set()

    def _release(self, name: bytes) -> None:
        waiting = self._waiting.pop(name, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


def _chunks(names: set[bytes]) -> list[list[bytes]]:
    ordered = list(names)
    return [ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK)]
