"""The link to Redis: a pair of connections, one for subscriptions and one for commands.

When one of them is lost, or Redis does not answer in time, both are closed and opened again, after
a delay that grows.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import async_timeout
from redis.asyncio.connection import AbstractConnection

from sockjs_aio.brokers.base import State
from sockjs_aio.brokers.redis.backoff import delay
from sockjs_aio.brokers.redis.commands import Command, Commands
from sockjs_aio.brokers.redis.rate_limited_log import RateLimitedLog, Reasons
from sockjs_aio.brokers.redis.replies import FAILURES, reason
from sockjs_aio.brokers.redis.server import Server
from sockjs_aio.brokers.redis.subscriber import Subscriber
from sockjs_aio.cancellations import end
from sockjs_aio.errors import BrokerUnavailableError

logger: logging.Logger = logging.getLogger("sockjs_aio.broker")

LOOKS = 8
"""Checks within the time that Redis has to answer; a blocked event loop costs only one of them."""


class Link:
    """Keeps the two connections until `stop`.

    Args:
        server: Where Redis is.
        echo: A Redis channel that only this link uses, to check that published messages come back.
        receive: Called for each message, with the name of its Redis channel and the payload.
        serve: What to await with this link while it is up.
        lost: Called when the process starts to miss messages.
        found: Called with the name of each Redis channel whose messages were missed, once it works.
        timeout: After this many seconds without an answer, the connections are closed.
        max_retry_delay: The longest delay between two attempts to connect, in seconds.
        queue_limit: Bytes of commands that may wait.
        rate_limited: The log for what Redis refuses.
    """

    def __init__(
        self,
        server: Server,
        echo: bytes,
        receive: Callable[[bytes, bytes], None],
        *,
        serve: "Sequence[Callable[[Link], Coroutine[Any, Any, None]]]",
        lost: Callable[[], None],
        found: Callable[[bytes], None],
        timeout: float,
        max_retry_delay: float,
        queue_limit: int,
        rate_limited: RateLimitedLog,
    ) -> None:
        self._state: State = "connecting"
        self.number: int = 0  # counts the pairs of connections
        self._server = server
        self._echo = echo
        self._serve = serve
        self._lost = lost
        self._timeout = timeout
        self._max_retry_delay = max_retry_delay
        self._down_since = 0.0
        self._why = ""  # why the link is down
        self._reasons = Reasons()
        self._subscriber = Subscriber(
            echo,
            receive,
            lost=lost,
            found=found,
            max_retry_delay=max_retry_delay,
            rate_limited=rate_limited,
        )
        self._commands = Commands(queue_limit, server.probe)
        self.listen: Callable[[bytes], None] = self._subscriber.listen
        self.unlisten: Callable[[bytes], None] = self._subscriber.unlisten
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def state(self) -> State:
        """``"degraded"`` if it is connected but Redis refuses channels; else see `Broker`."""
        is_degraded = self._state == "connected" and self._subscriber.missing
        return "degraded" if is_degraded else self._state

    async def stop(self, finish: "Callable[[Link], Coroutine[Any, Any, None]]") -> None:
        """Await `finish`, and the answers to the queued commands, for `timeout`; then end."""
        try:
            if self._state == "connected":
                with contextlib.suppress(BrokerUnavailableError, asyncio.TimeoutError):
                    async with async_timeout.timeout(self._timeout):
                        await finish(self)
                        await self.call_with_room(lambda: [("PING",)])
        finally:
            self._state, self._why = "stopped", "the broker was stopped"
            await end(self._task)
            self._give_up(self._why)

    @property
    def is_over(self) -> bool:
        """Whether nothing would be answered."""
        return self._state in ("reconnecting", "stopped")

    async def confirmed(self, name: bytes) -> None:
        """Wait until Redis has confirmed the subscription to `name`; if it is down, do not wait."""
        if not self.is_over:
            await self._subscriber.confirmed(name)

    async def call(self, *commands: Command, failed: "Callable[[], object] | None" = None) -> Any:
        """Run `commands` in order, after those already queued; return the last answer.

        `failed` is called if the last one fails after this call was cancelled.

        Raises:
            BrokerUnavailableError: If the link is down or is lost, or Redis refuses the command.
        """
        if self.is_over:
            raise BrokerUnavailableError(self._why)
        return await self._commands.call(*commands, failed=failed)

    async def call_with_room(self, make: Callable[[], Sequence[Command]]) -> Any:
        """Run the commands that `make` returns, as soon as the queue has room for them.

        Raises:
            BrokerUnavailableError: If the link is down or is lost, or Redis refuses the command.
        """

        def make_now() -> Sequence[Command]:
            if self.is_over:  # perhaps only since there was no room
                raise BrokerUnavailableError(self._why)
            return make()

        return await self._commands.call_with_room(make_now)

    def cast(self, *commands: Command, failed: "Callable[[], object] | None" = None) -> bool:
        """Run `commands` without waiting; return False if the link is down or has no room for them.

        `failed` is called for each command that Redis refuses, or that is lost with the link.
        """
        return not self.is_over and self._commands.cast(*commands, failed=failed)

    async def _run(self) -> None:
        attempts = 0
        while self._state != "stopped":
            self.number += 1
            begun = _now()
            try:
                await self._keep()
            except FAILURES as error:
                self._report(f"Redis at {self._server}: {reason(error)}")
            except Exception as error:
                self._report(f"Redis at {self._server}: the link failed", error)
            if _now() - begun > self._max_retry_delay:
                attempts = 0  # the link was up for a while
            await asyncio.sleep(delay(attempts, self._max_retry_delay))
            attempts += 1

    def _report(self, why: str, error: Exception | None = None) -> None:
        """Log that the connections are lost, each reason once until they are back."""
        if self._state == "stopped":
            return  # it closes the connections itself, so an error is not a loss
        if self._state != "reconnecting":
            self._state = "reconnecting"
            self._down_since = _now()
            self._lost()
            self._reasons.clear()
            text = "%s; from now on, messages from other processes are lost"
        else:
            text = "%s; messages from other processes are still being lost"
        if self._reasons.is_new(why):
            logger.warning(text, why, exc_info=error)
        self._give_up(why)

    async def _keep(self) -> None:
        """Connect and stay connected; raise when a connection is lost."""
        async with contextlib.AsyncExitStack() as closing:  # one that fails must not keep the other
            await _all(self._use(closing), self._watch())

    async def _use(self, closing: contextlib.AsyncExitStack) -> None:
        connections: list[AbstractConnection] = []
        for half in (self._subscriber, self._commands):
            connections.append(await self._server.connection())
            closing.push_async_callback(connections[-1].disconnect, nowait=True)
            half.heard += 1
        listening, asking = connections
        await _all(
            self._subscriber.read(listening),
            self._subscriber.write(listening),
            self._commands.run(asking),
            self._serve_when_settled(),
            self._listen_to_itself(),
            self._follow_primary(connections),
        )

    async def _serve_when_settled(self) -> None:
        await self._subscriber.is_settled.wait()
        was_lost = self._state == "reconnecting"
        if was_lost:
            seconds = _now() - self._down_since
            logger.warning(
                "Redis at %s: connected again after %.1f s; channels work again",
                self._server,
                seconds,
            )
        self._state = "connected"
        await _all(self._subscriber.go_live(was_lost), *(serve(self) for serve in self._serve))

    async def _watch(self) -> None:
        """Raise `TimeoutError` if Redis sends nothing for `timeout` seconds, with two pings."""
        halves = {half: (half.heard, 0) for half in (self._subscriber, self._commands)}
        for look in itertools.count(1):
            # "+ 1": what comes just after one look is noticed only by the next
            await asyncio.sleep(self._timeout / (LOOKS + 1))
            for half, (heard, quiet) in halves.items():
                quiet = quiet + 1 if half.heard == heard else 0
                halves[half] = half.heard, quiet
                if quiet == LOOKS:
                    raise asyncio.TimeoutError
                # ping even if there is traffic: a replica accepts PUBLISH
                if look % (LOOKS // 2) == 0:
                    half.ping()

    async def _listen_to_itself(self) -> None:
        """Raise `ConnectionError` if published messages do not come back.

        Then the two connections lead to unrelated servers, as can happen during a failover.
        """
        while True:
            await asyncio.sleep(self._timeout / 2)
            if not self._subscriber.hears_echo:
                continue
            echoes = self._subscriber.echoes
            try:
                await self._commands.call(("PUBLISH", self._echo, b""))
            except BrokerUnavailableError:
                continue  # the queue is full, or Redis does not allow PUBLISH
            await self._subscriber.answered()  # a server sends the answer after the echo
            await asyncio.sleep(self._timeout / 2)  # a replica may lag behind
            if self._subscriber.echoes == echoes:
                raise ConnectionError("published messages do not come back")

    async def _follow_primary(self, connections: list[AbstractConnection]) -> None:
        """Raise `ConnectionError` if the Sentinels, if there are any, name another server."""
        while True:
            await asyncio.sleep(self._timeout / 2)
            await self._server.check_primary(connections)

    def _give_up(self, why: str) -> None:
        self._why = why
        self._subscriber.lose()
        self._commands.lose(why)


async def _all(*work: Coroutine[Any, Any, None]) -> None:
    """Run all of `work` until one fails, and raise its exception."""
    tasks = [asyncio.ensure_future(x) for x in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        await end(*tasks)
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def _now() -> float:
    return asyncio.get_running_loop().time()
