"""Other versions of HTTP, and many requests on one connection at once."""

import asyncio
import json

import async_timeout
import pytest

from tests import clients
from tests.conftest import SHORT, Echo, Recorder, Serve, Served
from tests.hostile.raw_http import SESSION, exchange
from tests.hostile.refusals import (
    BAD_CALLBACK,
    BROKEN,
    NOT_FOUND,
    UNKNOWN_SESSION,
    assert_refused,
)
from tests.hostile.urls import URLS
from tests.wire import Wire

http = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
Kind = type[clients.Client]

# HTTP/1.0


async def old_request(served: Served, path: str, body: bytes | None, *, keep: bool) -> Wire:
    wire = await served.wire()
    headers = {"Connection": "keep-alive"} if keep else {}
    method = "GET" if body is None else "POST"
    wire.send(method, served.prefix + path, body, headers=headers, version="1.0")
    return wire


@pytest.mark.parametrize("keep", [False, True], ids=["close", "keep-alive"])
@http
async def test_http_1_0_on_every_transport(serve: Serve, kind: Kind, keep: bool) -> None:
    class Parting(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send(message)
            self.close()

    served = await serve(Parting, settings={"response_limit": 10_000})
    method, url = URLS[kind.name]
    body = b"" if method == "POST" else None
    frames = b""
    wire = await old_request(served, SESSION + url, body, keep=keep)
    head = await wire.head()
    assert head.status == 200
    assert head.header("Transfer-Encoding") is None
    await Parting.until("open")
    sending = "/jsonp_send" if kind is clients.Jsonp else "/xhr_send"
    send = await old_request(served, SESSION + sending, b'["a"]', keep=keep)
    assert (await send.reply()).status in (200, 204)
    async with async_timeout.timeout(5):
        if kind not in clients.POLLS:
            assert head.header("Content-Length") is None
            frames = await wire.reader.read()
        else:
            frames = await wire.reader.readexactly(int(head.header("Content-Length") or 0))
            for _ in range(2):
                wire = await old_request(served, SESSION + url, body, keep=keep)
                frames += (await wire.reply()).body
                if not keep:
                    assert await wire.is_closed()
    plain = frames.replace(b'\\"', b'"')
    positions = [plain.index(frame) for frame in (b"o", b'a["a"]', b'c[3000,"Go away!"]')]
    assert positions == sorted(positions)
    assert plain.count(b"a[") == plain.count(b"c[") == 1


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        (SESSION + "/xhr_send", b'["a"]', UNKNOWN_SESSION),
        ("/000/" + "x" * 300 + "/xhr", b"", NOT_FOUND),
        (SESSION + "/jsonp?c=(", None, BAD_CALLBACK),
        (SESSION + "/htmlfile?c=(", None, BAD_CALLBACK),
        ("/000/open/xhr_send", b"broken", BROKEN),
    ],
)
async def test_refusals_over_http_1_0(
    serve: Serve, path: str, body: bytes | None, text: bytes
) -> None:
    served = await serve(Echo)
    assert await served.poll("/000/open") == b"o"
    wire = await old_request(served, path, body, keep=False)
    assert_refused(await wire.reply(), text)
    assert await wire.is_closed()


# What aiohttp makes of others.


@pytest.mark.parametrize("version", ["0.9", "2.0"])
async def test_aiohttp_answers_http_0_9_and_2_0_like_1_0_and_1_1(
    serve: Serve, version: str
) -> None:
    served = await serve(Echo)
    wire = await served.wire()
    wire.send("GET", "/echo/", version=version)
    head = await wire.head()
    assert (head.version, head.status) == (f"HTTP/{version}", 200)
    assert await served.poll(SESSION) == b"o"


async def test_request_line_without_a_version_is_taken_for_0_9(serve: Serve) -> None:
    _, reply = await exchange(await serve(Echo), b"GET /echo/\r\n\r\n")
    assert (reply.version, reply.body) == ("HTTP/0.9", b"Welcome to SockJS!\n")


