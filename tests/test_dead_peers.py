"""Who counts as alive, and how soon a client that has gone is noticed, on each transport."""

import asyncio

import pytest
from aiohttp import WSMsgType

from tests.conftest import Recorder, Serve
from tests.websocket_wire import frame, handshake, masked

both = pytest.mark.parametrize("path", ["/0/1/websocket", "/websocket"])

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
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await Noted.until("close")
    assert "timeout, 1006 'Ping not answered'" in caplog.text
    assert served.router.session_count == 0


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


async def test_any_message_counts_as_life(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings=SHORT)
    wire = await handshake(served)
    for _ in range(20):  # one second without a single pong
        wire.writer.write(masked(1, b'"x"'))
        await asyncio.sleep(0.05)
    assert "close" not in Noted.seen


async def test_bytes_of_an_unfinished_message_count_as_life(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings=SHORT)
    wire = await handshake(served)
    message = masked(1, b'"' + b"x" * 100 + b'"')
    for start in range(0, len(message), 6):
        wire.writer.write(message[start : start + 6])
        await asyncio.sleep(0.05)
    await Noted.until("x" * 100)
    assert "close" not in Noted.seen


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
