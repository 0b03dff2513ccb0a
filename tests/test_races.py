"""Things that happen at the same moment, and clients that do what none should."""

import asyncio
import contextlib
import json
import logging
import os
import socket
import time
from typing import Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo
from sockjs_aio.core.request_session import RequestSession
from tests import clients
from tests.conftest import PATIENCE, SHORT, Echo, Recorder, Serve
from tests.openers import UPGRADE, openers
from tests.websocket_wire import close_code, frame, handshake, masked

streams_and_socket = pytest.mark.parametrize(
    "kind", [clients.WebSocket, *clients.STREAMS], ids=lambda kind: kind.name
)
Kind = type[clients.Client]


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


async def test_sending_from_another_thread_fails_and_harms_nobody(serve: Serve) -> None:
    class Relay(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send(message)

    served = await serve(Relay)
    first, second = await clients.WebSocket.open(served), await clients.WebSocket.open(served)
    await Relay.until("open", 2)
    with pytest.raises(RuntimeError, match=r"call router\.call_threadsafe"):
        await asyncio.to_thread(Relay.connections[0].send, "from a thread")
    for client in (second, first):
        await client.send("a")
        assert await client.messages(1) == ["a"]
        await client.leave()


@pytest.mark.parametrize("path", ["xhr", "xhr_streaming"])
async def test_expired_session_whose_hook_runs_is_not_found_again(serve: Serve, path: str) -> None:
    class Slow(Recorder):
        gate = asyncio.Event()

        async def on_close(self) -> None:
            self.seen.append("closing")
            await self.gate.wait()
            await super().on_close()

    served = await serve(Slow, settings=SHORT)
    assert await served.poll("/0/1") == b"o"
    await Slow.until("closing")
    wire = await served.wire()
    wire.send("POST", f"/echo/0/1/{path}", b"")
    head = await wire.head()
    body = await wire.reader.readline() if path == "xhr" else (await wire.chunk())[:0]
    if path == "xhr_streaming":
        body = await wire.chunk()
    assert (head.status, body) == (200, b'c[1002,"Session expired"]\n')
    Slow.gate.set()
    await Slow.until("close")
    wire.close()


async def test_shutdown_does_not_wait_for_the_backlog_of_a_lost_session(serve: Serve) -> None:
    class Slow(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.seen.append("begins")
            await asyncio.sleep(60)

    settings = {**SHORT, "shutdown_timeout": 0.1}
    served = await serve(Slow, settings=settings)
    await served.poll("/0/1")
    await served.post("/0/1", json.dumps(["x"] * 200))
    await Slow.until("begins")
    await asyncio.sleep(0.3)  # it has expired
    start = time.monotonic()
    await served.router.shutdown()
    assert time.monotonic() - start < 3
    assert Slow.seen == ["open", "begins", "close"]


@pytest.mark.virtual_time
@streams_and_socket
async def test_client_that_takes_nothing_does_not_hold_a_hook_in_drain(
    serve: Serve, kind: Kind
) -> None:
    class Draining(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            while not self.is_closed:
                self.send("x" * 100_000)
                await self.drain()
            self.seen.append("told")

    settings = {**SHORT, "heartbeat_delay": 0.2, "response_limit": 1 << 30}
    served = await serve(Draining, settings=settings)
    client = await kind.open(served)
    client.stop_reading()
    await client.send("a")
    await Draining.until("close")
    assert Draining.seen == ["open", "told", "close"]
    client.abort()


@pytest.mark.slow
@streams_and_socket
async def test_slow_client_that_takes_something_is_kept(serve: Serve, kind: Kind) -> None:
    class Pouring(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            for _ in range(100):  # for a second, which is ten times the disconnect delay
                self.send("x" * 100_000)
                await self.drain()
            self.seen.append("poured")

    settings = {**SHORT, "heartbeat_delay": 0.2, "response_limit": 1 << 30}
    served = await serve(Pouring, settings=settings)
    client = await kind.open(served)
    transport = (
        client.socket._writer.transport
        if isinstance(client, clients.WebSocket)
        else client.wire.writer.transport
    )
    await client.send("a")

    async def read_slowly() -> None:
        while "poured" not in Pouring.seen and "close" not in Pouring.seen:
            transport.pause_reading()
            await asyncio.sleep(0.1)
            transport.resume_reading()
            await asyncio.sleep(0.001)

    reading = asyncio.ensure_future(read_slowly())
    messages = await client.messages(100)
    assert [len(message) for message in messages] == [100_000] * 100
    await reading
    assert "close" not in Pouring.seen
    await client.leave()


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        masked(1, b'["a'),
        masked(8, b""),
        masked(2, b"x"),
        masked(1, b'"x"', rsv=0x40),
        masked(1, b'["","",""]'),
    ],
    ids=["broken", "close", "binary", "reserved", "many"],
)
async def test_connection_of_a_client_that_does_not_read_is_cut(serve: Serve, data: bytes) -> None:
    class Large(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            self.send("x" * 16_000_000)
            await super().on_open(info)

    settings = {**SHORT, "max_messages": 2, "heartbeat_delay": 60}
    served = await serve(Large, settings=settings)
    wire = await handshake(served)
    wire.stop_reading()
    await Large.until("open")
    wire.writer.write(data)
    await Large.until("close")
    await served.until_empty()
    server = served.runner.server
    assert server is not None
    for _ in range(500):
        if not server.connections:
            break
        await asyncio.sleep(0.01)
    assert not server.connections
    wire.abort()


async def test_idle_connection_is_cut_after_a_violation(serve: Serve) -> None:
    served = await serve(Echo, settings=SHORT)
    wire = await handshake(served)
    wire.writer.write(masked(2, b"x"))
    assert await close_code(wire) == 1003
    await served.until_empty()
    assert await wire.is_closed()


@pytest.mark.slow
@pytest.mark.parametrize("size", [4_500_000, 4_194_000, 3_500_000])
async def test_drain_makes_room_for_any_message(serve: Serve, size: int) -> None:
    class Draining(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            for _ in range(5):
                self.send("x" * size)
                await self.drain()

    served = await serve(Draining, settings={"response_limit": 1 << 30})
    for kind in (clients.WebSocket, clients.XhrStreaming):
        client = await kind.open(served)
        await client.send("a")
        assert [len(message) for message in await client.messages(5)] == [size] * 5
        await client.leave()


@pytest.mark.slow
@pytest.mark.parametrize("flood", [masked(9, b""), masked(1, b"[]"), masked(1, b'"m"')])
async def test_flood_of_one_client_lets_the_loop_go_on(serve: Serve, flood: bytes) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    wire = await handshake(served)
    wire.writer.write(flood * 30_000)
    turns = 0
    for _ in range(300):
        await asyncio.sleep(0)
        turns += 1
    # 100 frames a turn at most, and the flood has 30,000
    assert Noted.seen.count("m") <= 100 * turns
    assert await served.poll("/0/1") == b"o"
    wire.abort()


async def test_session_that_ends_during_an_upload_is_404(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings=SHORT)
    await served.poll("/0/1")
    wire = await served.wire()
    head = b"POST /echo/0/1/xhr_send HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
    wire.writer.write(head + b'["a')
    await Noted.until("close")
    await served.until_empty()
    wire.writer.write(b'"]')
    assert (await wire.reply()).status == 404
    assert complaints(caplog) == []


@pytest.mark.virtual_time
@pytest.mark.parametrize("path", ["/0/1/xhr_streaming", "/0/1/websocket", "/websocket"])
async def test_slow_signal_does_not_let_the_session_expire(
    serve: Serve, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow(request: web.Request, response: web.StreamResponse) -> None:
        await asyncio.sleep(0.3)

    app = web.Application()
    app.on_response_prepare.append(slow)
    settings = {"disconnect_delay": 0.1, "session_check_interval": 0.02}
    served = await serve(Echo, app=app, settings=settings)
    if "websocket" in path:
        async with served.websocket(path) as socket:
            await socket.send_str('"a"')
            expected = ['"a"'] if path == "/websocket" else ["o", 'a["a"]']
            assert [await socket.receive_str() for _ in expected] == expected
    else:
        wire = await served.wire()
        wire.send("POST", "/echo" + path, b"")
        await wire.head()
        await wire.chunk()
        assert await wire.chunk() == b"o\n"
        wire.abort()
    await served.until_empty()
    assert complaints(caplog) == []


@pytest.mark.parametrize("way", ["close", "abort"])
async def test_clients_that_leave_during_a_shutdown_are_no_errors(
    serve: Serve, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve(Echo)
    wires = [await handshake(served) for _ in range(20)]
    for wire in wires:
        await frame(wire)
        getattr(wire, way)()
    await served.runner.cleanup()
    assert complaints(caplog) == []


@pytest.mark.parametrize("path", ["xhr", "xhr_streaming"])
@pytest.mark.parametrize("chunked", [True, False])
async def test_receiving_request_with_a_large_body_is_refused(
    serve: Serve, path: str, chunked: bool
) -> None:
    served = await serve(Echo, lingering_time=0.1 if chunked else 10)
    wire = await served.wire()
    if chunked:
        head = f"POST /echo/0/1/{path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        wire.writer.write(head.encode() + (b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 5)
        assert (await wire.head()).status == 413
    else:
        reply = await served.request("POST", f"/0/1/{path}", b"x" * 100_000)
        assert reply.status == 413
    assert served.router.session_count == 0


async def test_lost_receiver_with_unread_input_is_no_2010(serve: Serve) -> None:
    served = await serve(Echo)
    assert await served.poll("/0/1") == b"o"
    wire = await served.wire()
    for _ in range(1200):  # more than is read ahead
        wire.send("POST", "/echo/0/1/xhr", b"")
    await wire.writer.drain()
    await asyncio.sleep(0.05)
    wire.abort()
    await asyncio.sleep(0.05)
    assert await served.poll("/0/1") == b'c[1002,"Connection interrupted"]'
    async with async_timeout.timeout(5):
        while served.runner.server.connections:  # type: ignore[union-attr]
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("data", [masked(8, b"\x03\xe9"), masked(2, b"x")])
async def test_close_frame_is_not_lost_behind_a_compressed_message(
    serve: Serve, data: bytes
) -> None:
    class Large(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            self.send(os.urandom(500_000).hex())

    served = await serve(Large, settings={"websocket_compression": True})
    extension = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    wire = await handshake(served, **extension)
    wire.writer.write(data)
    opcodes: list[int] = []
    while not opcodes or opcodes[-1] != 8:
        first, size = await wire.reader.readexactly(2)
        if size == 126:
            size = int.from_bytes(await wire.reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await wire.reader.readexactly(8), "big")
        await wire.reader.readexactly(size)
        opcodes.append(first & 0xF)
    assert opcodes[-1] == 8


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/0/abc/xh%72", {}, 200),
        ("GET", "/info", {"Referer": "http://["}, 403),
        ("GET", "/0/1/websocket", {"Sec-WebSocket-Key": "\u00e9"}, 400),
    ],
)
async def test_odd_requests_are_answered(
    serve: Serve, method: str, path: str, headers: dict[str, str], status: int, caplog: Any
) -> None:
    settings = {"origins": ["https://a.example"], "allow_jsonp_and_frames": True}
    served = await serve(Echo, settings=settings)
    if "websocket" in path:
        headers = {"Upgrade": "websocket", "Connection": "upgrade", **headers}
    body = b"" if method == "POST" else None
    assert (await served.request(method, path, body, headers=headers)).status == status
    assert complaints(caplog) == []


async def test_two_shutdowns_at_once(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings={"shutdown_timeout": 30})
    members = [await clients.WebSocket.open(served) for _ in range(5)]
    await Noted.until("open", 5)
    start = time.monotonic()
    leaving = asyncio.gather(*(member.frame() for member in members))
    await asyncio.gather(served.router.shutdown(), served.router.shutdown())
    assert time.monotonic() - start < 10
    await leaving
    assert Noted.seen.count("close") == 5


async def test_empty_messages_fill_the_inbox_too(serve: Serve) -> None:
    class Stuck(Recorder):
        gate = asyncio.Event()

        async def on_message(self, message: str | bytes) -> None:
            await self.gate.wait()

    served = await serve(Stuck, settings={"receive_queue_limit": 100_000})
    await served.poll("/0/1")
    await served.post("/0/1", json.dumps([""] * 1000))
    second = asyncio.ensure_future(served.post("/0/1", json.dumps([""] * 1000)))
    done, _ = await asyncio.wait([second], timeout=0.1)
    assert not done, "1,000 messages of 64 bytes and more are over the limit"
    Stuck.gate.set()
    assert await second == 204


async def test_waiting_posts_keep_their_order(serve: Serve) -> None:
    class Slow(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.seen.append(str(message).strip())
            await asyncio.sleep(0)

    served = await serve(Slow, settings={"receive_queue_limit": 200})
    await served.poll("/0/1")
    await Slow.until("open")
    session = Slow.connections[0].session
    assert isinstance(session, RequestSession)
    hooks = session.hooks

    async def post(number: str) -> None:
        async with hooks.inbox.turn:
            await hooks.accept([f"{number:>40}"], 40)

    sent = [str(number) for number in range(200)]
    await asyncio.gather(*map(post, sent))
    await Slow.until(sent[-1])
    assert Slow.seen == ["open", *sent]


@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
@pytest.mark.logs("Failing.on_message failed")
async def test_odd_exceptions_of_hooks_are_like_any_other(
    serve: Serve, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(BaseException):
        pass

    class Failing(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            raise Odd("mistake")

    client = await kind.open(await serve(Failing))
    await client.send("a", "b")
    assert await client.frame() == b'c[1011,"Internal error"]'
    await Failing.until("close")
    assert Failing.seen == ["open", "close"]
    assert len(complaints(caplog)) == 1
    await client.leave()


async def test_bare_string_may_have_blanks_around_it(serve: Serve) -> None:
    wire = await handshake(await serve(Echo))
    assert await frame(wire) == (1, b"o")
    wire.writer.write(masked(1, b' "x"\n'))
    assert await frame(wire) == (1, b'a["x"]')


async def test_long_queue_is_taken_in_linear_time(serve: Serve) -> None:
    from sockjs_aio.protocol.framing import SOCKJS
    from sockjs_aio.protocol.session_machine import SessionMachine

    machine = SessionMachine(
        SOCKJS, heartbeat_delay=1, disconnect_delay=1, send_queue_limit=1 << 40, now=0
    )
    machine.attach(0)
    pieces = [SOCKJS.encode(str(number)) for number in range(300_000)]
    for piece in pieces:
        machine.queue(piece)
    assert machine.next_frame(0) == b"o"
    taken: list[str] = []
    start = time.monotonic()
    while (data := machine.next_frame(0)) is not None:
        taken += json.loads(data[1:])
    assert time.monotonic() - start < 10
    assert taken == [str(number) for number in range(300_000)]
    assert machine.queued == 0


OPEN_FRAMES = {
    "xhr": b"o\n",
    "xhr_streaming": b"o\n",
    "eventsource": b"data: o",
    "htmlfile": b'p("o")',
    "jsonp": b'x("o")',
    "websocket": b"HTTP/1.1 101",
}


@pytest.mark.not_over("tls")  # its client reads within the hook, from a socket of its own
@openers
async def test_client_hears_of_its_session_when_on_open_has_begun(
    serve: Serve, method: str, path: str
) -> None:
    """The next message may be a broadcast to all, and `on_open` is where a client joins them."""
    seen = bytearray()

    def read(client: socket.socket) -> bool:
        with contextlib.suppress(BlockingIOError):
            seen.extend(client.recv(65536))
        return open_frame in seen

    class Member(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            time.sleep(0.02)  # noqa: ASYNC251  # what was written arrives meanwhile
            assert not read(client), bytes(seen)
            await super().on_open(info)

    open_frame = OPEN_FRAMES[path.split("?")[0].rpartition("/")[2]]
    served = await serve(Member)
    headers = UPGRADE if path.endswith("/websocket") else {"Content-Length": "0"}
    lines = [f"{method} /echo{path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.setblocking(False)
        client.send("\r\n".join([*lines, "", ""]).encode())
        await Member.until("open")
        async with async_timeout.timeout(PATIENCE):
            while not read(client):
                await asyncio.sleep(0.001)
