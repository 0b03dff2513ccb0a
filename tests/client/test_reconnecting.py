"""Connections that are lost, and those that follow them."""

import asyncio
import logging
import subprocess
import sys
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo, SockJSConnection
from sockjs_aio.client import ClientOptions, ConnectError, ConnectionClosedError, connect
from sockjs_aio.client.silence import Silence
from tests.client.scripted import INFO, response, scripted, stream, websocket_frame
from tests.client.test_connections import every_transport
from tests.conftest import PATIENCE, Echo, Recorder, Serve
from tests.ports import free_port
from tests.virtual_loop import VirtualLoop


def in_no_time(test: Any) -> Any:
    """Mark a test that waits for minutes, which pass at once; uvloop has no such clock."""
    return pytest.mark.virtual_time(pytest.mark.not_over("uvloop")(test))


SOON = ClientOptions(reconnect_limit=0.01, transport_timeout=20)


@every_transport
async def test_loop_connects_again_whenever_the_connection_ends(serve: Serve, name: str) -> None:
    class Short(SockJSConnection):
        async def on_open(self, info: ConnectionInfo) -> None:
            self.send("hello")
            self.close(1012, "Service restart")

    served = await serve(Short)
    codes = []
    target: Any = {"transports": name, "session": served.session, "options": SOON}
    async for socket in connect(served.url(), **target):
        try:
            async for message in socket:
                assert message == "hello"
        except ConnectionClosedError as error:
            codes.append(error.code)
        if len(codes) == 3:
            break
    assert codes == [1012] * 3
    with pytest.raises(ConnectionClosedError):
        await socket.send("after break")


async def test_break_closes_the_connection(serve: Serve) -> None:
    class Seen(Recorder):
        pass

    served = await serve(Seen)
    async for socket in connect(served.url(), session=served.session):
        await socket.send("a")
        break
    await Seen.until("close")
    assert Seen.seen == ["open", "a", "close"]


@pytest.mark.programs
def test_break_at_the_end_of_a_program_leaves_nothing_open() -> None:
    program = """
import asyncio
from aiohttp import web
from sockjs_aio import SockJSConnection, SockJSRouter
from sockjs_aio.client import connect

async def main():
    app = web.Application()
    SockJSRouter(SockJSConnection, "/chat").attach(app)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    for name in ("websocket", "xhr_streaming", "xhr"):
        async for socket in connect(f"http://127.0.0.1:{port}/chat", transports=name):
            await socket.send("a")
            break
    await site.stop()

asyncio.run(main())
"""
    command = [sys.executable, "-W", "always", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_loop_waits_for_a_server_that_is_not_there_yet(serve: Serve) -> None:
    async with scripted(websocket=websocket_frame(b"o")) as server:
        server.answers["info"] = [*[response(b"", "503 Not Now")] * 3, response(INFO)]
        async for socket in connect(server.url, options=SOON):
            assert socket.transport == "websocket"
            break
        assert server.requests == ["info"] * 4 + ["websocket"]


async def test_loop_ends_where_no_attempt_can_succeed() -> None:
    async with scripted(info=response(b"", "404 Not Found")) as server:
        with pytest.raises(ConnectError, match="404 Not Found"):
            async for _ in connect(server.url, options=SOON):
                raise AssertionError("there is no service")
        assert server.requests == ["info"]


async def test_no_server_is_an_error_that_names_the_address() -> None:
    port = free_port()
    with pytest.raises(ConnectError, match=rf"http://127.0.0.1:{port}/chat/info: Cannot connect"):
        await connect(f"http://ann:secret@127.0.0.1:{port}/chat?token=secret")


@in_no_time
async def test_pauses_grow_up_to_the_limit_and_are_random(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    bounds: list[float] = []

    def longest(low: float, high: float) -> float:
        bounds.append(high)
        assert low == 0
        return high

    monkeypatch.setattr("random.uniform", longest)
    async with scripted(info=response(b"", "503 Service Unavailable")) as server:
        options = ClientOptions(reconnect_limit=10)

        async def forever() -> None:
            async for _ in connect(server.url + "?token=secret", options=options):
                raise AssertionError("it is never there")

        task = asyncio.create_task(forever())
        while len(bounds) < 6:
            await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
    assert bounds[:6] == [1, 2, 4, 8, 10, 10]
    assert "503 Service Unavailable; connecting again in 1.0 s" in caplog.text
    assert "secret" not in caplog.text


@in_no_time
async def test_connection_that_lasted_is_followed_by_a_short_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bounds: list[float] = []

    def longest(low: float, high: float) -> float:
        bounds.append(high)
        return high

    monkeypatch.setattr("random.uniform", longest)
    async with scripted(websocket=websocket_frame(b"o")) as server:
        seconds = [0, 0, 100, 0]
        async for _ in connect(server.url, options=ClientOptions(close_timeout=0.1)):
            await asyncio.sleep(seconds.pop(0))
            if not seconds:
                break
    assert bounds == [1, 2, 1]


@in_no_time
@pytest.mark.parametrize("name", ["xhr", "xhr_streaming", "websocket", "rawwebsocket"])
async def test_silent_server_counts_as_lost(name: str) -> None:
    answers: Any = {
        "xhr": [response(b"o\n"), b""],
        "xhr_streaming": stream(b"o\n"),
        "websocket": websocket_frame(b"o") if name == "websocket" else b"",
    }
    loop = asyncio.get_running_loop()
    async with scripted(**answers) as server, connect(server.url, transports=name) as socket:
        began = loop.time()
        with pytest.raises(ConnectionClosedError, match="1006 the server was silent for 60 s"):
            await socket.receive()
        assert 59 <= loop.time() - began <= 62


@in_no_time
async def test_silence_does_not_count_while_nobody_listens() -> None:
    calls: list[str] = []
    silence = Silence(10, lambda: calls.append("ask"), lambda: calls.append("too long"))
    silence.listen()
    await asyncio.sleep(4)
    silence.heard()
    await asyncio.sleep(100)
    assert calls == []
    silence.listen()
    await asyncio.sleep(9.9)
    assert calls == ["ask"]
    await asyncio.sleep(10)
    assert calls == ["ask", "too long"]
    silence.stop()


@in_no_time
@pytest.mark.parametrize("limit", [0.1, 0.3, 25.3, 60])
async def test_silence_is_noticed_although_sums_of_seconds_are_rounded(limit: float) -> None:
    """Half of 0.1 s after 1000 s is a moment less than that."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    calls: list[str] = []
    silence = Silence(limit, lambda: calls.append("ask"), lambda: calls.append("too long"))
    silence.listen()
    for _ in range(100):
        loop.block(limit / 8)
        await asyncio.sleep(0)
    assert calls == ["ask", "too long"]


@in_no_time
async def test_websocket_is_pinged_and_its_pong_is_a_sign_of_life(serve: Serve) -> None:
    served = await serve(Echo, settings={"heartbeat_delay": 10_000})
    for name in ("websocket", "rawwebsocket"):
        async with connect(served.url(), transports=name, session=served.session) as socket:
            await asyncio.sleep(1000)
            assert socket.close_code is None


async def test_middleware_that_answers_401_is_named(serve: Serve) -> None:
    @web.middleware
    async def nobody(request: web.Request, handler: Any) -> web.StreamResponse:
        raise web.HTTPUnauthorized

    served = await serve(app=web.Application(middlewares=[nobody]))
    with pytest.raises(ConnectError, match="401 Unauthorized") as error:
        await connect(served.url(), session=served.session)
    assert not error.value.is_temporary
