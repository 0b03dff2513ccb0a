"""Slow readers, full queues, drain(): memory stays bounded and others are served."""

import asyncio
import logging
import sys
from typing import Any

import async_timeout
import pytest

from tests import clients
from tests.conftest import Recorder, Serve

SHORT = {"disconnect_delay": 0.2, "session_check_interval": 0.02}
receivers = pytest.mark.parametrize(
    "kind", [clients.WebSocket, clients.RawWebSocket, *clients.STREAMS], ids=lambda kind: kind.name
)
Kind = type[clients.Client]


@receivers
async def test_client_that_does_not_read_is_closed_and_others_are_served(
    serve: Serve, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    class Pouring(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            if message != "pour":
                self.send(message)
                return
            while not self.is_closed:
                self.send("x" * 65536)
                await asyncio.sleep(0)
            self.seen.append("full")

    limit = 1 << 20
    served = await serve(Pouring, settings={"send_queue_limit": limit, **SHORT})
    slow, quick = await kind.open(served), await kind.open(served)
    slow.stop_reading()
    await slow.send("pour")
    await Pouring.until("full")
    machine = Pouring.connections[0].session._machine
    assert machine.queued == 0, "what was queued is freed at once"
    await Pouring.until("close")
    await quick.send("a")
    assert await quick.messages(1) == ["a"]
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "closed (overflow, 1008 'Slow consumer', after" in record.getMessage()
    assert Pouring.seen == ["open", "open", "full", "close"]
    slow.abort()
    await quick.leave()
    await served.until_empty()


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
async def test_session_that_is_broadcast_to_and_never_asks_is_closed(
    serve: Serve, kind: Kind
) -> None:
    class Noted(Recorder):
        pass

    settings = {"send_queue_limit": 1000, "disconnect_delay": 5, "response_limit": 1}
    served = await serve(Noted, settings=settings)
    method, url = kind(served, {})._request()  # type: ignore[attr-defined]
    body = b"" if method == "POST" else None
    assert (await served.request(method, "/0/1" + url, body)).status == 200
    await Noted.until("open")
    machine = Noted.connections[0].session._machine
    most = 0
    for _ in range(20):
        served.router.broadcast(Noted.connections, "x" * 100)
        most = max(most, machine.queued)
    assert 800 < most <= 1000, "the limit is used, and kept"
    assert machine.queued == 0, "what was queued is freed at once"
    await Noted.until("close")
    assert b"Slow consumer" in (await served.request(method, "/0/1" + url, body)).body
    assert await served.post("/0/1", '["a"]') == 404


async def test_one_message_alone_is_always_accepted(serve: Serve) -> None:
    class Large(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send("x" * 1_000_000)

    served = await serve(Large, settings={"send_queue_limit": 1000, "response_limit": 1 << 24})
    for kind in clients.ALL:
        client = await kind.open(served)
        await client.send("a")
        assert await client.messages(1) == ["x" * 1_000_000]
        await client.leave()


@pytest.mark.parametrize("limit", [1000, 100_000, 1 << 22])
@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
async def test_drain_lets_a_slow_client_keep_up(serve: Serve, kind: Kind, limit: int) -> None:
    class Draining(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            for number in range(40):
                self.send(f"{number:<{limit // 10}}")
                await self.drain()
            self.seen.append("sent")

    settings = {"send_queue_limit": limit, "response_limit": 1 << 30}
    served = await serve(Draining, settings=settings)
    client = await kind.open(served)
    await client.send("a")
    if kind.is_http and kind not in clients.POLLS:
        await asyncio.sleep(0.02)
    messages = await client.messages(40)
    assert [int(message) for message in messages] == list(range(40))
    await Draining.until("sent")
    await client.leave()


async def test_drain_returns_when_the_session_closes(serve: Serve) -> None:
    class Draining(Recorder):
        async def on_open(self, info: object) -> None:
            self.connections.append(self)
            self.send("x" * 10_000)
            self.seen.append("waits")
            await self.drain()
            self.seen.append("drained")

    served = await serve(Draining, settings={"send_queue_limit": 20_000, **SHORT})
    await served.poll("/0/1")
    await Draining.until("waits")
    await asyncio.sleep(0.02)
    assert "drained" not in Draining.seen
    Draining.connections[0].close()
    await Draining.until("drained")


async def test_cancelled_drain_does_not_disturb_others(serve: Serve) -> None:
    class Draining(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send("x" * 10_000)
            other = asyncio.ensure_future(self.drain())
            try:
                async with async_timeout.timeout(0.01):
                    await self.drain()
            except asyncio.TimeoutError:
                self.seen.append("timed out")
            await other
            self.seen.append("drained")

    served = await serve(Draining, settings={"send_queue_limit": 20_000})
    session = "/0/drain"
    await served.poll(session)
    await served.post(session, '["a"]')
    await Draining.until("timed out")
    assert len(await served.poll(session)) == 10_005
    await Draining.until("drained")


@pytest.mark.slow
async def test_session_does_not_expire_while_its_response_is_downloaded(serve: Serve) -> None:
    class Large(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send("x" * 30_000_000)

    settings = {"send_queue_limit": 1 << 26, "response_limit": 1 << 26, **SHORT}
    settings["disconnect_delay"] = 0.5
    served = await serve(Large, settings=settings)
    for number, path in enumerate(["xhr", "xhr_streaming"]):
        session = f"/0/{number}"
        await served.poll(session)
        await served.post(session, '["a"]')
        wire = await served.wire(limit=1 << 16)
        wire.send("POST", f"/echo{session}/{path}", b"")
        await wire.head()
        size = 0
        for _ in range(24):  # 2.4 seconds, nearly five times the disconnect delay
            await asyncio.sleep(0.1)
            size += len(await wire.reader.readexactly(1 << 19))
        assert Large.seen.count("close") == number, size
        wire.abort()
        await Large.until("close", number + 1)


def reading_side(connection: Recorder) -> Any:
    """Return what the server reads from: TLS reads on where it is paused itself."""
    transport = connection.session._liveness._delivery._transport  # type: ignore[union-attr]
    tls = getattr(transport, "_ssl_protocol", None)
    return tls._transport if tls else transport


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what has not been read")
@pytest.mark.parametrize("url", ["/xhr", "/jsonp?c=x"])
async def test_session_does_not_expire_while_its_next_poll_waits_to_be_read(
    serve: Serve, url: str
) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings=SHORT)
    method, body = ("POST", b"") if url == "/xhr" else ("GET", None)
    wire = await served.wire()
    await wire.request(method, "/echo/0/1" + url, body)
    await Noted.until("open")
    (connection,) = Noted.connections
    server_side = reading_side(connection)
    server_side.pause_reading()  # as if the event loop had too much to do
    wire.send(method, "/echo/0/1" + url, body)
    await asyncio.sleep(1.5 * SHORT["disconnect_delay"])
    assert not connection.is_closed
    connection.send("still here")
    server_side.resume_reading()
    assert b"still here" in (await wire.reply()).body
    wire.close()
    await Noted.until("close")


@pytest.mark.virtual_time
async def test_closed_session_whose_client_takes_nothing_is_forgotten(serve: Serve) -> None:
    class Closing(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            for _ in range(100):
                self.send("x" * 100_000)
            self.close()

    settings = {"send_queue_limit": 1 << 26, "response_limit": 1 << 26, **SHORT}
    served = await serve(Closing, settings=settings)
    client = await clients.XhrStreaming.open(served)
    client.stop_reading()
    await client.send("a")
    await Closing.until("close")
    await served.until_empty()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what has not been read")
async def test_session_expires_though_its_connection_is_not_read(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings=SHORT)
    wire = await served.wire()
    await wire.request("POST", "/echo/0/1/xhr", b"")
    await Noted.until("open")
    server_side = reading_side(Noted.connections[0])
    server_side.pause_reading()
    wire.send("GET", "/echo/info")
    await Noted.until("close")
    server_side.resume_reading()
    assert (await wire.reply()).status == 200
    wire.close()
