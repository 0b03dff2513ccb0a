"""Sections "XhrStreaming", "EventSource" and "HtmlFile" of the protocol."""

import asyncio
import json
import re

import pytest
from aiohttp import web

from tests import clients
from tests.conftest import Echo, Recorder, Serve
from tests.transports.test_pages import NOT_CACHED

streams = pytest.mark.parametrize("kind", clients.STREAMS, ids=lambda kind: kind.name)
Kind = type[clients.XhrStreaming]

HTMLFILE_HEAD = b"""\
<!doctype html>
<html><head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
</head><body><h2>Don't panic!</h2>
  <script>
    try { document.domain = document.domain; } catch (e) {}
    var c = parent._jp.x1;
    c.start();
    function p(d) {c.message(d);};
    window.onload = function() {c.stop();};
  </script>"""


async def test_xhr_streaming_to_the_byte(serve: Serve) -> None:
    served = await serve(Echo)
    wire = await served.wire()
    wire.send("POST", "/echo/0/1/xhr_streaming", b"", headers={"Origin": "http://a.example"})
    head = await wire.head()
    assert head.status == 200
    assert head.header("Content-Type") == "application/javascript; charset=UTF-8"
    assert head.header("Cache-Control") == NOT_CACHED
    assert head.header("Access-Control-Allow-Origin") == "http://a.example"
    assert head.header("Transfer-Encoding") == "chunked"
    assert head.header("X-Accel-Buffering") == "no"
    assert await wire.chunk() == b"h" * 2048 + b"\n"
    assert await wire.chunk() == b"o\n"
    await served.post("/0/1", '["a","b"]')
    assert await wire.chunk() == b'a["a","b"]\n'
    wire.close()


async def test_eventsource_to_the_byte(serve: Serve) -> None:
    served = await serve(Echo)
    wire = await served.wire()
    wire.send("GET", "/echo/0/1/eventsource", headers={"Origin": "http://a.example"})
    head = await wire.head()
    assert head.header("Content-Type") == "text/event-stream"
    assert head.header("Cache-Control") == NOT_CACHED
    assert head.header("Access-Control-Allow-Origin") == "http://a.example"
    assert head.header("X-Accel-Buffering") == "no"
    assert await wire.chunk() == b"\r\n"
    assert await wire.chunk() == b"data: o\r\n\r\n"
    await served.post("/0/1", '["%41\\u0000\\r\\n"]')
    assert await wire.chunk() == b'data: a["%2541\\u0000\\r\\n"]\r\n\r\n'
    wire.close()


async def test_htmlfile_to_the_byte(serve: Serve) -> None:
    served = await serve(Echo)
    wire = await served.wire()
    wire.send("GET", "/echo/0/1/htmlfile?c=_jp.x1")
    head = await wire.head()
    assert head.header("Content-Type") == "text/html; charset=UTF-8"
    assert head.header("Cache-Control") == NOT_CACHED
    assert head.header("X-Accel-Buffering") == "no"
    assert head.header("X-Content-Type-Options") == "nosniff"
    prelude = await wire.chunk()
    assert prelude.strip() == HTMLFILE_HEAD
    assert prelude.endswith(b" \r\n\r\n")
    assert len(prelude.removesuffix(b"\r\n\r\n")) > 1024
    assert await wire.chunk() == b'<script>\np("o");\n</script>\r\n'
    await served.post("/0/1", '["</script>\\u2028"]')
    assert await wire.chunk() == (
        b'<script>\np("a[\\"\\u003c/script>\\\\u2028\\"]");\n</script>\r\n'
    )
    wire.close()


@streams
async def test_response_ends_at_its_limit_and_the_next_one_goes_on(
    serve: Serve, kind: Kind
) -> None:
    served = await serve(Echo, settings={"response_limit": 4096})
    client = await kind.open(served)
    message = "x" * 128
    received = 0
    while await client.send(message) or (frame := await client.frame()):
        assert json.loads(frame[1:]) == [message]
        received += 1
    assert 20 < received < 32
    # the connection is kept, and the next response goes on with what was sent meanwhile
    method, path = request_of(client)
    client.wire.send(method, path, b"" if method == "POST" else None)
    assert (await client.wire.head()).status == 200
    await client.wire.chunk()
    assert await client.messages(1) == [message]


