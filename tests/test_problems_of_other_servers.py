"""What users of SockJS servers ran into and is tested nowhere else; see docs/promises.md."""

import asyncio
import logging
import time
from pathlib import Path

import pytest

import sockjs_aio
from sockjs_aio import ConnectionInfo
from tests import clients
from tests.conftest import SHORT, Recorder, Serve

pytestmark = pytest.mark.virtual_time

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
http = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
streams = pytest.mark.parametrize("kind", clients.STREAMS, ids=lambda kind: kind.name)
Kind = type[clients.Client]


@http
@pytest.mark.parametrize("cancellation", [True, False])
async def test_receiver_after_a_lost_one_never_gets_2010(
    serve: Serve, kind: Kind, cancellation: bool
) -> None:
    served = await serve(handler_cancellation=cancellation)
    for _ in range(10):
        lost = await kind.open(served)
        lost.abort()
        back = kind(served, {})
        back.path = lost.path
        await back.connect()
        # the poll that `open` sends may not have arrived before the reset
        assert await back.frame() in (b'c[1002,"Connection interrupted"]', b"o")
        await back.leave()


@every
async def test_message_that_comes_during_on_open_waits(serve: Serve, kind: Kind) -> None:
    class Slow(Recorder):
        gate = asyncio.Event()

        async def on_open(self, info: ConnectionInfo) -> None:
            self.seen.append("open begins")
            await self.gate.wait()
            self.seen.append("open ends")

    client = await kind.open(await serve(Slow))
    await Slow.until("open begins")
    await client.send("a", "b")
    await asyncio.sleep(0.02)
    assert Slow.seen == ["open begins"]
    Slow.gate.set()
    await Slow.until("b")
    assert Slow.seen == ["open begins", "open ends", "a", "b"]
    await client.leave()


@pytest.mark.parametrize("kind", clients.SOCKJS, ids=lambda kind: kind.name)
async def test_messages_of_one_turn_leave_as_one_frame(serve: Serve, kind: Kind) -> None:
    class Talking(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            for number in range(100):
                self.send(f"{number}")

    client = await kind.open(await serve(Talking))
    await client.send("a")
    frame = await client.frame()
    assert frame == b"a[" + b",".join(b'"%d"' % number for number in range(100)) + b"]"
    await client.leave()


@every
@pytest.mark.parametrize("hook", ["open", "message", "close"])
async def test_close_in_any_hook_leaves_nothing_that_runs(
    serve: Serve, kind: Kind, hook: str
) -> None:
    class Closing(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await super().on_open(info)
            if hook == "open":
                self.close()

        async def on_message(self, message: str | bytes) -> None:
            self.close()

        async def on_close(self) -> None:
            self.close()
            await super().on_close()

    served = await serve(Closing, settings=SHORT)
    client = await kind.open(served)
    if hook == "close":
        client.abort()
    else:
        if hook == "message":
            await client.send("a")
        assert await client.frame() == b'c[3000,"Go away!"]'
        await client.leave()
    await Closing.until("close")
    await served.until_empty()
    spent = time.process_time()
    await asyncio.sleep(0.2)
    assert time.process_time() - spent < 0.15, "somebody is busy"
    assert Closing.seen == ["open", "close"]


@every
@pytest.mark.parametrize("cancellation", [True, False])
async def test_clients_that_go_in_the_middle_of_anything_are_no_errors(
    serve: Serve, kind: Kind, cancellation: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Pouring(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            for number in range(200):
                self.send("x" * 20_000)
                await asyncio.sleep(0 if number % 20 else 0.001)

    caplog.set_level(logging.INFO)
    settings = {**SHORT, "response_limit": 1 << 30, "send_queue_limit": 1 << 27}
    served = await serve(Pouring, settings=settings, handler_cancellation=cancellation)
    for number in range(5):
        client = await kind.open(served)
        await client.send("go")
        await asyncio.sleep(0.001 * number)
        client.abort()
    await served.until_empty()
    assert {(record.name, record.levelname) for record in caplog.records} == {
        ("sockjs_aio.session", "INFO")
    }
    assert len(caplog.records) == 5, "how each session ended, and nothing else"


@streams
async def test_streams_ask_proxies_not_to_keep_them_back(serve: Serve, kind: Kind) -> None:
    served = await serve()
    method, url = kind(served, {})._request()  # type: ignore[attr-defined]
    wire = await served.wire()
    wire.send(method, served.prefix + "/000/1" + url, b"" if method == "POST" else None)
    head = await wire.head()
    assert head.header("X-Accel-Buffering") == "no"
    assert "no-transform" in (head.header("Cache-Control") or "")
    assert head.header("Content-Encoding") is None


def test_package_is_typed() -> None:
    assert (Path(sockjs_aio.__file__).parent / "py.typed").exists()
