"""Requests that cross the end of their session on the way, or come after it."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo, Grant, SockJSRouter
from sockjs_aio.core.closing import CLOSE_FRAME_TRAVEL
from sockjs_aio.core.ended_ids import EndedSessions
from sockjs_aio.protocol.frames import close_frame
from tests import clients
from tests.conftest import SHORT, Echo, Recorder, Serve, Served

http = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
Kind = type[clients.Client]

EXPIRED = b'c[1002,"Session expired"]'


class Ending(Recorder):
    """Ends in the way that its first message names."""

    async def on_message(self, message: str | bytes) -> None:
        await super().on_message(message)
        self.send("bye")
        if message == "close":
            self.close(4001, "x")
        elif message == "fail":
            raise ZeroDivisionError("mistake")
        elif message == "overflow":
            for _ in range(100):
                self.send("x" * 100)


ENDS = {
    "close": b'c[4001,"x"]',
    "fail": b'c[1011,"Internal error"]',
    "overflow": b'c[1008,"Slow consumer"]',
    "drain": b'c[1012,"Service restart"]',
}


async def ask_once(kind: Kind, served: Served, path: str, query: str = "") -> bytes:
    """Make one receiving request for `path`; return its first frame."""
    client = kind(served, {"query": query} if query else {})
    client.path = path
    await client.connect()
    try:
        return await client.frame()
    finally:
        client.abort()


async def opened_and_left(kind: Kind, served: Served) -> clients.Client:
    """Open a session whose client has no receiving request under way."""
    client = kind(served, {})
    reply = await served.request(*_request_of(client))
    assert reply.status == 200 and b"o" in reply.body
    return client


def _request_of(client: clients.Client) -> tuple[str, str]:
    method, url = client._request()  # type: ignore[attr-defined]
    return method, client.path + url


@pytest.mark.virtual_time
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", clients.POLLS, ids=lambda kind: kind.name)
@pytest.mark.logs()
async def test_send_that_crosses_the_end_is_dropped_and_the_client_told_all(
    serve: Serve, kind: Kind, end: str, request: pytest.FixtureRequest
) -> None:
    class Ended(Ending):
        pass

    if end == "fail":
        request.applymarker(pytest.mark.logs("ZeroDivisionError"))
    served = await serve(Ended, settings={"send_queue_limit": 2000})
    client = await opened_and_left(kind, served)
    await client.send(end)
    await Ended.until(end)
    draining = asyncio.ensure_future(served.router.drain() if end == "drain" else asyncio.sleep(0))
    await asyncio.sleep(0.01)
    for payload in ('["a"]', "[]", "broken"):
        assert await client.send_payload(payload) in (200, 204)
    if end != "overflow":
        assert b"bye" in await ask_once(kind, served, client.path)
    for _ in range(2):
        assert await ask_once(kind, served, client.path) == ENDS[end]
    assert await client.send_payload('["a"]') == 404
    await draining
    assert Ended.seen == ["open", end, "close"]


@http
async def test_send_right_behind_the_close_frame_is_answered_after_it_has_arrived(
    serve: Serve, kind: Kind
) -> None:
    """A client that is sending while the close frame is on its way must not get 404 first."""

    class Ended(Ending):
        pass

    served = await serve(Ended)
    client = await kind.open(served)
    await Ended.until("open")
    Ended.connections[0].close(4001, "x")
    await asyncio.sleep(0.01)  # the frame is written
    send = asyncio.ensure_future(client.send_payload('["a"]'))
    assert await client.frame() == b'c[4001,"x"]'
    assert not send.done()
    assert await send == 404
    await client.leave()


@pytest.mark.not_over("sharing", "tls")  # the proxy, and TLS, take what the client does not
@pytest.mark.skipif(sys.platform != "linux", reason="no other kernel tells what has arrived")
async def test_sends_are_accepted_while_a_slow_line_brings_the_close_frame(serve: Serve) -> None:
    class Ended(Recorder):
        pass

    served = await serve(Ended, settings={"response_limit": 1 << 20})
    path = "/0/slow"
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", served.port))
    wire = await served.wire(sock=sock, limit=1024)
    wire.send("POST", served.prefix + path + "/xhr_streaming", "")
    await Ended.until("open")
    Ended.connections[0].send("x" * 100_000)
    Ended.connections[0].close(4001, "x")
    for _ in range(2):
        await asyncio.sleep(CLOSE_FRAME_TRAVEL)  # what is sent earlier waits as long
        assert await served.post(path, '["a"]') == 204
    received = b""
    async with async_timeout.timeout(10):
        while b'c[4001,"x"]' not in received:
            received += await wire.reader.read(65536)
    assert await served.post(path, '["a"]') == 404
    wire.close()


@pytest.mark.virtual_time
@http
async def test_close_frame_has_its_time_although_the_session_expires_meanwhile(
    serve: Serve, kind: Kind
) -> None:
    class Ended(Ending):
        pass

    served = await serve(Ended, settings=SHORT)
    client = await kind.open(served)
    await Ended.until("open")
    Ended.connections[0].close(4001, "x")
    assert await client.frame() == b'c[4001,"x"]'
    await client.leave()
    await served.until_empty()
    send = asyncio.ensure_future(client.send_payload('["a"]'))
    await asyncio.sleep(0.1)
    assert not send.done()
    assert await send == 404


@pytest.mark.parametrize("kind", clients.POLLS, ids=lambda kind: kind.name)
async def test_session_that_on_open_refuses_takes_sends_until_it_is_told(
    serve: Serve, kind: Kind
) -> None:
    class Refusing(Recorder):
        async def on_open(self, info: ConnectionInfo) -> Any:
            await super().on_open(info)
            return False

    served = await serve(Refusing)
    client = await opened_and_left(kind, served)
    await Refusing.until("close")
    assert await client.send_payload('["a"]') in (200, 204)
    assert await ask_once(kind, served, client.path) == b'c[3000,"Go away!"]'
    assert await client.send_payload('["a"]') == 404


@pytest.mark.virtual_time
@http
async def test_expired_session_is_not_opened_again(serve: Serve, kind: Kind) -> None:
    class Bought(Recorder):
        pass

    asked = []

    async def authorize(request: web.Request) -> bool:
        asked.append(request.path)
        return True

    served = await serve(Bought, settings=SHORT, authorize=authorize)
    client = clients.Xhr(served, {})
    await opened_and_left(clients.Xhr, served)
    assert await served.poll(client.path) == b"o"
    await client.send("login")
    await Bought.until("close", 2)
    await served.until_empty()
    for _ in range(2):
        assert await ask_once(kind, served, client.path) == EXPIRED
        assert await client.send_payload('["buy"]') == 404
    assert Bought.seen.count("open") == len(asked) == 2
    assert "buy" not in Bought.seen


@http
async def test_late_receiver_gets_the_close_frame_that_its_session_had(
    serve: Serve, kind: Kind
) -> None:
    class Ended(Ending):
        pass

    served = await serve(Ended, settings=SHORT)
    assert await served.poll("/000/1") == b"o"
    await Ended.until("open")
    Ended.connections[0].close(4001, "x")
    await served.until_empty()
    assert await ask_once(kind, served, "/000/1") == b'c[4001,"x"]'


@http
@pytest.mark.parametrize("guard", ["verify", "verify_ip"])
async def test_reason_of_somebody_elses_end_is_not_told(
    serve: Serve, kind: Kind, guard: str
) -> None:
    class Ended(Ending):
        pass

    app = web.Application()
    settings: dict[str, Any] = {**SHORT, "verify_ip": guard == "verify_ip"}
    verify = (lambda _request, _info: True) if guard == "verify" else None
    router = SockJSRouter(Ended, "/guarded", settings, verify=verify)
    router.attach(app)
    served = await serve(Echo, app=app)
    served.prefix, served.router = "/guarded", router
    assert await served.poll("/000/1") == b"o"
    await Ended.until("open")
    Ended.connections[0].close(4001, "of hers")
    await served.until_empty()
    assert await ask_once(kind, served, "/000/1") == EXPIRED


@http
async def test_session_that_ends_while_a_request_is_authorized_is_not_opened_again(
    serve: Serve, kind: Kind
) -> None:
    class Ended(Recorder):
        pass

    gate = asyncio.Event()

    async def authorize(request: web.Request) -> bool:
        if "slow" in request.query:
            await gate.wait()
        return True

    served = await serve(Ended, settings=SHORT, authorize=authorize)
    late = asyncio.ensure_future(ask_once(kind, served, "/000/1", query="slow"))
    await asyncio.sleep(0.02)
    assert await served.poll("/000/1") == b"o"
    await served.until_empty()
    gate.set()
    assert await late == EXPIRED
    assert Ended.seen == ["open", "close"]


def test_ended_sessions_are_forgotten_by_age_and_by_number() -> None:
    frame, other = close_frame(3000, "a"), close_frame(3000, "b")
    ended = EndedSessions(delay=10, limit=2)
    ended.add("a", frame, now=0)
    assert ended.get("a", now=9.9) == frame
    assert ended.get("a", now=10) is None
    assert ended.get("never", now=0) is None
    ended.add("b", frame, now=9)
    ended.add("c", frame, now=9)
    assert len(ended) == 2 and ended.get("a", now=9) is None
    ended.add("b", other, now=12)
    ended.add("d", frame, now=12)
    assert ended.get("c", now=12) is None, "the oldest goes first"
    assert ended.get("b", now=12) == other
    ended.add("e", frame, now=30)
    assert len(ended) == 1


@pytest.mark.parametrize("answer", [None, False])
@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
async def test_missing_answer_of_authorize_lets_nobody_in(
    serve: Serve, kind: Kind, answer: object
) -> None:
    async def authorize(request: web.Request) -> object:
        return answer

    served = await serve(Echo, authorize=authorize)
    with pytest.raises((AssertionError, Exception), match="403"):
        await kind.open(served)
    assert served.router.session_count == 0


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.HTTPForbidden(),
        lambda: web.HTTPForbidden,
        lambda: web.Response(status=401),
        lambda: ValueError("no such user"),
    ],
    ids=["HTTP exception", "its class", "response", "exception"],
)
@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
async def test_refusal_that_authorize_returns_lets_nobody_in(
    serve: Serve, kind: Kind, answer: Callable[[], object]
) -> None:
    async def authorize(request: web.Request) -> object:
        return answer()

    served = await serve(Echo, authorize=authorize)
    with pytest.raises((AssertionError, Exception), match="403"):
        await kind.open(served)
    assert served.router.session_count == 0


class Query:
    """What an ORM returns."""

    def __await__(self) -> Generator[Any, None, str]:
        yield
        return "ann"


async def find_user() -> str:
    return "ann"


@pytest.mark.logs("which identifies no one: await it first")
@pytest.mark.parametrize("answer", [find_user, Query, lambda: Grant(find_user(), until=2e9)])
@pytest.mark.parametrize("kind", [clients.Xhr, clients.WebSocket], ids=lambda kind: kind.name)
async def test_forgotten_await_in_authorize_lets_nobody_in(
    serve: Serve, kind: Kind, answer: Callable[[], object]
) -> None:
    async def authorize(request: web.Request) -> object:
        return answer()

    served = await serve(Echo, authorize=authorize)
    with pytest.raises((AssertionError, Exception), match="500"):
        await kind.open(served)
    assert served.router.session_count == 0


async def names() -> AsyncIterator[str]:
    yield "ann"


@pytest.mark.logs("which identifies no one: return its result")
@pytest.mark.parametrize("answer", [find_user, "ann".upper, names(), (name for name in ["ann"])])
async def test_forgotten_call_in_authorize_lets_nobody_in(serve: Serve, answer: object) -> None:
    async def authorize(request: web.Request) -> object:
        return answer

    served = await serve(Echo, authorize=authorize)
    assert (await served.request("POST", "/000/x/xhr", b"")).status == 500
    assert served.router.session_count == 0


async def test_refusal_that_authorize_returns_keeps_its_status(serve: Serve) -> None:
    async def authorize(request: web.Request) -> object:
        return web.HTTPUnauthorized(headers={"WWW-Authenticate": "Basic"})

    served = await serve(Echo, authorize=authorize)
    reply = await served.request("POST", "/000/x/xhr", b"")
    assert (reply.status, reply.header("WWW-Authenticate")) == (401, "Basic")


@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
@pytest.mark.parametrize("answer", [True, "ann", {"id": 1}, 0, ""])
async def test_only_true_or_an_identity_lets_in(serve: Serve, kind: Kind, answer: object) -> None:
    class Who(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send(json.dumps(self.info.identity))

    async def authorize(request: web.Request) -> object:
        return answer

    client = await kind.open(await serve(Who, authorize=authorize))
    await client.send("who?")
    (told,) = await client.messages(1)
    assert json.loads(told) == (None if answer is True else answer)
    await client.leave()


def test_plain_functions_are_refused_as_authorize() -> None:
    async def coroutine_function(request: web.Request) -> bool:
        return True

    class Authorizer:
        async def __call__(self, request: web.Request) -> bool:
            return True

    SockJSRouter(Echo, "/a", authorize=coroutine_function)
    SockJSRouter(Echo, "/b", authorize=Authorizer())
    for plain in (lambda _request: True, Authorizer, "authorize"):
        with pytest.raises(TypeError, match="async def authorize"):
            SockJSRouter(Echo, "/c", authorize=plain)  # type: ignore[arg-type]
