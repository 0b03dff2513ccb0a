"""The requests that this process is relaying to others at the moment, and their clients."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from sockjs_aio.core.tcp import is_left, is_left_unseen
from sockjs_aio.server.service import Service
from sockjs_aio.turns import Turn, in_turns

RELEASE_INTERVAL = 0.3
"""Seconds after which a response that was asked to end, and has not, is asked again."""

LOOK_INTERVAL = 0.2
"""Seconds between two checks for clients that have gone: without ``handler_cancellation`` aiohttp
does not report them."""


class Exchange:
    """One request that another process answers.  Create it in the task that handles the request.

    Args:
        request: The client's request.
        service: The service that it is for.
        release: Asks the other process to end its response.
        is_send: Whether it is a send, and not a receiving request.
    """

    __slots__ = ("release", "key", "_request", "_task")

    def __init__(
        self,
        request: web.Request,
        service: Service,
        release: Callable[[], Awaitable[object]],
        *,
        is_send: bool,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None, "create an Exchange in the task of its request"
        self.release: Callable[[], Awaitable[object]] = release
        self.key: tuple[int, str] | None = None
        if not is_send:
            self.key = (id(service), request.match_info["session_id"])
        self._request = request
        self._task = task

    @property
    def is_left(self) -> bool:
        """Whether the client has gone, including where asyncio would never notice."""
        transport = self._request.transport
        return transport is None or is_left_unseen(transport)

    async def end_if_left(self) -> None:
        """Cancel it if the client has gone, even if only the kernel knows so far."""
        transport = self._request.transport
        if transport is None or is_left(transport):
            self.let_go()
            await asyncio.wait([self._task])

    def let_go(self) -> None:
        """Cancel it, so that the other process sees the client leave."""
        self._task.cancel()


class Exchanges:
    """All exchanges of this process."""

    def __init__(self) -> None:
        self.count: int = 0
        """How many requests were relayed so far."""
        self._all: set[Exchange] = set()
        self._receiving: dict[tuple[int, str], Exchange] = {}
        self._empty = asyncio.Event()
        self._look: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._all)

    @contextlib.asynccontextmanager
    async def entered(self, exchange: Exchange) -> AsyncIterator[None]:
        """Keep `exchange` for as long as it takes.

        If the client has aborted an earlier poll, that one is cancelled first: otherwise the new
        poll would be refused because the old one is still waiting.
        """
        key = exchange.key
        earlier = None if key is None else self._receiving.get(key)
        if earlier is not None:
            await earlier.end_if_left()
        self.count += 1
        self._all.add(exchange)
        if key is not None:
            self._receiving[key] = exchange
        if self._look is None:
            self._look_later()
        try:
            yield
        finally:
            self._all.remove(exchange)
            if key is not None and self._receiving.get(key) is exchange:
                del self._receiving[key]
            if not self._all:
                self._empty.set()

    async def end(self) -> None:
        """Ask for an end of all of them, and wait until none is left.

        Their clients then send new requests, to other processes.  The request to end is repeated:
        an exchange may have begun meanwhile, or its owner may not have had it yet.
        """
        while self._all:
            await self._release_all()
            # no timeout: before Python 3.11 it could hide that of the caller, see `cancellations`
            finished = asyncio.ensure_future(self.finished())
            try:
                await asyncio.wait([finished], timeout=RELEASE_INTERVAL)
            finally:
                finished.cancel()

    async def _release_all(self) -> None:
        turn = Turn()
        asking: list[asyncio.Future[object]] = []
        try:
            for exchange in list(self._all):
                if exchange.key is not None and exchange in self._all:
                    asking.append(asyncio.ensure_future(exchange.release()))
                if turn.is_over:
                    await turn.next()
            await asyncio.gather(*asking, return_exceptions=True)
        finally:
            for asked in asking:
                asked.cancel()

    async def finished(self) -> None:
        """Wait until none is left."""
        while self._all:
            self._empty.clear()
            await self._empty.wait()

    def close(self) -> None:
        """Stop checking for clients that have gone."""
        if self._look is not None:
            self._look.cancel()

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(LOOK_INTERVAL, self._look_around)

    def _look_around(self) -> None:
        in_turns(list(self._all), self._look_at, self._has_looked)

    def _look_at(self, exchange: Exchange) -> None:
        if exchange in self._all and exchange.is_left:
            exchange.let_go()

    def _has_looked(self) -> None:
        if self._look is None or self._look.cancelled():  # closed meanwhile
            return
        self._look = None
        if self._all:
            self._look_later()
