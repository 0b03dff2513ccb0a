"""TLS in the process: what asyncio's TLS transports answer once they are closed."""

import ast
import asyncio
import socket
import struct
from pathlib import Path
from typing import cast

import aiohttp
import async_timeout
import pytest

import sockjs_aio
from tests import clients
from tests.certificate import contexts, make_certificate
from tests.conftest import PATIENCE, SHORT, Echo, Recorder, Serve
from tests.websocket_wire import handshake, masked

http = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)

QUESTIONS = {
    "get_write_buffer_size",
    "set_write_buffer_limits",
    "get_extra_info",
    "get_protocol",
    "pause_reading",
    "resume_reading",
}
"""What a closed TLS transport fails at."""


DIRECT_AND_NOT: list[dict[str, bool]] = [
    {"direct_requests": True},
    {"direct_requests": False},
    {"jsessionid": True},  # and written by aiohttp
]


@http
@pytest.mark.parametrize("way", ["leave", "abort"])
async def test_client_that_leaves_is_forgotten(
    serve: Serve, kind: type[clients.Client], way: str, tmp_path: Path
) -> None:
    class Left(Recorder):
        pass

    served = await serve(Left, settings=SHORT, tls=contexts(make_certificate(tmp_path)))
    client = await kind.open(served)
    if way == "leave":
        await client.leave()
    else:
        client.abort()
    await Left.until("close")
    await served.until_empty()
    assert Left.seen == ["open", "close"]


@http
async def test_client_that_leaves_while_its_request_is_read_is_forgotten(
    serve: Serve, kind: type[clients.Client], tmp_path: Path
) -> None:
    """asyncio tells of a loss a turn late, and not what has taken the connection over meanwhile."""

    class Left(Recorder):
        pass

    settings = {**SHORT, "heartbeat_delay": 60}
    served = await serve(Left, settings=settings, tls=contexts(make_certificate(tmp_path)))
    method, url = kind(served, {})._request()  # type: ignore[attr-defined]
    for turns in range(12):
        for number in range(4):
            wire = await served.wire()
            body = b"" if method == "POST" else None
            wire.send(method, f"{served.prefix}/000/{turns}-{number}{url}", body)
            for _ in range(turns):
                await asyncio.sleep(0)
            wire.abort()
    await served.until_empty()
    assert Left.seen.count("open") == Left.seen.count("close")


@pytest.mark.not_over(
    "uvloop", "lane-off", "sharing", "replacing"
)  # what it makes happen is asyncio's
async def test_connection_lost_with_requests_behind_a_poll_leaves_nothing_in_the_log(
    serve: Serve, tmp_path: Path
) -> None:
    class Left(Recorder):
        pass

    settings = {**SHORT, "direct_requests": True}
    served = await serve(Left, settings=settings, tls=contexts(make_certificate(tmp_path)))
    wire = await served.wire()
    for number in range(3):
        await wire.request("POST", "/echo/0/1/" + ("xhr_send" if number else "xhr"), "[]")
    wire.send("POST", "/echo/0/1/xhr", b"")
    (handler,) = served.http_connections()
    lane = handler.transport.get_protocol()
    async with async_timeout.timeout(PATIENCE):
        while lane._waiter is None:  # the lane answers the poll
            await asyncio.sleep(0.001)
        wire.writer.write(bytes(100_000))
        while not lane._is_paused:
            await asyncio.sleep(0.001)
    Left.connections[0].send("a")  # so the poll ends in the turn in which the connection is lost
    tls = handler.transport._ssl_protocol
    tcp = tls._transport
    tls.connection_lost(ConnectionResetError())
    await Left.until("close")
    tcp.abort()  # it knows nothing of the loss
    wire.abort()


