"""Clients that vanish without a word are noticed within the time that the docs state.

Real packets are lost, on a cable between two network namespaces.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import CloseInfo
from tests import clients
from tests.conftest import Recorder, Serve, require
from tests.integration.cable import Cable, FarTarget, cable, listening, why_not
from tests.integration.haproxy import find_program

HEARTBEAT_DELAY, DISCONNECT_DELAY, INTERVAL = 1.0, 0.7, 0.05

SLACK = 1.5
"""Seconds that a busy machine may take besides."""


@pytest.fixture(autouse=True)
def needs_a_cable() -> None:
    require(find_program("ip"), "iproute2")
    if (reason := why_not()) is not None:
        if os.environ.get("CI") and os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)


class Vanishing(Recorder):
    """Notes when and how the session of each transport ended."""

    ends: dict[str, tuple[float, CloseInfo]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.ends = {}

    async def on_close(self) -> None:
        assert self.close_info is not None
        self.ends[self.close_info.transport] = time.monotonic(), self.close_info
        await super().on_close()

    @classmethod
    async def seconds_from(cls, start: float, count: int) -> dict[str, float]:
        """Wait for `count` ends, by time-out all; return how long after `start` they came."""
        async with async_timeout.timeout(20):
            while len(cls.ends) < count:
                await asyncio.sleep(0.01)
        assert {info.initiator for _, info in cls.ends.values()} == {"timeout"}
        return {name: end - start for name, (end, _) in cls.ends.items()}


@asynccontextmanager
async def far(serve: Serve, connection: type[Vanishing]) -> AsyncIterator[tuple[Cable, FarTarget]]:
    """Run a server at one end of a cable, to be spoken to from the other."""
    settings = {
        "heartbeat_delay": HEARTBEAT_DELAY,
        "disconnect_delay": DISCONNECT_DELAY,
        "session_check_interval": INTERVAL,
    }
    served = await serve(connection, settings=settings)
    with cable() as line:
        listener = listening(line.server)
        await web.SockSite(served.runner, listener).start()
        target = FarTarget(line.client, listener.getsockname()[1], served.prefix)
        try:
            yield line, target
        finally:
            await target.hang_up()


@asynccontextmanager
async def behaving(target: FarTarget) -> AsyncIterator[None]:
    """Have a client of each transport, which answers pings and polls again and again."""
    members = [await kind.open(target) for kind in clients.ALL]
    reading = [asyncio.ensure_future(member.messages(10**6)) for member in members]
    try:
        yield
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for member in members:
            member.abort()


async def test_silent_sessions_end_within_two_heartbeats_or_one_and_disconnect_delay(
    serve: Serve,
) -> None:
    class Noted(Vanishing):
        pass

    async with far(serve, Noted) as (line, target), behaving(target):
        await asyncio.sleep(HEARTBEAT_DELAY * (1.5 + random.random()))
        assert Noted.ends == {}
        line.cut()
        took = await Noted.seconds_from(time.monotonic(), len(clients.ALL))
    for kind in clients.ALL:
        last = DISCONNECT_DELAY if kind in clients.POLLS else HEARTBEAT_DELAY
        assert took[kind.name] < HEARTBEAT_DELAY + last + INTERVAL + SLACK, took


async def test_sessions_with_messages_on_their_way_end_within_two_delays(serve: Serve) -> None:
    class Noted(Vanishing):
        pass

    async with far(serve, Noted) as (line, target), behaving(target):
        await Noted.until("open", len(clients.ALL))
        line.cut()
        start = time.monotonic()
        for connection in Noted.connections:
            connection.send("x")
        took = await Noted.seconds_from(start, len(clients.ALL))
    for kind in clients.ALL:
        delay = DISCONNECT_DELAY if kind in clients.POLLS else HEARTBEAT_DELAY
        assert took[kind.name] < 2 * delay + INTERVAL + SLACK, took


async def test_clients_that_vanish_between_polls_expire_after_disconnect_delay(
    serve: Serve,
) -> None:
    class Noted(Vanishing):
        pass

    async with far(serve, Noted) as (line, target):
        for kind in clients.POLLS:
            client = kind(target, {})
            method, url = client._request()
            wire = await target.wire()
            path = target.prefix + client.path + url
            assert (
                await wire.request(method, path, b"" if method == "POST" else None)
            ).status == 200
        line.cut()
        took = await Noted.seconds_from(time.monotonic(), len(clients.POLLS))
    assert max(took.values()) < DISCONNECT_DELAY + INTERVAL + SLACK
    assert {info.reason for _, info in Noted.ends.values()} == {"Session expired"}
