"""xhr_send and jsonp_send: bodies, limits, and what happens to bad ones."""

import asyncio
import gzip
import json
import zlib

import async_timeout
import pytest
from aiohttp import web

from tests.conftest import Echo, Recorder, Serve, Served
from tests.protocol.test_frames import BROKEN
from tests.transports.test_pages import NOT_CACHED
from tests.wire import Wire

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def test_xhr_send_to_the_byte(serve: Serve) -> None:
    served = await serve(Echo)
    await served.poll("/0/1")
    headers = {"Origin": "http://a.example"}
    reply = await served.request("POST", "/0/1/xhr_send", '["a"]', headers=headers)
    assert (reply.status, reply.body) == (204, b"")
    assert reply.header("Content-Type") == "text/plain; charset=UTF-8"
    assert reply.header("Cache-Control") == NOT_CACHED
    assert reply.header("Access-Control-Allow-Origin") == "http://a.example"
    assert reply.header("Content-Length") is None


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ("d=%5B%22a%20b%2B%22%5D", FORM),
        ("x=%FF&d=%5B%22a+b%2B%22%5D&y", FORM),
        ("d=" + "%5B%22a%20b%2B%22%5D", {"Content-Type": FORM["Content-Type"] + "; charset=x"}),
        ('["a b+"]', {"Content-Type": "text/plain"}),
        ('["a b+"]', {"Content-Type": "text/plain; charset=nonsense"}),
        ('["a b+"]', {"Content-Type": "multipart/form-data; boundary=x"}),
        ('["a b+"]', {}),
    ],
)
async def test_jsonp_send_takes_forms_and_plain_bodies(
    serve: Serve, body: str, headers: dict[str, str]
) -> None:
    served = await serve(Echo)
    await served.poll("/0/1")
    reply = await served.request("POST", "/0/1/jsonp_send", body, headers=headers)
    assert (reply.status, reply.body) == (200, b"ok")
    assert reply.header("Content-Type") == "text/plain; charset=UTF-8"
    assert reply.header("Cache-Control") == NOT_CACHED
    assert await served.poll("/0/1") == b'a["a b+"]'


@pytest.mark.parametrize("url", ["/0/1/xhr_send", "/0/1/jsonp_send"])
async def test_bad_payloads_are_named_and_the_session_lives_on(serve: Serve, url: str) -> None:
    served = await serve(Echo)
    await served.poll("/0/1")
    for payload in BROKEN:
        reply = await served.request("POST", url, payload)
        assert (reply.status, reply.body) == (500, b"Broken JSON encoding."), payload[:20]
    reply = await served.request("POST", url, b"")
    assert (reply.status, reply.body) == (500, b"Payload expected.")
    assert reply.header("Content-Type") == "text/plain; charset=UTF-8"
    assert await served.post("/0/1", '["fine"]') == 204
    assert await served.poll("/0/1") == b'a["fine"]'


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", b"Payload expected."),
        ("d=", b"Payload expected."),
        ("x=1", b"Payload expected."),
        ("d=%FF", b"Broken JSON encoding."),
        ("d=%5B%22a", b"Broken JSON encoding."),
    ],
)
async def test_bad_forms(serve: Serve, body: str, text: bytes) -> None:
    served = await serve(Echo)
    await served.poll("/0/1")
    reply = await served.request("POST", "/0/1/jsonp_send", body, headers=FORM)
    assert (reply.status, reply.body) == (500, text)


@pytest.mark.parametrize("url", ["/0/1/xhr_send", "/0/1/jsonp_send"])
@pytest.mark.parametrize("body", [b"", b'["a"]', b"broken"])
async def test_unknown_session_is_404_whatever_the_body(
    serve: Serve, url: str, body: bytes
) -> None:
    assert (await (await serve(Echo)).request("POST", url, body)).status == 404


