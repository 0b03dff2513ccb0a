"""What `core/plain_write.py` assumes of asyncio, and that its bytes reach only their own client.

If a test fails with a new version of Python, `write_plain` must do something else there.
"""

import asyncio
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sockjs_aio.core.plain_write import write_plain

pytestmark = pytest.mark.not_over("uvloop", "eager", "debug")  # they are other loops, or no other

Connect = Callable[[], Awaitable["Connected"]]


class Noting(asyncio.Protocol):
    """A protocol that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def eof_received(self) -> bool:
        self.told.append("eof")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost" if exc is None else type(exc).__name__)
        self.lost.set_result(None)


class Connected:
    """A connection of a server, and the socket of its client."""

    def __init__(self, transport: Any, protocol: Noting, client: socket.socket) -> None:
        self.transport = transport
        self.protocol = protocol
        self.client = client
        self.writes: list[bytes] = []
        write = transport.write

        def noted(data: Any) -> None:
            self.writes.append(bytes(data))
            write(data)

        transport.write = noted

    async def receive(self, count: int) -> bytes:
        """Read `count` bytes at the client."""
        loop, data = asyncio.get_running_loop(), b""
        while len(data) < count:
            piece = await loop.sock_recv(self.client, 65536)
            assert piece, "the connection has ended"
            data += piece
        return data


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connect a client to a server of this event loop, over TCP."""
    loop = asyncio.get_running_loop()
    made: list[Connected] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def start() -> Connected:
            client = socket.socket()
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(client, listener.getsockname())
            accepted, _ = await loop.sock_accept(listener)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            transport, protocol = await loop.connect_accepted_socket(Noting, accepted)
            made.append(Connected(transport, protocol, client))
            return made[-1]

        yield start
    for one in made:
        one.client.close()
        one.transport.abort()
    await asyncio.sleep(0)


# What is assumed of asyncio.


async def test_servers_transport_has_the_names_that_are_used(connect: Connect) -> None:
    """Otherwise asyncio's `write` is used, which is right, but slower."""
    one = await connect()
    assert write_plain(one.transport, b"x") == 0
    assert await one.receive(1) == b"x"
    assert one.writes == []


async def test_buffer_is_true_until_the_kernel_has_all(connect: Connect) -> None:
    """Otherwise bytes would overtake those that asyncio buffers."""
    one = await connect()
    assert not one.transport._buffer
    one.transport.write(b"x" * 1_000_000)
    assert one.transport._buffer
    size = one.transport.get_write_buffer_size()
    assert write_plain(one.transport, b"y") == size + 1
    assert await one.receive(1_000_001) == b"x" * 1_000_000 + b"y"
    assert not one.transport._buffer


@pytest.mark.parametrize("way", ["close", "abort", "reset", "eof", "fatal"])
async def test_transport_is_closing_before_it_gives_its_socket_up(
    connect: Connect, way: str
) -> None:
    """Otherwise what is written would raise, instead of being dropped."""
    one = await connect()
    await end(one, way)
    assert one.transport._closing
    while not one.protocol.lost.done():
        assert one.transport._closing and one.transport._sock is not None
        await asyncio.sleep(0)
    assert one.transport._closing and one.transport._sock is None


# What is written.


async def test_rest_that_the_kernel_does_not_take_is_buffered_by_asyncio(connect: Connect) -> None:
    one = await connect()
    data = os.urandom(1_000_000)
    buffered = write_plain(one.transport, data)
    assert 0 < buffered < len(data)
    (rest,) = one.writes
    assert len(data) > len(rest) >= buffered and data.endswith(rest)
    assert one.protocol.told == ["pause"]
    assert await one.receive(len(data)) == data
    assert one.protocol.told == ["pause", "resume"]
    assert write_plain(one.transport, b"x") == 0


async def test_bytes_keep_their_order_whoever_writes_them(connect: Connect) -> None:
    one, chance = await connect(), random.Random(1)
    sent, received = b"", b""
    for _ in range(300):
        data = os.urandom(chance.choice((1, 100, 10_000)))
        if chance.random() < 0.8:
            buffered = write_plain(one.transport, data)
            assert buffered == one.transport.get_write_buffer_size()
        else:
            one.transport.write(data)
        sent += data
        if chance.random() < 0.5:
            received += await one.receive(len(sent) - len(received) - chance.choice((0, 0, 1)))
    received += await one.receive(len(sent) - len(received))
    assert received == sent
    assert 50 < len(one.writes) < 250, "both ways were taken"


async def test_loss_that_only_a_write_notices_is_told_once(connect: Connect) -> None:
    one = await connect()
    one.transport.pause_reading()
    reset(one.client)
    for _ in range(3):
        write_plain(one.transport, b"x")
    assert one.transport.is_closing()
    await one.protocol.lost
    assert len(one.protocol.told) == 1 and one.protocol.told[0].endswith("Error")


async def test_other_transports_are_only_asked_what_is_documented() -> None:
    class Other(asyncio.Transport):
        def __init__(self) -> None:
            super().__init__()
            self.written = b""
            self.is_closed = False

        def is_closing(self) -> bool:
            return self.is_closed

        def write(self, data: Any) -> None:
            self.written += data

        def get_write_buffer_size(self) -> int:
            return len(self.written)

    other = Other()
    assert write_plain(other, b"xyz") == 3
    other.is_closed = True
    assert write_plain(other, b"more") == 3
    assert other.written == b"xyz"


# What never gets to another client: a connection that has ended leaves its descriptor to the next.


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


async def end(one: Connected, way: str) -> None:
    """End a connection; return as soon as its transport has begun to close."""
    if way == "close":
        one.transport.close()
    elif way == "close full":
        one.transport.write(b"x" * 1_000_000)
        one.transport.close()
    elif way == "abort":
        one.transport.abort()
    elif way == "fatal":
        one.transport._fatal_error(OSError("lost"))
    elif way == "reset":
        reset(one.client)
    else:
        one.client.shutdown(socket.SHUT_WR)
    while not one.transport.is_closing():
        await asyncio.sleep(0)


@pytest.mark.parametrize("moment", ["at once", "when it is lost", "when the descriptor is reused"])
@pytest.mark.parametrize("way", ["close", "close full", "abort", "reset", "eof", "fatal"])
async def test_nothing_is_written_once_a_connection_ends(
    connect: Connect, way: str, moment: str
) -> None:
    one = await connect()
    number = one.transport.get_extra_info("socket").fileno()
    await end(one, way)
    others: list[tuple[socket.socket, socket.socket]] = []
    if moment != "at once":
        if way == "close full":
            one.transport.abort()
        await one.protocol.lost
    if moment == "when the descriptor is reused":
        while not any(number in (a.fileno(), b.fileno()) for a, b in others):
            others.append(socket.socketpair())
    before = one.transport.get_write_buffer_size()
    assert write_plain(one.transport, b"secret") == before
    sockets = [each for pair in others for each in pair]
    for each in sockets:
        each.setblocking(False)
        with pytest.raises(BlockingIOError):  # there is nothing to read
            each.recv(100)
    for each in sockets:
        each.close()
    assert one.writes in ([], [b"x" * 1_000_000])