@pytest.mark.not_over("lane-off", "sharing", "replacing")
async def test_shutdown_with_requests_behind_a_stream_leaves_nothing_in_the_log(
    serve: Serve, tmp_path: Path
) -> None:
    """The session cuts the stream of a client that does not read; then aiohttp closes it again."""

    class Flood(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            for _ in range(300):
                self.send("x" * 65536)

    settings = {**SHORT, "heartbeat_delay": 60, "direct_requests": True}
    settings.update(send_queue_limit=1 << 26, response_limit=1 << 26)
    served = await serve(Flood, settings=settings, tls=contexts(make_certificate(tmp_path)))
    wire = await served.wire()
    for number in range(3):
        await wire.request("POST", "/echo/0/1/" + ("xhr_send" if number else "xhr"), "[]")
    (handler,) = served.http_connections()
    lane = handler.transport.get_protocol()
    wire.stop_reading()
    wire.send("POST", "/echo/0/1/xhr_streaming", b"")
    async with async_timeout.timeout(PATIENCE):
        while lane._waiter is None:  # the lane answers the stream
            await asyncio.sleep(0.001)
        assert await served.post("/0/1", '["go"]') == 204
        wire.writer.write(bytes(200_000))
        while not lane._is_paused:
            await asyncio.sleep(0.001)
    await served.runner.cleanup()
    assert Flood.seen == ["open", "close"]
    wire.abort()


async def test_websocket_that_is_lost_while_its_hook_returns_leaves_nothing_in_the_log(
    serve: Serve, tmp_path: Path
) -> None:
    """Python 3.10 takes a lost connection for an open one for a turn, and cannot read on."""
    gate = asyncio.Event()
    turns = 0

    class Slow(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            if message == "wait":
                await gate.wait()
                self.send("x")  # so we notice that it is lost
                for _ in range(turns):
                    await asyncio.sleep(0)

    served = await serve(Slow, settings=SHORT, tls=contexts(make_certificate(tmp_path)))
    for number in range(8):
        turns = number
        gate.clear()
        wire = await handshake(served)
        wire.writer.write(masked(1, b'"wait"') + masked(1, b'"%b"' % (b"y" * 120)) * 700)
        (connection,) = served.http_connections()
        async with async_timeout.timeout(PATIENCE):
            while not connection._is_paused:
                await asyncio.sleep(0.001)
        its_socket = wire.writer.transport.get_extra_info("socket")
        its_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.abort()
        await asyncio.sleep(0.05)
        gate.set()
        await served.until_empty()
    assert Slow.seen == ["open", "close"] * 8


async def test_client_that_does_not_poll_again_is_forgotten(serve: Serve, tmp_path: Path) -> None:
    class Left(Recorder):
        pass

    served = await serve(Left, settings=SHORT, tls=contexts(make_certificate(tmp_path)))
    assert await served.poll("/000/1") == b"o"  # and its connection ends
    await Left.until("close")
    await served.until_empty()
    assert Left.seen == ["open", "close"]


@pytest.mark.parametrize("end", ["close", "leave", "abort"])
@pytest.mark.parametrize("kind", [clients.WebSocket, clients.RawWebSocket])
async def test_websocket_that_ends_leaves_nothing_in_the_log(
    serve: Serve, kind: type[clients.Client], end: str, tmp_path: Path
) -> None:
    class Ended(Recorder):
        pass

    served = await serve(Ended, settings=SHORT, tls=contexts(make_certificate(tmp_path)))
    client = await kind.open(served)
    await Ended.until("open")
    if end == "close":
        Ended.connections[0].close(4001, "bye")
    elif end == "leave":
        await client.leave()
    else:
        client.abort()
    await Ended.until("close")
    await client.leave()
    await served.until_empty()


# uvloop's TLS does not tell what the connection below it keeps
@pytest.mark.not_over("uvloop")
async def test_session_does_not_expire_while_its_response_is_downloaded(
    serve: Serve, tmp_path: Path
) -> None:
    """Most of it is in the connection below TLS, which TLS does not count."""

    class Large(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send("x" * 30_000_000)

    settings = {**SHORT, "disconnect_delay": 0.5, "send_queue_limit": 1 << 26}
    served = await serve(Large, settings=settings, tls=contexts(make_certificate(tmp_path)))
    assert await served.poll("/0/1") == b"o"
    assert await served.post("/0/1", '["a"]') == 204
    wire = await served.wire(limit=1 << 16)
    wire.send("POST", "/echo/0/1/xhr", b"")
    await wire.head()
    for _ in range(24):  # 2.4 seconds, nearly five times the disconnect delay
        await asyncio.sleep(0.1)
        await wire.reader.readexactly(1 << 19)
    assert Large.seen == ["open"]
    wire.abort()
    await Large.until("close")


@pytest.mark.parametrize("settings", DIRECT_AND_NOT, ids=str)
async def test_client_may_poll_elsewhere_once_it_has_the_whole_response(
    serve: Serve, settings: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server looks at what TLS buffers now and then: the client may know of the end first."""
    monkeypatch.setattr("sockjs_aio.core.tcp.PAUSE", 1.0)

    class Large(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send(message if message == "small" else "x" * 3_000_000)

    served = await serve(Large, settings=settings, tls=contexts(make_certificate(tmp_path)))
    assert await served.poll("/0/1") == b"o"
    sock = socket.create_connection(("127.0.0.1", served.port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    wire, other = await served.wire(sock=sock), await served.wire()
    for connection in served.http_connections():
        its_socket = connection.transport.get_extra_info("socket")
        its_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    for _ in range(2):  # then, the lane answers
        assert (await wire.request("POST", "/echo/0/1/xhr_send", "[]")).status == 204
        assert (await other.request("POST", "/echo/0/1/xhr_send", "[]")).status == 204
    wire.stop_reading()
    wire.send("POST", "/echo/0/1/xhr", b"")
    assert await served.post("/0/1", '["large"]') == 204
    await asyncio.sleep(0.2)
    cast(asyncio.Transport, wire.writer.transport).resume_reading()
    assert len((await wire.reply()).body) > 3_000_000
    other.send("POST", "/echo/0/1/xhr", b"")
    assert await served.post("/0/1", '["small"]') == 204
    assert (await other.reply()).body == b'a["small"]\n'


@pytest.mark.parametrize("kind", clients.STREAMS, ids=lambda kind: kind.name)
async def test_stream_whose_client_has_left_behind_requests_is_ended(
    serve: Serve, kind: type[clients.Client], tmp_path: Path
) -> None:
    """What is written then vanishes, and aiohttp does not read on: nobody is told of the end."""
    served = await serve(Echo, settings=SHORT, tls=contexts(make_certificate(tmp_path)))
    client = await kind.open(served)
    for _ in range(100):
        client.wire.send("POST", f"/echo{client.path}/xhr_send", '["never"]')
    await asyncio.sleep(0.05)
    client.abort()
    await served.until_empty()


def test_only_one_module_asks_transports_that_may_be_closed() -> None:
    asking = set()
    root = Path(sockjs_aio.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in QUESTIONS:
                asking.add(path.relative_to(root).as_posix())
    without_tls = {
        "cluster/workers/handover.py",
        "core/plain_write.py",
        "testing/network.py",
    }
    just_opened = {"cli/doctor/tls_check.py"}
    assert asking == {"core/tcp.py", *without_tls, *just_opened}


@pytest.mark.parametrize("path", ["/websocket", "/000/{}/websocket"])
async def test_clients_can_answer_the_close_frame_of_a_drain(
    serve: Serve, tmp_path: Path, path: str
) -> None:
    served = await serve(Echo, tls=contexts(make_certificate(tmp_path)))
    sockets = [await served.websocket(path.format(number)) for number in range(20)]

    async def read(websocket: aiohttp.ClientWebSocketResponse) -> None:
        async for _ in websocket:
            pass

    await asyncio.gather(served.router.drain(), *map(read, sockets))
    expected = 1012 if path == "/websocket" else 1000
    assert [websocket.close_code for websocket in sockets] == [expected] * 20
