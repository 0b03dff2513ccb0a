"""Who counts as alive, and how soon a client that has gone is noticed, on each transport."""

import asyncio
import socket
import sys
import time
from pathlib import Path

import async_timeout
import pytest
from aiohttp import WSMsgType, web

from sockjs_aio import ConnectionInfo
from tests import clients
from tests.conftest import Echo, Recorder, Serve, Served
from tests.websocket_wire import HANDSHAKE, frame, handshake, masked
from tests.wire import Wire, end_sending

SOCKJS, RAW = "/0/1/websocket", "/websocket"
both = pytest.mark.parametrize("path", [SOCKJS, RAW])
every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
streams = pytest.mark.parametrize("kind", clients.STREAMS, ids=lambda kind: kind.name)
Kind = type[clients.Client]

SHORT = {"heartbeat_delay": 0.1, "disconnect_delay": 0.1, "session_check_interval": 0.02}


@both
@pytest.mark.parametrize("cancellation", [True, False])
async def test_peer_that_vanished_is_noticed(
    serve: Serve, path: str, cancellation: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Noted(Recorder):
        pass

    caplog.set_level("INFO", "sockjs_aio")
    served = await serve(Noted, settings=SHORT, handler_cancellation=cancellation)
    wire = await handshake(served, path)
    wire.stop_reading()
    await Noted.until("close")
    assert "timeout, 1006 'Ping not answered'" in caplog.text
    await served.until_empty()


@both
async def test_peer_that_answers_pings_is_kept(serve: Serve, path: str) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings=SHORT)
    wire = await handshake(served, path)
    pings = 0
    while pings < 5:
        opcode, payload = await frame(wire)
        if opcode == 9:
            pings += 1
            wire.writer.write(masked(10, payload))
    assert Noted.seen == ["open"]


