"""The memory of a server in a process of its own: bounded for each client, and given back."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import async_timeout
import pytest

from tests import clients
from tests.process import PATIENCE, ServerProcess
from tests.websocket_wire import handshake, masked
from tests.wire import Wire

Kind = type[clients.Client]
Start = Callable[..., Awaitable[ServerProcess]]

LIMIT = 4 << 20
"""The default `send_queue_limit`."""

MESSAGE = 65536

SLACK = 1 << 20
"""Bytes besides what is queued: a frame of 64 KiB exists up to five times while it is joined,
dressed and handed to the transport's buffer, which grows in steps; and malloc rounds up."""

MARGIN = 1 << 20
"""Bytes that the resident size may grow by in one more round of the same: one of obmalloc's arenas.
A tenth of a KiB of each of 10,000 polls would be more, and so would half a KiB of each of 2,000
WebSockets be."""

ROUNDS = 8
"""Within which the heap has the holes that it needs: three, as a rule."""


@pytest.fixture
async def start(unused_tcp_port: int) -> AsyncIterator[Start]:
    servers: list[ServerProcess] = []

    async def run(**settings: Any) -> ServerProcess:
        servers.append(await ServerProcess.start(unused_tcp_port, settings))
        return servers[-1]

    yield run
    for server in servers:
        assert await server.stop() == 0


PROMPT = 2.0
"""Seconds within which a client that takes nothing is closed; it takes hundredths."""

UNDISTURBED = 1.0
"""Seconds that nobody else's echo takes meanwhile; here, too, it is hundredths."""


class EchoClient:
    """Goes to and fro as fast as it can, and counts."""

    count = 0
    longest = 0.0  # seconds for an echo

    def __init__(self, client: clients.Client) -> None:
        self._client = client
        self._task = asyncio.ensure_future(self._run())

    @classmethod
    async def open(cls, server: ServerProcess) -> "EchoClient":
        return cls(await clients.WebSocket.open(server))

    async def _run(self) -> None:
        while True:
            start = time.monotonic()
            await self._client.send(str(self.count))
            assert await self._client.messages(1) == [str(self.count)]
            self.count += 1
            self.longest = max(self.longest, time.monotonic() - start)

    async def leave(self) -> None:
        assert not self._task.done(), self._task
        self._task.cancel()
        await self._client.leave()


# A client that does not read.


@pytest.mark.parametrize(
    "kind", [clients.WebSocket, clients.RawWebSocket, *clients.STREAMS], ids=lambda kind: kind.name
)
@pytest.mark.parametrize("way", ["pour", "queue"])  # one message a turn, or all in one
async def test_client_that_asks_for_100_mb_and_reads_nothing(
    start: Start, kind: Kind, way: str
) -> None:
    server = await start(response_limit=1 << 30, disconnect_delay=0.5)
    echo = await EchoClient.open(server)
    while echo.count < 100:
        await asyncio.sleep(0.01)
    round_trips = 0
    for number in range(1, 6):
        slow = await kind.open(server)
        slow.stop_reading()
        server.reset_peak()
        before, count = server.resident, echo.count
        await slow.send(f"{way} {MESSAGE} 1600")
        async with async_timeout.timeout(PROMPT):
            await server.until_ended("overflow", number)
        assert server.peak - before <= LIMIT + MESSAGE + SLACK
        round_trips += echo.count - count
        slow.abort()
    assert round_trips >= 5, "others are served all the while"
    assert echo.longest < UNDISTURBED
    await echo.leave()
    assert (await server.until_empty())["objects"] == 0


@pytest.mark.parametrize(
    "kind", [clients.WebSocket, clients.RawWebSocket, *clients.STREAMS], ids=lambda kind: kind.name
)
@pytest.mark.parametrize(("size", "count"), [(65536, 63), (1000, 3900), (100, 25_000)])
async def test_queue_that_just_fits_is_not_there_twice_while_it_is_written(
    start: Start, kind: Kind, size: int, count: int
) -> None:
    server = await start(response_limit=1 << 30)
    echo = await EchoClient.open(server)
    slow = await kind.open(server)
    slow.stop_reading()
    server.reset_peak()
    before = server.resident
    await slow.send(f"queue {size} {count}")
    round_trips = echo.count
    while echo.count < round_trips + 100:
        await asyncio.sleep(0.01)
    assert server.peak - before <= LIMIT + MESSAGE + SLACK
    assert (await server.stats())["ends"] == {}
    slow.abort()
    await echo.leave()


@pytest.mark.parametrize("path", ["/0/1/websocket", "/websocket"])
@pytest.mark.parametrize("way", ["noise", "queue"])
async def test_limit_holds_where_frames_are_compressed(start: Start, path: str, way: str) -> None:
    """What counts is what the client does not take, so "noise" does not get small."""
    server = await start(websocket_compression=True)
    echo = await EchoClient.open(server)
    while echo.count < 100:
        await asyncio.sleep(0.01)
    offer = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    wire = await handshake(server, path, **offer)
    wire.stop_reading()
    server.reset_peak()
    before = server.resident
    order = f"{way} {MESSAGE} 1600"
    wire.writer.write(masked(1, order.encode() if path == "/websocket" else f'"{order}"'.encode()))
    async with async_timeout.timeout(PROMPT):
        await server.until_ended("overflow")
    assert server.peak - before <= LIMIT + MESSAGE + SLACK
    assert echo.longest < UNDISTURBED
    wire.abort()
    await echo.leave()