OPEN = {
    "xhr_streaming": b"o\n",
    "eventsource": b"data: o\r\n\r\n",
    "htmlfile": b'<script>\np("o");\n</script>\r\n',
}


@pytest.mark.parametrize("version", ["0.9", "2.0"])
@pytest.mark.parametrize("kind", clients.STREAMS, ids=lambda kind: kind.name)
async def test_streams_of_other_versions_are_what_their_heads_say(
    serve: Serve, kind: Kind, version: str
) -> None:
    served = await serve(Echo)
    method, url = URLS[kind.name]
    wire = await served.wire()
    body = b"" if method == "POST" else None
    wire.send(method, served.prefix + SESSION + url, body, version=version)
    head = await wire.head()
    if head.header("Transfer-Encoding") == "chunked":
        await wire.chunk()
        assert await wire.chunk() == OPEN[kind.name]
    else:
        async with async_timeout.timeout(5):
            await wire.reader.readuntil(OPEN[kind.name])
    wire.abort()


# Pipelining.


async def test_send_and_poll_in_one_packet(serve: Serve) -> None:
    served = await serve(Echo)
    assert await served.poll(SESSION) == b"o"
    wire = await served.wire()
    for number in range(20):
        wire.send("POST", f"/echo{SESSION}/xhr_send", f'["{number}"]')
        wire.send("POST", f"/echo{SESSION}/xhr", b"")
        assert (await wire.reply()).status == 204
        assert (await wire.reply()).body == b'a["%d"]\n' % number


async def test_100_pipelined_sends_keep_their_order(serve: Serve) -> None:
    served = await serve(Echo)
    wire = await served.wire()
    wire.send("POST", f"/echo{SESSION}/xhr", b"")
    for number in range(100):
        wire.send("POST", f"/echo{SESSION}/xhr_send", f'["{number}"]')
    assert (await wire.reply()).body == b"o\n"
    for _ in range(100):
        assert (await wire.reply()).status == 204
    messages: list[str] = []
    while len(messages) < 100:
        messages += json.loads((await served.poll(SESSION))[1:])
    assert messages == [str(number) for number in range(100)]


async def test_100_pipelined_requests_of_all_kinds_are_answered_in_order(serve: Serve) -> None:
    served = await serve(Echo)
    assert await served.poll(SESSION) == b"o"
    wire = await served.wire()
    asked = [
        ("GET", "/", None, 200),
        ("POST", SESSION + "/xhr_send", "broken", 500),
        ("DELETE", SESSION + "/xhr", None, 405),
        ("POST", SESSION + "/jsonp_send", '["a"]', 200),
        ("GET", "/nothing", None, 404),
        ("GET", SESSION + "/jsonp?c=x", None, 200),
        ("OPTIONS", SESSION + "/xhr", None, 204),
        ("GET", SESSION + "/jsonp?c=(", None, 500),
        ("POST", "/000/nobody/xhr_send", "", 404),
        ("GET", SESSION + "/websocket", None, 400),
    ]
    for _ in range(9):
        for method, path, body, _ in asked[:-1]:
            wire.send(method, served.prefix + path, body)
    wire.send("GET", served.prefix + asked[-1][1])
    async with async_timeout.timeout(10):
        for _ in range(9):
            for *_, status in asked[:-1]:
                assert (await wire.reply()).status == status
        assert (await wire.reply()).status == 400
        assert await wire.is_closed()


@pytest.mark.virtual_time
@http
async def test_requests_behind_an_open_one_wait_and_do_not_hide_its_end(
    serve: Serve, kind: Kind
) -> None:
    """With 32 requests waiting aiohttp stops reading, and does not see a reset before it writes."""
    settings = {**SHORT, "disconnect_delay": 0.3}
    served = await serve(Echo, settings=settings)
    client = await kind.open(served)
    await asyncio.sleep(0.05)
    for _ in range(100):
        client.wire.send("POST", f"/echo{client.path}/xhr_send", '["never"]')
    await asyncio.sleep(0.05)
    assert served.router.session_count == 1
    client.abort()
    await served.until_empty()