@both
async def test_slow_hook_does_not_make_its_client_look_dead(serve: Serve, path: str) -> None:
    class Slow(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            await asyncio.sleep(0.8)  # eight times the heartbeat delay, nothing is read
            self.send("done")

    served = await serve(Slow, settings=SHORT)
    async with served.websocket(path, autoping=False) as socket:
        await socket.send_str('"x"')
        async for message in socket:
            if message.type is WSMsgType.TEXT and "done" in message.data:
                break
            assert message.type in (WSMsgType.TEXT, WSMsgType.PING)
    assert Slow.seen[0] == "open"


WORDS = {
    "messages": masked(1, b'"x"'),
    "pings": masked(9, b""),
    "pongs that nobody asked for": masked(10, b"x"),
    "empty fragments": masked(0, b"", fin=0),
    "bytes of an unfinished message": b"x",
}
BEGINNINGS = {
    "empty fragments": masked(1, b"", fin=0),
    "bytes of an unfinished message": b"\x81\xfe\x80\0\0\0\0\0",
}


async def test_whatever_comes_from_a_client_counts_as_life(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings={**SHORT, "heartbeat_delay": 0.3})
    clients_of = [(name, await handshake(served, path)) for name in WORDS for path in (SOCKJS, RAW)]
    for name, wire in clients_of:
        wire.writer.write(BEGINNINGS.get(name, b""))
    for _ in range(40):  # two seconds, and no ping is answered
        for name, wire in clients_of:
            wire.writer.write(WORDS[name])
        await asyncio.sleep(0.05)
        assert "close" not in Noted.seen
    assert Noted.seen.count("open") == len(clients_of)
    await Noted.until("close", len(clients_of))  # they are silent now


async def slow_wire(served: Served) -> Wire:
    """Connect, with little room for what is not read yet."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", served.port))
    return await served.wire(sock=sock, limit=1 << 16)


async def read_slowly(wire: Wire, seconds: float) -> int:
    """Read a megabyte a second."""
    size = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(0.05)
        size += len(await wire.reader.readexactly(50_000))
    return size


async def test_ping_behind_megabytes_has_its_deadline_once_it_has_arrived(serve: Serve) -> None:
    await asyncio.gather(*(keep_while_reading(serve, path) for path in (SOCKJS, RAW)))


async def keep_while_reading(serve: Serve, path: str) -> None:
    class Large(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await super().on_open(info)
            for _ in range(120):
                self.send("x" * 100_000)

    settings = {**SHORT, "heartbeat_delay": 1, "send_queue_limit": 1 << 26}
    served = await serve(Large, settings=settings)
    wires = [await slow_wire(served) for _ in range(2)]
    for wire in wires:
        wire.send("GET", served.prefix + path, headers=HANDSHAKE)
    # for six heartbeats they send nothing at all, and what they have read is before any ping
    sizes = await asyncio.gather(*(read_slowly(wire, 6) for wire in wires))
    assert Large.seen == ["open", "open"], sizes
    # one stops to read, the other goes on
    stopped, going = wires
    going_on = asyncio.ensure_future(read_slowly(going, 3))
    await Large.until("close")
    assert Large.seen == ["open", "open", "close"]
    await going_on
    assert Large.seen == ["open", "open", "close"]
    stopped.abort()
    going.abort()


def dark(**settings: float) -> dict[str, float]:
    """Settings with which nothing but the end of a connection ends a session."""
    return {"heartbeat_delay": 60, "disconnect_delay": 60, **settings}


def half_close(client: clients.Client) -> None:
    """End the sending half of the connection that receives."""
    if isinstance(client, clients.WebSocket):
        end_sending(client.socket._writer.transport)
    else:
        client.wire.end_sending()  # type: ignore[attr-defined]


@every
@pytest.mark.parametrize("way", ["reset", "half-closed"])
@pytest.mark.parametrize("cancellation", [True, False], ids=["at-once", "at-the-next-tick"])
async def test_receiver_whose_connection_went_is_noticed(
    serve: Serve, kind: Kind, way: str, cancellation: bool
) -> None:
    class Noted(Recorder):
        pass

    interval = 60 if cancellation or not kind.is_http else 0.1
    settings = dark(session_check_interval=interval)
    served = await serve(Noted, settings=settings, handler_cancellation=cancellation)
    client = await kind.open(served)
    await Noted.until("open")
    if kind in clients.POLLS:
        await asyncio.sleep(0.05)  # the poll after the one that opened waits now
    client.abort() if way == "reset" else half_close(client)
    await Noted.until("close")
    info = Noted.connections[0].close_info
    assert info is not None
    assert (info.code, info.reason, info.initiator) == (1006, "Connection lost", "network")
    client.abort()


@pytest.mark.parametrize(
    ("heartbeat_delay", "disconnect_delay"), [(0.2, 0.8), (0.6, 0.6), (1.2, 0.4)]
)
async def test_heartbeats_and_expiry_have_clocks_of_their_own(
    serve: Serve, heartbeat_delay: float, disconnect_delay: float
) -> None:
    class Noted(Recorder):
        pass

    served = await serve(
        Noted,
        settings={
            "heartbeat_delay": heartbeat_delay,
            "disconnect_delay": disconnect_delay,
            "session_check_interval": 0.02,
        },
    )
    members = [await kind.open(served) for kind in clients.SOCKJS]
    start = time.monotonic()
    for _ in range(3):
        frames = await asyncio.gather(*(member.frame() for member in members))
        assert frames == [b"h"] * len(members)
    assert time.monotonic() - start > 3 * heartbeat_delay * 0.9
    assert "close" not in Noted.seen, "a receiver is attached, or has just been"
    for member in members:
        await member.leave()
    await Noted.until("close", len(members))
    await served.until_empty()


async def test_raw_websocket_is_pinged_and_gets_no_frames(serve: Serve) -> None:
    wire = await handshake(await serve(Echo, settings=SHORT), RAW)
    for _ in range(4):
        assert await frame(wire) == (9, b"")
        wire.writer.write(masked(10, b""))


def asks(served: Served, kind: Kind, session: str) -> tuple[str, str, bytes | None]:
    """Return method, path below the prefix and body of a receiving request."""
    method, url = kind(served, {})._request()  # type: ignore[attr-defined]
    return method, session + url, b"" if method == "POST" else None


async def test_disconnect_delay_counts_from_the_end_of_the_last_response(serve: Serve) -> None:
    async def check(kind: Kind) -> None:
        class Noted(Recorder):
            pass

        settings = {"disconnect_delay": 0.5, "session_check_interval": 0.02, "response_limit": 1}
        served = await serve(Noted, settings=settings)
        for number in range(4):  # it comes back in time, again and again
            assert Noted.seen == ["open"] * bool(number)
            reply = await served.request(*asks(served, kind, "/000/x"))
            assert reply.status == 200
            delivered = time.monotonic()
            await Noted.until("open")
            Noted.connections[0].send("next")
            await asyncio.sleep(0.25)
        await Noted.until("close")
        assert time.monotonic() - delivered > 0.5 * 0.9

    await asyncio.gather(*map(check, clients.HTTP))


async def test_slow_download_keeps_the_session_and_a_stalled_one_does_not(serve: Serve) -> None:
    async def check(kind: Kind) -> None:
        class Large(Recorder):
            async def on_open(self, info: ConnectionInfo) -> None:
                await super().on_open(info)
                self.send("x" * 30_000_000)

        delays = {"heartbeat_delay": 1.2, "disconnect_delay": 0.8, "session_check_interval": 0.02}
        served = await serve(Large, settings={"send_queue_limit": 1 << 26, **delays})
        await served.poll("/000/x")
        await Large.until("open")
        wire = await slow_wire(served)
        method, path, body = asks(served, kind, "/000/x")
        wire.send(method, served.prefix + path, body)
        await read_slowly(wire, 4)  # five times the disconnect delay
        assert Large.seen == ["open"]
        await Large.until("close")
        info = Large.connections[0].close_info
        assert info is not None
        assert info.initiator in ("timeout", "network")
        if sys.platform == "linux":
            await until_no_connection(served)  # nor does what is left keep memory
        wire.abort()

    await asyncio.gather(*map(check, clients.HTTP))


@streams
async def test_stream_that_is_written_to_all_the_time_is_seen_to_stall(
    serve: Serve, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sockjs_aio.server.connection_writer.PATIENCE", 100)

    class Talking(Recorder):
        sent = 0

        async def on_open(self, info: ConnectionInfo) -> None:
            await super().on_open(info)
            self.talk()

        def talk(self) -> None:
            if not self.is_closed:
                self.send("x" * 5000)
                type(self).sent += 5000
                asyncio.get_running_loop().call_later(0.02, self.talk)

    settings = {**SHORT, "heartbeat_delay": 0.3, "response_limit": 1 << 30}
    served = await serve(Talking, settings=settings)
    wire = await slow_wire(served)
    wire.stop_reading()
    method, path, body = asks(served, kind, "/000/x")
    wire.send(method, served.prefix + path, body)
    await Talking.until("close")
    info = Talking.connections[0].close_info
    assert info is not None
    assert (info.reason, info.initiator) == ("Client takes nothing", "timeout")
    if sys.platform == "linux":
        assert Talking.sent < 1_500_000, "what the kernel keeps was not full, and no `h` was due"
    wire.abort()


async def test_stream_whose_client_takes_its_time_is_kept(serve: Serve, tmp_path: Path) -> None:
    """A Unix socket tells what its client has not read, TCP what its kernel has not taken."""

    class Noted(Recorder):
        pass

    served = await serve(Noted, settings={**SHORT, "heartbeat_delay": 0.4})
    path = str(tmp_path / "socket")
    await web.UnixSite(served.runner, path).start()
    wire = Wire(*await asyncio.open_unix_connection(path))
    wire.send("POST", served.prefix + "/0/1/xhr_streaming", b"")
    await Noted.until("open")
    for number in range(12):  # there is always one on its way when somebody looks
        wire.stop_reading()
        Noted.connections[0].send(str(number))
        await asyncio.sleep(0.12)
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await wire.reader.readuntil(b'a["%d"]' % number)
        await asyncio.sleep((0.05, 0.25, 0.15)[number % 3])
    assert Noted.seen == ["open"]
    wire.abort()


async def until_no_connection(served: Served) -> None:
    """Wait until the server has no connection left, whatever its clients do."""
    server = served.runner.server
    assert server is not None
    async with async_timeout.timeout(10):
        while server.connections:
            await asyncio.sleep(0.02)


linux = pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux's")


@linux
@every
async def test_kernel_gives_up_connections_that_nobody_notices(serve: Serve, kind: Kind) -> None:
    served = await serve(Echo, settings={"heartbeat_delay": 12.5})
    client = await kind.open(served)
    await client.send("a")
    assert await client.messages(1) == ["a"]
    assert served.runner.server is not None
    timeouts = [
        connection.transport.get_extra_info("socket").getsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT
        )
        for connection in served.runner.server.connections
        if connection.transport is not None
        and connection.transport.get_extra_info("socket") is not None  # TLS ends in several turns
    ]
    assert 3 * 12_500 in timeouts
    await client.leave()


@every
async def test_heartbeats_may_be_off(serve: Serve, kind: Kind) -> None:
    """The longest delay that Settings allows is longer than the kernel's timers can be."""
    served = await serve(Echo, settings={"heartbeat_delay": 1e308})
    client = await kind.open(served)
    await client.send("a")
    assert await client.messages(1) == ["a"]
    await client.leave()