@pytest.mark.parametrize("kind", clients.POLLS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("way", ["pour", "queue"])
async def test_client_that_asks_for_100_mb_and_never_polls(
    start: Start, kind: Kind, way: str
) -> None:
    server = await start()
    echo = await EchoClient.open(server)
    client = kind(server, {})
    method, url = client._request()  # type: ignore[attr-defined]
    round_trips = 0
    for number in range(1, 6):
        client.path = f"/000/{number}"
        reply = await server.request(method, client.path + url, b"" if method == "POST" else None)
        assert reply.status == 200
        server.reset_peak()
        before, count = server.resident, echo.count
        await client.send(f"{way} {MESSAGE} 1600")
        async with async_timeout.timeout(PROMPT):
            await server.until_ended("overflow", number)
        assert server.peak - before <= LIMIT + MESSAGE + SLACK
        round_trips += echo.count - count
    assert round_trips >= 5
    assert echo.longest < UNDISTURBED
    await echo.leave()


async def test_broadcast_costs_a_queue_for_each_session_that_never_polls(start: Start) -> None:
    limit = 1 << 19
    server = await start(send_queue_limit=limit, disconnect_delay=15)
    for number in range(20):
        await server.poll(f"/0/{number}")
    server.reset_peak()
    before = server.resident
    sender = await clients.WebSocket.open(server)
    for _ in range(20):
        await sender.send("broadcast " + "x" * MESSAGE)
        assert len((await sender.messages(1))[0]) == MESSAGE
    await server.until_ended("overflow", 20)
    assert server.peak - before <= 20 * (limit + MESSAGE) + 2 * SLACK
    assert await server.poll("/0/7") == b'c[1008,"Slow consumer"]'
    await sender.leave()


# A client that sends more than is handled.


async def test_posts_to_a_session_whose_hook_hangs(start: Start) -> None:
    """Ours is one body, however many wait; aiohttp's are the about 800 KiB that it reads ahead of
    each connection: twice its `read_bufsize` of 256 KiB, and what asyncio reads at a time.
    """
    server = await start(shutdown_timeout=0.1)
    echo = await EchoClient.open(server)
    await server.poll("/0/1")
    assert await server.post("/0/1", '["hang"]') == 204
    body = '["' + "x" * ((1 << 20) - 20) + '😀"]'  # for its sake each x takes 4 bytes as a str
    wires = [await Wire.connect(server.port) for _ in range(60)]
    server.reset_peak()
    before, round_trips = server.resident, echo.count
    for wire in wires:
        wire.send("POST", "/echo/0/1/xhr_send", body)
        await asyncio.sleep(0)
    while echo.count < round_trips + 300:
        await asyncio.sleep(0.01)
    decoded = 3 * 4 * len(body)  # in the inbox; in the hands of who waits; while it is decoded
    assert server.peak - before <= len(wires) * 13 * 65536 + decoded + SLACK
    for wire in wires:
        wire.abort()
    await echo.leave()


# Storms.


async def storm_of_polls(server: ServerProcess, name: str) -> None:
    """Open 10,000 sessions, and leave them alone."""

    async def poll(worker: int) -> None:
        wire = await Wire.connect(server.port)
        for batch in range(20):
            for number in range(25):
                wire.send("POST", f"/echo/{name}/{name}-{worker}-{batch}-{number}/xhr", b"")
            for _ in range(25):
                await wire.reader.readuntil(b"\r\n\r\no\n")
        wire.close()

    await asyncio.gather(*map(poll, range(20)))


async def storm_of_websockets(server: ServerProcess, name: str) -> None:
    """Open 2,000 WebSockets, and reset them, in batches."""
    for _ in range(20):
        wires = await asyncio.gather(*(handshake(server) for _ in range(100)))
        for wire in wires:
            wire.abort()
        server.wires.clear()


async def storm_of_streams(server: ServerProcess, name: str) -> None:
    """Open 1,200 streams of all kinds, and reset them, in batches."""
    for _ in range(10):
        members = await asyncio.gather(
            *(kind.open(server) for kind in clients.STREAMS for _ in range(40))
        )
        for member in members:
            member.abort()
        server.wires.clear()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("storm", [storm_of_polls, storm_of_websockets, storm_of_streams])
async def test_later_storms_cost_nothing(
    start: Start, storm: Callable[[ServerProcess, str], Awaitable[None]]
) -> None:
    server = await start(disconnect_delay=2, session_check_interval=0.1)
    tasks = (await server.stats())["tasks"]
    sizes: list[int] = []
    while len(sizes) < 2 or sizes[-1] > sizes[-2] + MARGIN:
        assert len(sizes) < ROUNDS, f"it grows and grows: {sizes}"
        await storm(server, f"round{len(sizes)}")
        async with async_timeout.timeout(PATIENCE):
            numbers = await server.until_empty()
            while numbers["tasks"] > tasks:  # of connections whose end nobody has noticed so far
                await asyncio.sleep(0.01)
                numbers = await server.stats()
        assert numbers["objects"] == 0
        sizes.append(numbers["resident"])
