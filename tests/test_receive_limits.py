"""Limits on what one client may send, and how long it may take: each is reached, everywhere.

Elsewhere: of what waits for a client in test_slow_readers, of sessions in test_max_sessions, of a
response in transports/test_streaming, of the shutdown in test_shutdown and test_drain.
"""

import asyncio
import dataclasses
import json
import math
from urllib.parse import quote

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import Settings, SettingsError
from sockjs_aio.core.inbox import MAX_WAITING
from sockjs_aio.core.request_session import RequestSession
from tests import clients
from tests.conftest import Echo, Recorder, Serve
from tests.openers import ask, openers
from tests.target import Target
from tests.websocket_wire import handshake, masked

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
sockjs = pytest.mark.parametrize("kind", clients.SOCKJS, ids=lambda kind: kind.name)
websockets = pytest.mark.parametrize("path", ["/0/1/websocket", "/websocket"])
Kind = type[clients.Client]

TOO_BIG = 1009


@pytest.mark.parametrize(
    "field",
    [field for field in dataclasses.fields(Settings) if str(field.type).startswith(("int", "flo"))],
    ids=lambda field: field.name,
)
def test_every_number_is_checked(field: "dataclasses.Field[object]") -> None:
    bad: list[object] = [-1, "1", True, math.nan, math.inf, [1]]
    if field.name != "shutdown_timeout":  # which may be 0: then nobody is waited for
        bad.append(0)
    if field.default is not None:
        bad.append(None)
    if str(field.type).startswith("int"):
        bad.append(1.5)
    for value in bad:
        with pytest.raises(SettingsError, match=f"^{field.name}=.*it must be a "):
            Settings.from_mapping({field.name: value})


# Size and number of messages.


def message_of(kind: Kind, size: int) -> str:
    """Make a message whose request body, or WebSocket message, has exactly `size` bytes."""
    if kind is clients.RawWebSocket:
        return "x" * size
    around = "d=" + quote('[""]') if kind is clients.Jsonp else '[""]'
    return "x" * (size - len(around))


async def refusal(client: clients.Client, payload: str) -> int:
    """Send what is refused; return the status, or the close code of a WebSocket."""
    status = await client.send_payload(payload)
    if client.is_http:
        return status
    assert isinstance(client, clients.WebSocket)
    frame = await client.frame()
    if frame[:1] == b"c":
        code: int = json.loads(frame[1:])[0]
        return code
    assert frame == b""
    return int(client.close_code)


@every
async def test_max_message_size(serve: Serve, kind: Kind) -> None:
    served = await serve(Echo, settings={"max_message_size": 1000})
    client = await kind.open(served)
    fitting, larger = message_of(kind, 1000), message_of(kind, 1001)
    await client.send(fitting)
    assert await client.messages(1) == [fitting]
    payload = larger if kind is clients.RawWebSocket else json.dumps([larger])
    assert await refusal(client, payload) == (413 if kind.is_http else TOO_BIG)
    if kind.is_http:
        await client.send("fine")
        assert await client.messages(1) == ["fine"]
    await client.leave()


@sockjs
async def test_max_messages(serve: Serve, kind: Kind) -> None:
    class Noted(Recorder):
        pass

    client = await kind.open(await serve(Noted, settings={"max_messages": 10}))
    await client.send(*"0123456789")
    await Noted.until("9")
    too_many = json.dumps(["no"] * 11)
    assert await refusal(client, too_many) == (413 if kind.is_http else TOO_BIG)
    assert "no" not in Noted.seen, "nothing of it is delivered"
    if kind.is_http:
        await client.send("fine")
        await Noted.until("fine")
    await client.leave()


# Bodies that do not come.


BODIES = [
    ("POST", "/0/1/xhr_send"),
    ("POST", "/0/1/jsonp_send"),
    ("POST", "/0/1/xhr"),
    ("POST", "/0/1/xhr_streaming"),
    ("GET", "/0/1/eventsource"),
    ("GET", "/0/1/htmlfile?c=x"),
    ("GET", "/0/1/jsonp?c=x"),
]


@pytest.mark.virtual_time
@pytest.mark.parametrize(("method", "path"), BODIES)
@pytest.mark.parametrize("is_dripping", [False, True])
async def test_receive_timeout(serve: Serve, method: str, path: str, is_dripping: bool) -> None:
    # aiohttp takes in and drops what still comes after the answer, for its lingering_time of 10 s
    served = await serve(Echo, settings={"receive_timeout": 0.2}, lingering_time=0.05)
    await served.poll("/0/1")
    wire = await served.wire()
    loop = asyncio.get_running_loop()
    start = loop.time()
    wire.send(method, served.prefix + path, headers={"Content-Length": "1000"})
    answer = asyncio.ensure_future(wire.reply())
    while not answer.done() and is_dripping:
        wire.writer.write(b" ")  # that more comes does not make it longer
        await asyncio.wait([answer], timeout=0.02)
    reply = await answer
    assert (reply.status, reply.body) == (408, b"The request body did not arrive in time.\n")
    assert loop.time() - start > 0.19  # timers of uvloop count whole milliseconds
    assert await wire.is_closed()
    assert await served.post("/0/1", '["fine"]') == 204
    assert await served.poll("/0/1") == b'a["fine"]'


@websockets
async def test_handshake_with_a_body_is_refused_before_it_comes(serve: Serve, path: str) -> None:
    served = await serve(Echo, lingering_time=0.1)
    reply = await ask(served, "GET", path, **{"Content-Length": "1000"})
    assert reply.status == 400


