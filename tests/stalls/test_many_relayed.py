"""Many requests that other processes answer, and many sessions that a node has recorded."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sockjs_aio.cluster.nodes.claim_keeper import ClaimKeeper
from sockjs_aio.cluster.nodes.claim_updates import ClaimUpdates
from sockjs_aio.cluster.nodes.claims import Claims
from sockjs_aio.cluster.relay.exchanges import LOOK_INTERVAL, Exchange, Exchanges
from sockjs_aio.core.registry import EXPIRED_FRAME
from tests.conftest import Serve
from tests.stalls.rooms import Silent
from tests.stalls.throwing import Thrower

MANY = 20_000


class TlsLine(asyncio.Transport):
    """A connection that asyncio encrypts, as far as one can ask."""

    def can_write_eof(self) -> bool:
        return False


class Relayed:
    """What an exchange needs of a client's request."""

    def __init__(self, transport: asyncio.Transport, session_id: str) -> None:
        self.transport = transport
        self.match_info = {"session_id": session_id}


async def answer() -> None:
    await asyncio.sleep(0.01)


@pytest.fixture
async def relayed() -> AsyncIterator[Exchanges]:
    """Requests that wait, each in a task of its own."""
    exchanges: Any = Exchanges()
    over = asyncio.Event()

    async def wait(request: Any) -> None:
        async with exchanges.entered(Exchange(request, exchanges, answer, is_send=False)):
            await over.wait()

    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as client:
        line = TlsLine({"socket": client})
        tasks = [asyncio.create_task(wait(Relayed(line, str(i)))) for i in range(MANY)]
        while len(exchanges) < MANY:
            await asyncio.sleep(0)
        yield exchanges
        exchanges.close()
        over.set()
        await asyncio.wait(tasks)


async def test_looking_for_clients_that_have_gone_does_not_hold_up_the_loop(
    throw: Thrower, relayed: Exchanges
) -> None:
    await throw(lambda: asyncio.sleep(LOOK_INTERVAL * 1.5))
    assert len(relayed) == MANY


async def test_asking_for_the_end_of_many_does_not_hold_up_the_loop(
    throw: Thrower, relayed: Exchanges
) -> None:
    relayed.close()  # does not look at them at the same time

    async def attempt() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(relayed.end(), 0.5)

    await throw(attempt)


class Directory:
    """Redis, which answers at once."""

    lost_at: float

    async def register(self, names: list[str]) -> dict[str, str | None]:
        return {}

    async def remove(self, claims: list[tuple[str, str]]) -> None:
        pass


class Locator:
    """The claims, and no other nodes."""

    def __init__(self, directory: Any) -> None:
        self.claims = Claims()
        self.updates = ClaimUpdates(directory, self.claims)
        self.nodes = self
        self.names: list[str] = []


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "never-opened"])
async def test_a_node_gives_up_many_claims_without_holding_up_the_loop(
    throw: Thrower, serve: Serve, ended: bool
) -> None:
    registry = (await serve(Silent)).router._registry
    directory: Any = Directory()
    locator: Any = Locator(directory)
    keeper = ClaimKeeper(
        directory, locator, lambda node: None, interval=1, expiry=1, refresh_after=60
    )

    def claim() -> None:
        for number in range(MANY):
            with locator.claims.use(str(number), registry, str(number)):
                if ended:
                    registry._by_id[str(number)] = registry  # type: ignore[assignment]
        if ended:  # and the node has not looked since
            registry._by_id.clear()
            for number in range(MANY):
                registry.ended_sessions.add(str(number), EXPIRED_FRAME, registry.now())
        assert len(locator.claims) == (MANY if ended else 0)
        directory.lost_at = registry.now()  # so all are to be refreshed

    async def attempt() -> None:
        await keeper.look()
        assert not len(locator.claims)
        assert not locator.claims.given_up_count

    await throw(attempt, claim)
