"""Nodes that cannot reach each other any more, while Redis reaches both.

Packets are lost on a cable between two network namespaces; Redis is at a Unix socket.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import async_timeout
import pytest

from tests.brokers.redis_server import RedisServer
from tests.clients import Client
from tests.conftest import require
from tests.integration.cable import CLIENT, SERVER, Cable, FarTarget, cable, why_not
from tests.integration.haproxy import find_program
from tests.nodes.processes import SECRET, STREAMS, Node
from tests.wire import Wire

pytestmark = pytest.mark.redis

EXPIRY = 2.0

LIMIT = 20.0
"""Seconds for what takes 5 or so on a machine that is not busy; without a limit it takes 75."""


@pytest.fixture(autouse=True)
def needs_a_cable() -> None:
    require(find_program("ip"), "iproute2")
    if (reason := why_not()) is not None:
        if os.environ.get("CI") and os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)


@dataclass
class Pair:
    """Two nodes at the ends of a cable; each is talked to from its own end."""

    line: Cable
    owner: Node
    record: Node
    at_owner: FarTarget
    at_record: FarTarget

    async def ask(self, target: FarTarget, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Post something; return the answer's status and body."""
        wire = await target.wire()
        reply = await wire.request("POST", "/echo" + path, body)
        return reply.status, reply.body

    async def waiting(self, path: str) -> Wire:
        """Open a session at its owner, and poll it at the other node."""
        assert await self.ask(self.at_owner, path + "/xhr") == (200, b"o\n")
        wire = await self.at_record.wire()
        wire.send("POST", f"/echo{path}/xhr", b"")
        return wire

    async def until_relayed(self, count: int) -> None:
        """Wait until so many requests have gone to the owner, and are there as good as certain."""
        async with async_timeout.timeout(LIMIT):
            while True:
                wire = await self.at_record.wire()
                if b'"relayed": %d,' % count in (await wire.request("GET", "/stats")).body:
                    break
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)


@pytest.fixture
async def pair(own_redis: RedisServer, tmp_path: Path) -> AsyncIterator[Pair]:
    with cable() as line:
        nodes = []
        for namespace, host in ((line.server, SERVER), (line.client, CLIENT)):
            options = {"redis": own_redis.unix_url, "secret": SECRET, "expiry": EXPIRY}
            settings = {"disconnect_delay": 60, "heartbeat_delay": 40}
            made = {"nodes": options, "settings": settings}
            nodes.append(Node(made, tmp_path, host=host, namespace=namespace))
            nodes[-1].start()
        for node in nodes:
            node.until_ready()
        owner, record = nodes
        at_owner = FarTarget(line.server, owner.port, "/echo", SERVER)
        at_record = FarTarget(line.client, record.port, "/echo", CLIENT)
        yield Pair(line, owner, record, at_owner, at_record)
        for target in (at_owner, at_record):
            await target.hang_up()
        for node in nodes:
            node.kill()
            node.check()


async def test_a_send_on_a_kept_connection_is_answered_503_in_seconds(pair: Pair) -> None:
    assert await pair.ask(pair.at_owner, "/0/a/xhr") == (200, b"o\n")
    for _ in range(3):
        assert await pair.ask(pair.at_record, "/0/a/xhr_send", b'["x"]') == (204, b"")
    pair.line.cut()
    async with async_timeout.timeout(LIMIT):
        wire = await pair.at_record.wire()
        reply = await wire.request("POST", "/echo/0/a/xhr_send", b'["y"]')
    assert (reply.status, reply.header("Retry-After")) == (503, "5")
    assert f"the node at {pair.owner.url} cannot be reached" in pair.record.said
    # the session has not ended
    assert await pair.ask(pair.at_owner, "/0/a/xhr") == (200, b'a["x","x","x"]\n')
    pair.line.mend()
    assert await pair.ask(pair.at_record, "/0/a/xhr_send", b'["z"]') == (204, b"")
    assert await pair.ask(pair.at_owner, "/0/a/xhr") == (200, b'a["z"]\n')


async def test_many_sends_at_once_are_answered_503_in_seconds(pair: Pair) -> None:
    assert await pair.ask(pair.at_owner, "/0/a/xhr") == (200, b"o\n")

    async def send() -> int:
        return (await pair.ask(pair.at_record, "/0/a/xhr_send", b'["x"]'))[0]

    assert set(await asyncio.gather(*(send() for _ in range(20)))) == {204}
    pair.line.cut()
    start = time.monotonic()
    async with async_timeout.timeout(LIMIT):
        assert set(await asyncio.gather(*(send() for _ in range(20)))) == {503}
        first = time.monotonic() - start
        assert set(await asyncio.gather(*(send() for _ in range(20)))) == {503}
    assert first < LIMIT


async def test_polls_that_wait_are_answered_503_in_seconds(pair: Pair) -> None:
    wires = [await pair.waiting(f"/0/{number}") for number in range(3)]
    await pair.until_relayed(3)
    pair.line.cut()
    async with async_timeout.timeout(LIMIT):
        for wire in wires:
            reply = await wire.reply()
            assert (reply.status, reply.header("Retry-After")) == (503, "5")


@pytest.mark.parametrize("transport", STREAMS, ids=lambda transport: transport.name)
async def test_streams_end_in_seconds_and_in_an_orderly_way(
    pair: Pair, transport: type[Client]
) -> None:
    """Without a close frame: the session has not ended."""
    client: Any = transport(pair.at_record, {})
    assert await pair.ask(pair.at_owner, client.path + "/xhr") == (200, b"o\n")
    await client.connect()
    await pair.until_relayed(1)
    pair.line.cut()
    async with async_timeout.timeout(LIMIT):
        while True:
            try:
                assert await client.frame() == b""
                break
            except asyncio.TimeoutError:
                pass
