"""What one request leaves behind does not reach the next one on its connection.

Behind a proxy that shares connections the next one is somebody else's.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo, Nodes, SockJSRouter, aiolibs, tornado
from sockjs_aio.aiolibs import add_endpoint
from sockjs_aio.server.guard import guard
from tests.adapters import TornadoEcho, echo
from tests.conftest import Echo, Recorder, Serve
from tests.hostile.raw_http import SEND, head
from tests.hostile.test_compressed import packed
from tests.hostile.urls import URLS
from tests.ports import free_port
from tests.process import PATIENCE, ROOT
from tests.target import Target

CHUNKED = b"Transfer-Encoding: chunked"
BODY = b'5\r\n["a"]\r\n'

TRAILERS = ["Cookie: user=evil", "X-Forwarded-For: 6.6.6.6"]

OTHERS = {
    "an URL of nobody": b"POST /elsewhere",
    "an URL of nobody, by GET": b"GET /elsewhere",
    "a method of nobody": b"POST /page",
    "a page": b"GET /page",
    "a page that reads": b"POST /reading",
    "a page that streams": b"GET /streaming",
    "a page that fails": b"GET /failing",
    "an URL of nobody below the prefix": b"POST /echo/elsewhere",
    "a page of a sub-application": b"GET /sub/page",
    "an URL of nobody in a sub-application": b"POST /sub/elsewhere",
}
OURS = {
    "greeting": b"GET /echo",
    "405": b"POST /echo/info",
    "info": b"GET /echo/info",
    "bad id": b"POST /echo/0.0/x/xhr",
    **{name: f"{method} /echo/000/first{url}".encode() for name, (method, url) in URLS.items()},
}


async def page(request: web.Request) -> web.Response:
    return web.Response(text="a page")


async def reading(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def streaming(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"a part")
    return response


async def failing(request: web.Request) -> web.Response:
    raise web.HTTPConflict


def make_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/page", page)
    app.router.add_post("/reading", reading)
    app.router.add_get("/streaming", streaming)
    app.router.add_get("/failing", failing)
    sub = web.Application()
    sub.router.add_get("/page", page)
    app.add_subapp("/sub", sub)
    return app


class Heard(Recorder):
    """Notes the headers that sessions were opened with."""

    async def on_open(self, info: ConnectionInfo) -> None:
        self.seen.append(dict(info.headers))


async def answers_to_two(served: Target, first: bytes, trailer: str) -> list[bytes]:
    """Write `first`, whose body is in chunks, and then a poll; return the lines of all answers."""
    data = first + BODY + f"0\r\n{trailer}\r\n\r\n".encode()
    wire = await served.wire()
    wire.writer.write(data + head(b"POST /echo/000/next/xhr HTTP/1.1", b"Content-Length: 0"))
    async with async_timeout.timeout(5):
        answers = await wire.reader.read()
    return [line for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("expects", [b"", b"Expect: x"], ids=["", "expecting"])
@pytest.mark.parametrize("line", [*OTHERS.values(), *OURS.values()], ids=[*OTHERS, *OURS])
async def test_nothing_follows_a_body_in_chunks_on_its_connection(
    serve: Serve, line: bytes, expects: bytes, trailer: str
) -> None:
    class Noted(Heard):
        pass

    served = await serve(Noted, settings={"response_limit": 1}, app=make_app())
    fields = [CHUNKED, expects] if expects else [CHUNKED]
    assert len(await answers_to_two(served, head(line + b" HTTP/1.1", *fields), trailer)) == 1
    assert all(each.session.id != "next" for each in Noted.connections)
    assert not any(trailer.split(": ")[1] in headers.values() for headers in Noted.seen)


def attach_tornado(app: web.Application) -> None:
    tornado.SockJSRouter(TornadoEcho, "/adapted").attach(app)


def add_aiolibs(app: web.Application) -> None:
    aiolibs.add_endpoint(app, echo, prefix="/adapted")


@pytest.mark.parametrize("add", [attach_tornado, add_aiolibs])
async def test_adapters_make_an_application_safe(add: Callable[[web.Application], None]) -> None:
    app = make_app()
    add(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served = Target(runner.addresses[0][1], "/adapted")
    try:
        for line in (b"POST /elsewhere", b"GET /page", b"POST /sub/page", b"GET /adapted/info"):
            first = head(line + b" HTTP/1.1", CHUNKED)
            assert len(await answers_to_two(served, first, "Cookie: user=evil")) == 1
    finally:
        await served.hang_up()
        await runner.cleanup()


@pytest.mark.parametrize("line", OTHERS.values(), ids=OTHERS)
async def test_connections_stay_after_other_bodies(serve: Serve, line: bytes) -> None:
    served = await serve(Echo, app=make_app())
    wire = await served.wire()
    for _ in range(2):
        wire.writer.write(head(line + b" HTTP/1.1", b"Content-Length: 5") + b'["a"]')
        async with async_timeout.timeout(5):
            assert (await wire.reply()).header("Connection") is None


async def test_clients_may_send_chunks_again_and_again(serve: Serve) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for part in (b'["', b"a", b'"]'):
            yield part

    served = await serve(Echo, app=make_app())
    assert await served.poll("/000/x") == b"o"
    for _ in range(5):
        url = served.url("/000/x/xhr_send")
        async with served.session.post(url, data=parts()) as response:
            assert response.status == 204
    assert await served.poll("/000/x") == b'a["a","a","a","a","a"]'


BELOW = {
    "run_app": ["-m", "tests.hostile.below", "PORT"],
    "serve": ["-m", "sockjs_aio", "serve", "tests.hostile.below:make_app", "--port", "PORT"],
}


@pytest.mark.parametrize("command", BELOW.values(), ids=BELOW)
async def test_application_with_a_service_in_a_sub_application_is_safe(command: list[str]) -> None:
    served = Target(free_port(), "/below/echo")
    arguments = [str(served.port) if word == "PORT" else word for word in command]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT)
    try:
        await served.until_listening()
        for line in (b"POST /elsewhere", b"GET /below/x", b"POST /below/echo", b"GET /below/echo"):
            first = head(line + b" HTTP/1.1", CHUNKED)
            assert len(await answers_to_two(served, first, "Cookie: user=evil")) == 1
    finally:
        await served.hang_up()
        process.terminate()
        async with async_timeout.timeout(PATIENCE):
            await process.wait()


async def test_nodes_make_an_application_safe() -> None:
    app = make_app()
    guard(app)
    guarded = app._make_request.__qualname__
    app = make_app()
    assert app._make_request.__qualname__ != guarded
    Nodes("redis://127.0.0.1:1", url="http://127.0.0.1:2", secret="x" * 32).attach(app)
    assert app._make_request.__qualname__ == guarded


def test_services_of_adapters_make_an_application_safe() -> None:
    async def handler(manager: object, session: object, message: object) -> None:
        pass

    guarded = []
    for add in (
        SockJSRouter(Echo, "/echo").attach,
        tornado.SockJSRouter(tornado.SockJSConnection, "/echo").attach,
        lambda app: add_endpoint(app, handler),
    ):
        app = make_app()
        unsafe = app._make_request.__qualname__
        add(app)
        assert app._make_request.__qualname__ != unsafe
        guarded.append(app._make_request.__qualname__)
    assert len(set(guarded)) == 1


BOMB = packed(bytes(1 << 20), "gzip", times=200)
"""A fifth of a megabyte that unpacks to a thousand times as much."""


@pytest.mark.parametrize("expects", [{}, {"Expect": "x"}], ids=["", "expecting"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("path", ["/elsewhere", "/page", "/echo/info", SEND.decode()])
async def test_compressed_body_is_not_unpacked_for_nobody(
    serve: Serve, path: str, framing: str, expects: dict[str, str]
) -> None:
    served = await serve(Echo, app=make_app())
    wire = await served.wire()
    headers = {"Content-Encoding": "gzip", **expects}
    if framing == "length":
        wire.send("POST", path, BOMB, headers=headers)
    else:
        wire.send("POST", path, headers={"Transfer-Encoding": "chunked", **headers})
        wire.writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BOMB), BOMB))
    async with async_timeout.timeout(5):
        assert (await wire.head()).status in (404, 405, 417)
        before = time.process_time()
        with contextlib.suppress(ConnectionError):  # what was not read resets it
            await wire.reader.read()
    assert time.process_time() - before < 0.5, "all of it takes a second"
