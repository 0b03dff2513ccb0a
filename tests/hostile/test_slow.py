"""Clients that take for ever: 200 at a time, while others are served.

aiohttp gives a connection `keepalive_timeout` from its beginning, or from its last response, until
a whole head has come; nothing in between counts.  Bodies have our `receive_timeout`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import async_timeout
import pytest

from tests import clients
from tests.conftest import Echo, Recorder, Serve, Served
from tests.hostile.raw_http import SESSION, exchange, head, post
from tests.hostile.refusals import SLOW, assert_refused
from tests.websocket_wire import HANDSHAKE
from tests.wire import Wire

CROWD = 200
BETWEEN_BYTES = 0.1
"""Seconds.  With a fifth of it, sending is most of what there is to do, for the clients too."""

HEAD = head(b"GET /echo/info HTTP/1.1", b"X: " + b"a" * 2000)
UPGRADE = head(
    b"GET /echo/000/a/websocket HTTP/1.1",
    *(f"{name}: {value}".encode() for name, value in HANDSHAKE.items()),
)
BODY = b'["' + b"a" * 2000


def body_to(path: str) -> tuple[bytes, bytes]:
    line = f"POST /echo{path} HTTP/1.1".encode()
    return head(line, b"Content-Length: 3000"), BODY


SLOW_CLIENTS: dict[str, tuple[bytes, bytes]] = {
    # what comes at once, and what comes byte by byte
    "head": (b"", HEAD[:-2]),
    "handshake": (b"", UPGRADE[:-2]),
    "half-a-handshake": (UPGRADE[: len(UPGRADE) // 2], b""),
    "xhr_send": body_to(SESSION + "/xhr_send"),
    "jsonp_send": body_to(SESSION + "/jsonp_send"),
    "xhr": body_to("/000/other/xhr"),
    "xhr_streaming": body_to("/000/other/xhr_streaming"),
}


@asynccontextmanager
async def trickling(served: Served, firsts: list[bytes], rest: bytes) -> AsyncIterator[list[Wire]]:
    """Have a crowd of connections send its first bytes at once, then `rest` byte by byte."""
    wires = [await served.wire() for _ in range(CROWD)]

    async def trickle() -> None:
        for wire, first in zip(wires, firsts, strict=True):
            wire.writer.write(first)
        for index in range(len(rest)):
            for wire in wires:
                if not wire.writer.transport.is_closing():
                    wire.writer.write(rest[index : index + 1])
            await asyncio.sleep(BETWEEN_BYTES)
        await asyncio.Event().wait()

    task = asyncio.ensure_future(trickle())
    yield wires
    task.cancel()
    for wire in wires:
        wire.abort()


@pytest.mark.parametrize(("first", "rest"), SLOW_CLIENTS.values(), ids=SLOW_CLIENTS)
async def test_others_are_served_on_every_transport(
    serve: Serve, first: bytes, rest: bytes
) -> None:
    served = await serve(Echo)
    assert await served.poll(SESSION) == b"o"
    async with trickling(served, [first] * CROWD, rest):
        opened = [await kind.open(served) for kind in clients.ALL]
        for number in range(20):
            for client in opened:
                await client.send(f"{number}")
            for client in opened:
                assert await client.messages(1) == [f"{number}"]
        for client in opened:
            await client.leave()


READING = [
    ("POST", "xhr_send"),
    ("POST", "jsonp_send"),
    ("POST", "xhr"),
    ("POST", "xhr_streaming"),
    ("GET", "jsonp?c=x"),
    ("GET", "eventsource"),
    ("GET", "htmlfile?c=x"),
]


async def told_and_closed(wire: Wire) -> None:
    reply = await wire.reply()
    assert_refused(reply, SLOW)
    assert reply.header("Connection") == "close"
    assert await wire.is_closed()


@pytest.mark.virtual_time
@pytest.mark.parametrize(("method", "url"), READING, ids=[url for _, url in READING])
async def test_body_that_never_ends_is_408_after_receive_timeout(
    serve: Serve, method: str, url: str
) -> None:
    class Noted(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            await super().on_message(message)
            self.send(message)

    settings = {"receive_timeout": 0.5, "disconnect_delay": 60, "heartbeat_delay": 61}
    served = await serve(Noted, settings=settings, lingering_time=0.1)
    paths = [f"/000/session{number}" for number in range(CROWD)]
    for path in paths:
        assert await served.poll(path) == b"o"
    await Noted.until("open", CROWD)
    length = b"Content-Length: 3000"
    heads = [head(f"{method} /echo{path}/{url} HTTP/1.1".encode(), length) for path in paths]
    started = asyncio.get_running_loop().time()
    async with trickling(served, heads, BODY) as wires, async_timeout.timeout(20):
        await asyncio.gather(*map(told_and_closed, wires))
    assert asyncio.get_running_loop().time() - started > 0.45
    for path in paths[::20]:
        assert await served.post(path, '["next"]') == 204
        assert await served.poll(path) == b'a["next"]'
    assert Noted.seen == ["open"] * CROWD + ["next"] * (CROWD // 20), "the sessions live on"


@pytest.mark.virtual_time
async def test_bodies_for_one_session_time_out_one_after_the_other(serve: Serve) -> None:
    served = await serve(Echo, settings={"receive_timeout": 0.1}, lingering_time=0.1)
    assert await served.poll(SESSION) == b"o"
    wires = [await served.wire() for _ in range(4)]
    for wire in wires:
        wire.writer.write(post(b"Content-Length: 5") + b'["a')
    async with async_timeout.timeout(10):
        for wire in wires:
            assert_refused(await wire.reply(), SLOW)
    assert await served.post(SESSION, '["next"]') == 204


async def test_client_may_be_slow_within_receive_timeout(serve: Serve) -> None:
    served = await serve(Echo)
    assert await served.poll(SESSION) == b"o"
    wire = await served.wire()
    for byte in post(b"Content-Length: 5") + b'["a"]':
        wire.writer.write(bytes([byte]))
        await asyncio.sleep(0.002)
    assert (await wire.reply()).status == 204
    assert await served.poll(SESSION) == b'a["a"]'


# What is aiohttp's.

UNFINISHED = {
    "nothing": b"",
    "half-a-line": b"GET /ec",
    "head-without-its-end": HEAD[:-2],
    "handshake-without-its-end": UPGRADE[:-2],
}


@pytest.mark.virtual_time
@pytest.mark.parametrize("data", UNFINISHED.values(), ids=UNFINISHED)
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "second"])
async def test_aiohttp_ends_an_unfinished_head_after_keepalive_timeout(
    serve: Serve, data: bytes, is_first: bool
) -> None:
    served = await serve(Echo, keepalive_timeout=0.4)
    wire = await served.wire()
    if not is_first:
        assert (await wire.request("GET", "/echo/info")).status == 200
    wire.writer.write(data)
    async with async_timeout.timeout(5):
        assert await wire.is_closed()


@pytest.mark.virtual_time
async def test_bytes_of_a_head_do_not_prolong_keepalive_timeout(serve: Serve) -> None:
    served = await serve(Echo, keepalive_timeout=0.4)
    async with trickling(served, [b""] * CROWD, HEAD[:-2]) as wires, async_timeout.timeout(15):
        for wire in wires:  # 2 KB at 10 bytes a second
            assert await wire.is_closed()


async def test_aiohttp_waits_an_hour_by_default(serve: Serve) -> None:
    served = await serve(Echo)
    wire = await served.wire()
    wire.writer.write(HEAD[:-2])
    await asyncio.sleep(0.05)
    (connection,) = served.http_connections()
    assert connection.keepalive_timeout == 3630


@pytest.mark.virtual_time
@pytest.mark.parametrize("path", ["/echo/info", "/echo/", "/echo/nothing", "/echo/000/a/htmlfile"])
async def test_aiohttp_reads_on_for_lingering_time_what_nobody_wants(
    serve: Serve, path: str
) -> None:
    served = await serve(Echo, lingering_time=0.3)
    data = head(f"GET {path} HTTP/1.1".encode(), b"Content-Length: 3000") + BODY
    wire, reply = await exchange(served, data)
    assert reply.status in (200, 404, 500)
    async with async_timeout.timeout(5):
        assert await wire.is_closed()