def request_of(client: clients.XhrStreaming) -> tuple[str, str]:
    method, url = client._request()
    return method, "/echo" + client.path + url


@streams
async def test_immediate_next_stream_never_meets_2010(serve: Serve, kind: Kind) -> None:
    served = await serve(Echo, settings={"response_limit": 1})
    wire = await served.wire()
    client = kind(served, {})
    method, path = request_of(client)
    for number in range(100):
        if number:
            await served.post(client.path, f'["{number}"]')
        wire.send(method, path, b"" if method == "POST" else None)
        reply = await wire.reply()
        assert client.undressed(reply.chunks[1]) == (b'a["%d"]' % number if number else b"o")
    wire.close()


@streams
async def test_second_stream_gets_2010(serve: Serve, kind: Kind) -> None:
    served = await serve(Echo)
    first = await kind.open(served)
    second = kind(served, {})
    second.path = first.path
    await second.connect()
    assert await second.frame() == b'c[2010,"Another connection still open"]'
    assert await second.frame() == b""
    await first.send("a")
    assert await first.messages(1) == ["a"]
    await first.leave()
    await second.leave()


@streams
async def test_stream_ends_after_the_close_frame(serve: Serve, kind: Kind) -> None:
    class Closing(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.close()

    served = await serve(Closing)
    client = await kind.open(served)
    await client.send("a")
    assert await client.frame() == b'c[3000,"Go away!"]'
    assert await client.frame() == b""
    assert await served.poll(client.path) == b'c[3000,"Go away!"]'
    await client.leave()


@streams
@pytest.mark.parametrize("cancellation", [True, False])
async def test_aborted_stream_is_1002(serve: Serve, kind: Kind, cancellation: bool) -> None:
    served = await serve(Echo, handler_cancellation=cancellation)
    client = await kind.open(served)
    client.abort()
    await asyncio.sleep(0.01)
    assert await served.poll(client.path) == b'c[1002,"Connection interrupted"]'


@streams
@pytest.mark.parametrize("keep", [{}, {"Connection": "keep-alive"}])
async def test_http_1_0_streams_end_with_their_connection(
    serve: Serve, kind: Kind, keep: dict[str, str]
) -> None:
    class Closing(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send(message)
            self.close()

    served = await serve(Closing)
    client = kind(served, {})
    wire = await served.wire()
    method, path = request_of(client)
    wire.send(method, path, b"" if method == "POST" else None, version="1.0", headers=keep)
    head = await wire.head()
    assert head.header("Transfer-Encoding") is None
    assert head.header("Content-Length") is None
    assert head.header("Connection") in (None, "close")
    await served.post(client.path, '["a"]')
    body = await wire.reader.read()
    assert re.match(client.prelude, body)
    assert body.count(b"a[") == 1 and body.count(b"c[3000") == 1
    wire.close()


@streams
async def test_streams_are_never_compressed(serve: Serve, kind: Kind) -> None:
    async def compress(request: web.Request, response: web.StreamResponse) -> None:
        response.enable_compression()

    app = web.Application()
    app.on_response_prepare.append(compress)
    served = await serve(Echo, app=app)
    client = await kind.open(served, headers={"Accept-Encoding": "gzip, deflate"})
    await client.send("a")
    assert await client.messages(1) == ["a"]
    await client.leave()


@streams
async def test_large_message_arrives_through_a_slow_reader(serve: Serve, kind: Kind) -> None:
    settings = {"response_limit": 1 << 26, "max_message_size": 1 << 22}
    client = await kind.open(await serve(Echo, settings=settings))
    message = "äx<%" * 250_000
    await client.send(message)
    assert await client.messages(1) == [message]
    await client.leave()