async def test_bodies_that_do_not_come_hold_up_nobody_else(serve: Serve) -> None:
    served = await serve(Echo)
    for number in range(100):
        await served.poll(f"/0/{number}")
        wire = await served.wire()
        path = f"/echo/0/{number}/xhr_send"
        wire.send("POST", path, headers={"Content-Length": "10"})
    for kind in clients.ALL:
        client = await kind.open(served)
        await client.send("a")
        assert await client.messages(1) == ["a"]
        await client.leave()


# What has come and is not handled.


class Hanging(Recorder):
    """Handles nothing before its `gate` is set."""

    gate: asyncio.Event

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.gate = asyncio.Event()

    async def on_message(self, message: str | bytes) -> None:
        await self.gate.wait()
        self.seen.append(str(message)[:1])


async def post(served: Target, path: str, message: str) -> int:
    return (await served.request("POST", path, json.dumps([message]))).status


@pytest.mark.parametrize("path", ["/0/1/xhr_send", "/0/1/jsonp_send"])
@pytest.mark.parametrize("cancellation", [True, False])
async def test_requests_that_wait_behind_a_full_queue(
    serve: Serve, path: str, cancellation: bool
) -> None:
    class Hangs(Hanging):
        pass

    settings = {"receive_queue_limit": 10}
    served = await serve(Hangs, settings=settings, handler_cancellation=cancellation)
    await served.poll("/0/1")
    body = json.dumps(["x" * 20])
    for _ in range(2):  # one is handled, and hangs, one is queued
        assert await post(served, path, "x" * 20) in (200, 204)
    wires = [await served.wire() for _ in range(1 + MAX_WAITING)]  # one has the turn
    for wire in wires:
        wire.send("POST", served.prefix + path, body)
        await asyncio.sleep(0)
    session = Hangs.connections[0].session
    assert isinstance(session, RequestSession)
    hooks = session.hooks
    async with async_timeout.timeout(10):
        while not hooks.inbox.is_crowded:
            await asyncio.sleep(0.01)
    refused = await served.request("POST", path, body)
    assert (refused.status, refused.body) == (
        503,
        b"Too many requests of this session are waiting.\n",
    )
    assert refused.header("Retry-After") == "5"
    for wire in wires[1:]:
        wire.abort()
    if not cancellation:  # nobody tells that they have gone
        await asyncio.sleep(0.1)
        assert await post(served, path, "x") == 503
    tasks = len(asyncio.all_tasks())
    Hangs.gate.set()
    assert (await wires[0].reply()).status in (200, 204)
    assert await post(served, path, "last") in (200, 204)
    await Hangs.until("l")
    assert not hooks.inbox.is_crowded
    assert len(asyncio.all_tasks()) <= tasks


@pytest.mark.parametrize("path", ["/0/1/xhr_send", "/0/1/jsonp_send"])
async def test_receive_queue_limit(serve: Serve, path: str) -> None:
    class Hangs(Hanging):
        pass

    served = await serve(Hangs, settings={"receive_queue_limit": 1000})
    await served.poll("/0/1")
    assert await post(served, path, "0" * 600) in (200, 204), "handled, and hanging"
    assert await post(served, path, "1" * 600) in (200, 204), "queued"
    waiting = []
    for digit in "2345":
        waiting.append(asyncio.ensure_future(post(served, path, digit * 600)))
        await asyncio.sleep(0.01)
    done, _ = await asyncio.wait(waiting, timeout=0.1)
    assert not done
    session = Hangs.connections[0].session
    assert isinstance(session, RequestSession)
    assert session.hooks.inbox.size < 1000
    Hangs.gate.set()
    assert set(await asyncio.gather(*waiting)) <= {200, 204}
    await Hangs.until("5")
    assert Hangs.seen == ["open", *"012345"]


@pytest.mark.slow
@websockets
async def test_websocket_is_not_read_while_its_hook_hangs(serve: Serve, path: str) -> None:
    class Hangs(Hanging):
        pass

    wire = await handshake(await serve(Hangs), path)
    message = masked(1, b'"' + b"x" * 65534 + b'"')
    flood = message * 640  # 40 MB, more than sockets and aiohttp's buffers hold
    wire.writer.write(flood)
    unsent: float = math.inf
    async with async_timeout.timeout(10):
        while wire.unsent < unsent:  # until nothing is taken any more
            unsent = wire.unsent
            await asyncio.sleep(0.2)
    assert unsent > len(flood) / 2
    Hangs.gate.set()
    mark = "x" if path == "/0/1/websocket" else '"'
    async with async_timeout.timeout(10):
        while Hangs.seen.count(mark) < 640:
            await asyncio.sleep(0.01)
    wire.abort()


# authorize.


@pytest.mark.virtual_time
@openers
async def test_authorize_timeout(serve: Serve, method: str, path: str) -> None:
    ended = []

    async def authorize(request: web.Request) -> bool:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(request.path)
        return True

    served = await serve(Echo, settings={"authorize_timeout": 0.05}, authorize=authorize)
    reply = await ask(served, method, path)
    assert (reply.status, reply.header("Retry-After")) == (503, "5")
    assert len(ended) == 1
    assert served.router.session_count == 0


async def test_timeout_inside_authorize_is_one_too(serve: Serve) -> None:
    async def authorize(request: web.Request) -> None:
        raise asyncio.TimeoutError  # of what it has asked

    reply = await ask(await serve(Echo, authorize=authorize), "POST", "/0/1/xhr")
    assert (reply.status, reply.header("Retry-After")) == (503, "5")
