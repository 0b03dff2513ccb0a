"""The load of a benchmark: opens sessions, lets them talk at the same time, and ends them."""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import async_timeout

from sockjs_aio.cli.bench.talker import Talker
from sockjs_aio.cli.bench.tally import Numbers, Tally
from sockjs_aio.client import ClientSocket, ConnectError, ConnectionClosedError, connect

_AT_ONCE = 50
"""Sessions that are being opened at the same time."""

SMALLEST = 24
"""Characters of a message that has nothing but its session's token and its number."""


@dataclass(frozen=True)
class Plan:
    """What to do.  Times are in seconds."""

    url: str
    transports: tuple[str, ...]
    new_session: Callable[[], aiohttp.ClientSession]
    """Makes what requests are made with.  Each SockJS session has its own, with cookies and TCP
    connections of its own, as each user has."""
    sessions: int
    in_flight: int
    size: int
    seconds: float
    timeout: float


class Load:
    """One benchmark.

    Args:
        plan: What to do.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan: Plan = plan
        self.tally: Tally = Tally()
        self.opened: int = 0
        self.opening_seconds: float = 0.0
        self.seconds: float = 0.0
        """For how long messages were sent."""
        self.received: int = 0
        """How many came back in that time."""
        self.processor_seconds: float = 0.0
        """For how long this program computed in that time."""
        self.is_interrupted: bool = False
        self._stop = asyncio.Event()
        self._start = asyncio.Event()
        self._opening = asyncio.Semaphore(_AT_ONCE)
        self._talking: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Open the sessions, let them talk, and end them."""
        began = time.perf_counter()
        tried = [asyncio.Event() for _ in range(self.plan.sessions)]
        users = [asyncio.create_task(self._use(event)) for event in tried]
        others = [asyncio.create_task(_all(tried)), asyncio.create_task(self._stop.wait())]
        try:
            await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
            self.opening_seconds = time.perf_counter() - began
            await self._measure()
            for user in set(users) - self._talking:
                user.cancel()
            await asyncio.wait(users)
            for user in users:
                if not user.cancelled():
                    user.result()
        finally:
            for task in users + others:
                task.cancel()
            await asyncio.gather(*users, *others, return_exceptions=True)

    def interrupt(self) -> None:
        """End early."""
        self.is_interrupted = True
        self._stop.set()

    async def _measure(self) -> None:
        self._start.set()
        began, computed = time.perf_counter(), time.process_time()
        await self._wait(self.plan.seconds)
        self._stop.set()
        self.received = self.tally.received
        self.seconds = time.perf_counter() - began
        self.processor_seconds = time.process_time() - computed

    async def _use(self, tried: asyncio.Event) -> None:
        """Have one session, and another one whenever it has failed; set `tried` after the first."""
        async with self.plan.new_session() as session:
            while not self._stop.is_set():
                try:
                    async with self._opening:
                        socket = await self._connect(session)
                    tried.set()
                    await self._talk(socket)
                except ConnectError as error:
                    self.tally.failed("not connected", str(error))
                except ConnectionClosedError as error:
                    self.tally.failed(f"closed {error.code}", str(error))
                tried.set()
                await self._wait(random.uniform(0, 1))

    async def _connect(self, session: aiohttp.ClientSession) -> ClientSocket:
        socket = await connect(self.plan.url, transports=self.plan.transports, session=session)
        self.opened += 1
        self.tally.transports[socket.transport] += 1
        return socket

    async def _talk(self, socket: ClientSocket) -> None:
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None, "there is one in a coroutine"
        self._talking.add(task)
        try:
            async with socket:
                await self._start.wait()
                await self._talk_with(socket)
        finally:
            self._talking.discard(task)

    async def _talk_with(self, socket: ClientSocket) -> None:
        plan = self.plan
        numbers = Numbers(secrets.token_hex(4), plan.size, self.tally)
        has_failed = True
        try:
            await Talker(socket, numbers, plan.in_flight, self._stop).talk(plan.timeout)
            has_failed = False
        finally:
            numbers.end(has_failed=has_failed)

    async def _wait(self, seconds: float) -> None:
        """Wait so long, or until `stop`."""
        with contextlib.suppress(asyncio.TimeoutError):
            async with async_timeout.timeout(seconds):
                await self._stop.wait()


async def _all(events: list[asyncio.Event]) -> None:
    for event in events:
        await event.wait()