async def test_empty_array_does_nothing(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    await served.poll("/0/1")
    assert await served.post("/0/1", "[]") == 204
    assert await served.post("/0/1", '["a"]') == 204
    await Noted.until("a")
    assert Noted.seen == ["open", "a"]


async def test_limits_of_size_and_number(serve: Serve) -> None:
    served = await serve(Echo, settings={"max_message_size": 1000, "max_messages": 10})
    await served.poll("/0/1")
    fitting = json.dumps(["x" * 996])
    assert len(fitting) == 1000
    assert await served.post("/0/1", fitting) == 204
    assert await served.post("/0/1", json.dumps(["x" * 997])) == 413
    assert await served.post("/0/1", json.dumps([""] * 10)) == 204
    assert await served.post("/0/1", json.dumps([""] * 11)) == 413
    assert await served.post("/0/1", '["fine"]') == 204


async def test_limit_may_be_above_that_of_the_application(serve: Serve) -> None:
    app = web.Application(client_max_size=10)
    served = await serve(Echo, app=app, settings={"max_message_size": 1 << 22})
    await served.poll("/0/1")
    assert await served.post("/0/1", json.dumps(["x" * 2_000_000])) == 204
    assert len(await served.poll("/0/1")) == 2_000_005


async def test_limit_holds_for_chunked_bodies(serve: Serve) -> None:
    served = await serve(Echo, settings={"max_message_size": 1000})
    await served.poll("/0/1")
    wire = await served.wire()
    head = b"POST /echo/0/1/xhr_send HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire.writer.write(head + (b"100\r\n" + b"x" * 256 + b"\r\n") * 8 + b"0\r\n\r\n")
    assert (await wire.reply()).status == 413
    wire.close()


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_limit_holds_after_unpacking(serve: Serve, encoding: str, pack: object) -> None:
    assert callable(pack)
    served = await serve(Echo, settings={"max_message_size": 1000})
    await served.poll("/0/1")
    headers = {"Content-Encoding": encoding}
    assert await served.post("/0/1", pack(b'["a"]'), headers=headers) == 204
    assert await served.poll("/0/1") == b'a["a"]'
    bomb = pack(json.dumps(["x" * 100_000]).encode())
    assert len(bomb) < 1000
    assert await served.post("/0/1", bomb, headers=headers) == 413
    assert await served.post("/0/1", '["fine"]') == 204


async def test_body_that_cannot_be_unpacked_is_400(serve: Serve) -> None:
    served = await serve(Echo)
    await served.poll("/0/1")
    headers = {"Content-Encoding": "gzip"}
    assert await served.post("/0/1", b"no gzip at all", headers=headers) == 400
    assert await served.post("/0/1", '["fine"]') == 204


async def test_body_that_a_middleware_has_read(serve: Serve) -> None:
    @web.middleware
    async def read(request: web.Request, handler: object) -> web.StreamResponse:
        await request.read()
        assert callable(handler)
        response: web.StreamResponse = await handler(request)
        return response

    served = await serve(Echo, app=web.Application(middlewares=[read]))
    await served.poll("/0/1")
    assert await served.post("/0/1", '["a"]') == 204
    assert await served.poll("/0/1") == b'a["a"]'


async def test_204_does_not_wait_for_slow_hooks(serve: Serve) -> None:
    class Slow(Recorder):
        gate = asyncio.Event()

        async def on_message(self, message: str | bytes) -> None:
            await self.gate.wait()
            await super().on_message(message)

    served = await serve(Slow)
    await served.poll("/0/1")
    for number in range(5):
        assert await served.post("/0/1", f'["{number}"]') == 204
    assert Slow.seen == ["open"]
    Slow.gate.set()
    await Slow.until("4")
    assert Slow.seen == ["open", "0", "1", "2", "3", "4"]


async def test_full_inbox_delays_the_204_and_keeps_the_order(serve: Serve) -> None:
    class Slow(Recorder):
        gate = asyncio.Semaphore(0)

        async def on_message(self, message: str | bytes) -> None:
            await self.gate.acquire()
            self.seen.append(message[0])

    served = await serve(Slow, settings={"receive_queue_limit": 1000})
    await served.poll("/0/1")
    bodies = [json.dumps([digit * 600]) for digit in "01234"]
    assert await served.post("/0/1", bodies[0]) == 204  # handled at once
    await asyncio.sleep(0.02)
    assert await served.post("/0/1", bodies[1]) == 204  # queued
    waiting = []
    for body in bodies[2:]:
        waiting.append(asyncio.ensure_future(served.post("/0/1", body)))
        await asyncio.sleep(0.02)
    assert not any(post.done() for post in waiting)
    Slow.gate.release()
    assert await waiting[0] == 204
    assert not waiting[1].done()
    for _ in range(4):
        Slow.gate.release()
    assert await asyncio.gather(*waiting) == [204] * 3
    await Slow.until("4")
    assert Slow.seen == ["open", "0", "1", "2", "3", "4"]


class Hanging(Recorder):
    """Handles nothing before `gate` is set."""

    gate: asyncio.Event

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.gate = asyncio.Event()

    async def on_message(self, message: str | bytes) -> None:
        await self.gate.wait()
        self.seen.append(message[0])


async def waiting_posts(served: Served, url: str, *bodies: str) -> list[Wire]:
    """Post `bodies` in their order, each on a connection of its own; nobody reads the answers."""
    wires = []
    for body in bodies:
        wires.append(await served.wire())
        wires[-1].send("POST", served.prefix + url, body)
        await asyncio.sleep(0.02)
    return wires


@pytest.mark.parametrize("url", ["/0/1/xhr_send", "/0/1/jsonp_send"])
async def test_body_is_not_read_before_its_turn(serve: Serve, url: str) -> None:
    class Hangs(Hanging):
        pass

    settings = {"receive_queue_limit": 10, "max_message_size": 1 << 25}
    served = await serve(Hangs, settings=settings)
    await served.poll("/0/1")
    small = [json.dumps([digit * 20]) for digit in "012"]  # one handled, one queued, one waits
    large = json.dumps(["3" * (1 << 24)])  # more than sockets hold
    wires = await waiting_posts(served, url, *small, large, json.dumps(["4"]))
    unread = wires[3]
    async with async_timeout.timeout(5):
        while served.router.session_count and not unread.unsent:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.2)
    assert unread.unsent > 1 << 20
    Hangs.gate.set()
    for wire in wires:
        assert (await wire.reply()).status in (200, 204)
    await Hangs.until("4")
    assert Hangs.seen == ["open", *"01234"]


