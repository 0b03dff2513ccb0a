"""`router.drain`: nobody new, and those who are there are told, one after the other."""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import Drain
from sockjs_aio.core.closing import Closing
from tests import clients
from tests.conftest import Echo, Recorder, Serve, Served
from tests.openers import ask, openers

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
Kind = type[clients.Client]

FAREWELL = b'c[1012,"Service restart"]'


@pytest.mark.logs("ZeroDivisionError: mistake")
async def test_process_can_end_although_its_drain_fails(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def drain(_closing: Closing, _over: float) -> None:
        raise ZeroDivisionError("mistake")

    served = await serve(Echo)
    monkeypatch.setattr(Closing, "drain", drain)
    await Drain(notice=0, over=0, limit=5).run(served.app)
    assert "drain failed; closing the remaining sessions" in caplog.text


async def with_health(serve: Serve, connection: Any, **options: Any) -> Served:
    """Serve with `router.health` at ``/echo/health``."""
    app = web.Application()
    health: list[Callable[[web.Request], Awaitable[web.StreamResponse]]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        return await health[0](request)

    app.router.add_get("/echo/health", answer)
    served = await serve(connection, app=app, **options)
    health.append(served.router.health)
    return served


async def health(served: Served) -> tuple[int, Any]:
    reply = await served.request("GET", "/health")
    report = json.loads(reply.body)
    assert report.pop("process") == os.getpid()
    return reply.status, report


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
async def test_announced_drain_shows_in_health_and_refuses_nobody(serve: Serve, kind: Kind) -> None:
    served = await with_health(serve, Echo)
    served.router.announce_drain()
    assert await health(served) == (503, {"status": "draining", "sessions": 0})
    client = await kind.open(served)
    await client.send("still")
    assert await client.messages(1) == ["still"]
    draining = asyncio.create_task(served.router.drain())
    while (frame := await client.frame()) == b"h":
        pass
    assert frame == b'c[1012,"Service restart"]'
    await client.leave()
    await draining


@pytest.mark.virtual_time
@openers
async def test_new_sessions_are_refused_and_health_says_so(
    serve: Serve, method: str, path: str
) -> None:
    served = await with_health(serve, Echo)
    members = [await clients.WebSocket.open(served) for _ in range(3)]
    assert await health(served) == (200, {"status": "ok", "sessions": 3})
    draining = asyncio.ensure_future(served.router.drain(over=600))
    await asyncio.sleep(0)
    status, told = await health(served)
    assert (status, told["status"]) == (503, "draining")
    assert told["sessions"] in (2, 3), "the first one's turn has come, the second one's in 200 s"
    reply = await ask(served, method, path)
    assert (reply.status, reply.header("Retry-After")) == (503, "5")
    draining.cancel()
    for client in members:
        await client.leave()
    assert (await health(served))[0] == 503, "it stays so"


@pytest.mark.virtual_time
@openers
async def test_session_that_was_being_authorized_is_refused(
    serve: Serve, method: str, path: str
) -> None:
    gate, arrived = asyncio.Event(), asyncio.Event()

    async def authorize(request: web.Request) -> bool:
        arrived.set()
        await gate.wait()
        return True

    served = await serve(Echo, authorize=authorize)
    asking = asyncio.ensure_future(ask(served, method, path))
    await arrived.wait()
    await served.router.drain()
    gate.set()
    assert (await asking).status == 503
    assert served.router.session_count == 0


@pytest.mark.virtual_time
@every
async def test_session_works_as_ever_until_its_turn(serve: Serve, kind: Kind) -> None:
    class Noted(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send(message)

    served = await serve(Noted)
    members = [await kind.open(served) for _ in range(3)]
    await Noted.until("open", 3)
    draining = asyncio.ensure_future(served.router.drain(over=600))
    await Noted.until("close")  # the first one's turn comes at once, the second one's after 200 s
    told = [connection.is_closed for connection in Noted.connections].index(True)
    for client in members[:told] + members[told + 1 :]:
        for number in range(10):
            await client.send(str(number))
        assert await client.messages(10) == list("0123456789")
    assert await members[told].frame() == FAREWELL
    draining.cancel()
    for client in members:
        await client.leave()


@pytest.mark.virtual_time
@every
async def test_queued_messages_come_first_then_the_reason(serve: Serve, kind: Kind) -> None:
    class Noted(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            for number in range(10):
                self.send(str(number))
            self.draining = asyncio.ensure_future(served.router.drain())

        async def on_close(self) -> None:
            assert self.close_info is not None
            self.seen.append(self.close_info.initiator)

    served = await serve(Noted)
    client = await kind.open(served)
    await client.send("a")
    assert await client.messages(10) == list("0123456789")
    assert await client.frame() == FAREWELL
    await Noted.until("shutdown")
    await client.leave()
    connection: Any = Noted.connections[0]
    await connection.draining
    assert Noted.seen == ["open", "shutdown"]


@pytest.mark.virtual_time
@every
async def test_traffic_goes_on_to_the_end_and_nothing_is_lost(serve: Serve, kind: Kind) -> None:
    class Ticking(Recorder):
        """Sends numbers until it is closed."""

        async def on_message(self, message: str | bytes) -> None:
            self.sent = 0
            while not self.is_closed:
                self.send(str(self.sent))
                self.sent += 1
                await asyncio.sleep(0.001)

    served = await serve(Ticking)
    client = await kind.open(served)
    await client.send("go")
    received = await client.messages(3)
    draining = asyncio.ensure_future(served.router.drain(over=0.1))
    while (frame := await client.frame()) != FAREWELL:
        if frame != b"":  # a response that has reached its limit
            received += json.loads(frame[1:])
    connection: Any = Ticking.connections[0]
    assert received == [str(number) for number in range(connection.sent)]
    await client.leave()
    await draining
    assert Ticking.seen == ["open", "close"]


@pytest.mark.virtual_time
async def test_sessions_are_closed_one_after_the_other(serve: Serve) -> None:
    class Noted(Recorder):
        async def on_close(self) -> None:
            self.seen.append(asyncio.get_running_loop().time())

    served = await serve(Noted)
    members = [await kind.open(served) for kind in clients.ALL * 6]
    await Noted.until("open", len(members))
    start = asyncio.get_running_loop().time()
    draining = asyncio.ensure_future(served.router.drain(over=1))
    for member in members:
        assert await member.frame() == FAREWELL
        await member.leave()
    await draining
    ends = sorted(seen - start for seen in Noted.seen if seen != "open")
    assert len(ends) == len(members) == 42
    batches = 1 + sum(ends[n] - ends[n - 1] > 0.02 for n in range(1, len(ends)))
    assert batches >= 5, ends
    assert sum(end > 0.5 for end in ends) >= 10, "not all at the beginning"


@pytest.mark.virtual_time
async def test_draining_nobody_takes_no_time(serve: Serve) -> None:
    served = await serve(Echo)
    async with async_timeout.timeout(5):
        await served.router.drain(over=60)
    reply = await ask(served, "POST", "/0/1/xhr")
    assert reply.status == 503


@pytest.mark.virtual_time
async def test_second_call_may_be_shorter_and_tells_nobody_twice(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    members = [await kind.open(served) for kind in clients.ALL * 2]
    await Noted.until("open", 14)
    slowly = asyncio.ensure_future(served.router.drain(over=60))
    quickly = asyncio.ensure_future(served.router.drain())
    for member in members:
        assert await member.frame() == FAREWELL
        if not member.is_http:
            assert await member.frame() == b""
        await member.leave()
    async with async_timeout.timeout(5):
        await quickly
        await slowly
        await served.router.drain(over=60)
    assert Noted.seen.count("close") == 14


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", clients.POLLS, ids=lambda kind: kind.name)
async def test_poller_that_is_away_is_told_when_it_comes(serve: Serve, kind: Kind) -> None:
    served = await serve(Echo)
    client = kind(served, {})
    method, url = client._request()  # type: ignore[attr-defined]
    body = b"" if method == "POST" else None
    assert (await served.request(method, client.path + url, body)).status == 200
    await client.send("a")
    draining = asyncio.ensure_future(served.router.drain())
    await asyncio.sleep(0.02)
    assert not draining.done(), "it does not know so far"
    for text in (b"a", b"Service restart", b"Service restart"):
        reply = await served.request(method, client.path + url, body)
        assert text in reply.body
    async with async_timeout.timeout(2):
        await draining
    assert await client.send_payload('["b"]') == 404


@pytest.mark.virtual_time
async def test_poller_that_never_comes_is_waited_for_until_it_expires(serve: Serve) -> None:
    settings = {"disconnect_delay": 0.1, "session_check_interval": 0.02, "shutdown_timeout": 60}
    served = await serve(Echo, settings=settings)
    await served.poll("/0/1")
    async with async_timeout.timeout(5):
        await served.router.drain()
    assert served.router.session_count == 0


@pytest.mark.not_over("sharing")  # it reads what its client does not
async def test_nobody_is_cut_off_when_the_time_is_over(serve: Serve) -> None:
    class Slow(Recorder):
        gate = asyncio.Event()

        async def on_message(self, message: str | bytes) -> None:
            for _ in range(160):
                self.send("x" * 65536)  # 10 MB in all: more than sockets hold
            await self.gate.wait()
            self.seen.append("returned")

    settings = {"shutdown_timeout": 0.1, "send_queue_limit": 1 << 24, "response_limit": 1 << 30}
    served = await serve(Slow, settings=settings)
    kinds = [clients.WebSocket, clients.RawWebSocket, *clients.STREAMS]
    members = [await kind.open(served) for kind in kinds]
    transports = []
    for member in members:
        wire = getattr(member, "wire", None)
        transports.append(wire.writer.transport if wire else member.socket._writer.transport)
        sock = transports[-1].get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # or it grows to 32 MB
        member.stop_reading()
        await member.send("pour")
    writers = [connection.session._writer for connection in Slow.connections]
    while not all(writer is not None and writer.is_full for writer in writers):
        await asyncio.sleep(0.01)
    await served.router.drain()
    assert "returned" not in Slow.seen, "that is what it has waited for in vain"
    Slow.gate.set()
    for member, transport in zip(members, transports, strict=True):
        transport.resume_reading()
        assert await member.messages(160) == ["x" * 65536] * 160
        assert await member.frame() == FAREWELL
        await member.leave()
    await Slow.until("close", len(members))
    assert Slow.seen.count("returned") == len(members)


@pytest.mark.virtual_time
@every
async def test_shutdown_after_it_has_nothing_left_to_wait_for(serve: Serve, kind: Kind) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings={"shutdown_timeout": 60})
    client = await kind.open(served)
    await Noted.until("open")
    draining = asyncio.ensure_future(served.router.drain())
    assert await client.frame() == FAREWELL
    await client.leave()
    async with async_timeout.timeout(5):
        await draining
        await served.runner.cleanup()
    assert Noted.seen == ["open", "close"]


@pytest.mark.virtual_time
async def test_shutdown_does_not_wait_for_a_slow_drain(serve: Serve) -> None:
    served = await serve(Echo, settings={"shutdown_timeout": 60})
    members = [await kind.open(served) for kind in clients.ALL]
    draining = asyncio.ensure_future(served.router.drain(over=60))
    await asyncio.sleep(0.01)
    async with async_timeout.timeout(5):
        await served.router.shutdown()
    for member in members:
        assert await member.frame() == FAREWELL
        await member.leave()
    draining.cancel()


@pytest.mark.virtual_time
@pytest.mark.parametrize("over", [-1, float("nan")])
async def test_period_below_0_is_refused(serve: Serve, over: float) -> None:
    served = await serve(Echo)
    with pytest.raises(ValueError, match="0 or more"):
        await served.router.drain(over)
    assert await served.poll("/0/1") == b"o", "and nothing has begun"


@pytest.mark.virtual_time
async def test_polls_on_connections_that_stay_open_learn_of_it(serve: Serve) -> None:
    served = await serve(Echo)
    wires = [await served.wire() for _ in range(5)]
    for number, wire in enumerate(wires):
        assert (await wire.request("POST", f"/echo/0/{number}/xhr", b"")).body == b"o\n"
    draining = asyncio.ensure_future(served.router.drain())
    await asyncio.sleep(0.01)
    for number, wire in enumerate(wires):
        reply = await wire.request("POST", f"/echo/0/{number}/xhr", b"")
        assert reply.body == FAREWELL + b"\n"
        wire.close()
    await draining


@pytest.mark.virtual_time
async def test_progress_is_logged_once_a_second(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sockjs_aio")
    served = await serve(Echo)
    wire = await served.wire()
    for number in range(1200):
        await wire.request("POST", f"{served.prefix}/0/{number}/xhr", b"")
    caplog.clear()
    await Drain(notice=0, over=4, limit=600).run(served.app)
    lines = [line for line in caplog.messages if line.endswith(" of 1,200 sessions closed")]
    counts = [int(line.split()[0].replace(",", "")) for line in lines]
    assert counts == sorted(counts)
    assert 4 <= len(counts) <= 5, "and none while clients fetch their close frames"
    assert 200 < counts[0] < 400
    assert lines[-1] == "1,200 of 1,200 sessions closed"