@pytest.mark.parametrize("cancellation", [True, False])
async def test_post_whose_client_leaves_before_its_turn_holds_up_nobody(
    serve: Serve, cancellation: bool
) -> None:
    class Hangs(Hanging):
        pass

    settings = {"receive_queue_limit": 10, "max_message_size": 1 << 25}
    served = await serve(Hangs, settings=settings, handler_cancellation=cancellation)
    await served.poll("/0/1")
    small = [json.dumps([digit * 20]) for digit in "012"]
    large = json.dumps(["3" * (1 << 24)])
    wires = await waiting_posts(served, "/0/1/xhr_send", *small, large, json.dumps(["4"]))
    wires[2].abort()
    wires[3].abort()
    await asyncio.sleep(0.02)
    Hangs.gate.set()
    assert (await wires[4].reply()).status == 204
    await Hangs.until("4")
    assert [x for x in Hangs.seen if x in ("0", "1", "4")] == ["0", "1", "4"]
    assert "3" not in Hangs.seen


async def test_waiting_posts_are_dropped_when_the_session_closes(serve: Serve) -> None:
    class Hangs(Hanging):
        pass

    served = await serve(Hangs, settings={"receive_queue_limit": 10})
    await served.poll("/0/1")
    bodies = [json.dumps([digit * 20]) for digit in "012"] + ["broken"] * 5
    wires = await waiting_posts(served, "/0/1/xhr_send", *bodies)
    Hangs.connections[0].close()
    statuses = [(await wire.reply()).status for wire in wires]
    assert statuses == [204] * 8, "500 if the last ones had been decoded"
    Hangs.gate.set()
    await Hangs.until("close")
    assert Hangs.seen == ["open", "0", "close"]


async def test_post_that_waits_for_room_is_dropped_when_the_session_closes(serve: Serve) -> None:
    class Slow(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.seen.append(message[0])
            await asyncio.sleep(0.05)
            self.close()

    served = await serve(Slow, settings={"receive_queue_limit": 10})
    await served.poll("/0/1")
    posts = [
        asyncio.ensure_future(served.post("/0/1", json.dumps([digit * 20]))) for digit in "012"
    ]
    statuses = await asyncio.gather(*posts)
    assert statuses == [204] * 3
    await Slow.until("close")
    assert Slow.seen.count("close") == 1 and len(Slow.seen) == 3


async def test_long_batch_lets_other_sessions_have_their_turn(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sockjs_aio.core.request_session.TURN", 0.0001)

    class Busy(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.seen.append(message)

    served = await serve(Busy)
    await served.poll("/0/1")
    await served.poll("/0/2")
    await served.post("/0/1", json.dumps(["x"] * 10_000))
    await served.post("/0/2", '["y"]')
    await Busy.until("x", 10_000)
    assert Busy.seen.index("y") < 10_000
