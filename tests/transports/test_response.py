"""Short responses: the same bytes whether they go to the writer as they are or through aiohttp."""

import gzip
import logging
import re
from collections.abc import Callable

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio import SockJSRouter
from tests.conftest import Echo, Serve
from tests.wire import Wire

ANSWERS = {
    "xhr": ("POST", "/echo/0/1/xhr", b"", {}),
    "xhr of a page": ("POST", "/echo/0/1/xhr", b"", {"Origin": "https://example.com"}),
    "xhr of a page with headers": (
        *("POST", "/echo/0/1/xhr", b""),
        {"Origin": "https://example.com", "Access-Control-Request-Headers": "x-one"},
    ),
    "xhr of a page with a long name": (
        *("POST", "/echo/0/1/xhr", b""),
        {"Origin": "https://" + "x" * 300},
    ),
    "xhr of a page that has none": ("POST", "/echo/0/1/xhr", b"", {"Origin": "\x80"}),
    "jsonp": ("GET", "/echo/0/1/jsonp?c=f", None, {}),
    "xhr_send": ("POST", "/echo/0/2/xhr_send", b'["x"]', {}),
    "xhr_send of a page": (
        *("POST", "/echo/0/2/xhr_send", b'["x"]'),
        {"Origin": "https://example.com"},
    ),
    "jsonp_send": ("POST", "/echo/0/2/jsonp_send", b'["x"]', {}),
}
"""Method, path, body and headers."""

Change = Callable[[web.StreamResponse], object]


async def nothing(_request: web.Request, _response: web.StreamResponse) -> None:
    """Only be there, so that responses go through aiohttp."""


def watched() -> web.Application:
    app = web.Application()
    app.on_response_prepare.append(nothing)
    return app


def changing(change: Change) -> web.Application:
    """Make an application with a middleware that changes each response."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        change(response)
        return response

    return web.Application(middlewares=[middleware])


async def answer(wire: Wire, name: str, version: str = "1.1") -> bytes:
    """Return all bytes of an answer, without its date, and those of one more if it comes."""
    method, path, body, headers = ANSWERS[name]
    wire.send(method, path, body, headers=headers, version=version)
    if version == "1.1":
        wire.send("GET", "/echo/", headers={"Connection": "close"})
    return re.sub(rb"Date: [^\r]+GMT\r", b"Date: now\r", await wire.reader.read())


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_bytes_are_those_that_aiohttp_writes(serve: Serve, name: str, version: str) -> None:
    answers = []
    for app in (web.Application(), watched()):
        served = await serve(Echo, app=app)
        await (await served.wire()).request("POST", "/echo/0/2/xhr", b"")
        answers.append(await answer(await served.wire(), name, version))
    assert answers[0].startswith(f"HTTP/{version} 20".encode())
    assert b"Date: now\r" in answers[0]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: x.headers.update({"X-One": "1"}), b"X-One: 1\r\n"),
        (lambda x: x.headers.pop("Cache-Control", None), b"\r\nVary: Origin\r\n"),
        (lambda x: x.set_status(201), b"HTTP/1.1 201 Created\r\n"),
        (lambda x: x.set_status(200, "Fine"), b"HTTP/1.1 200 Fine\r\n"),
        (lambda x: x.set_cookie("a", "b"), b"Set-Cookie: a=b; Path=/\r\n"),
        (lambda x: x.cookies.load("a=b"), b"Set-Cookie: a=b\r\n"),
        (lambda x: x.del_cookie("a"), b"Set-Cookie: a="),
        (lambda x: x.force_close(), b"Connection: close\r\n"),
        (lambda x: x.enable_compression(web.ContentCoding.gzip), gzip.compress(b"o\n")[:4]),
        (lambda x: x.enable_chunked_encoding(), b"Transfer-Encoding: chunked\r\n"),
        (lambda x: setattr(x, "body", b"other"), b"\r\n\r\nother"),
        (lambda x: setattr(x, "text", "other"), b"\r\n\r\nother"),
    ],
)
async def test_middleware_may_change_all_of_it(
    serve: Serve, change: Change, expected: bytes
) -> None:
    served = await serve(Echo, app=changing(change))
    assert expected in await answer(await served.wire(), "xhr")


@pytest.mark.not_over("replacing")  # it is not ours that would be sent
async def test_middleware_may_send_it_itself(serve: Serve) -> None:
    seen = []

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        for _ in range(2):
            seen.append(response.prepared)
            await response.prepare(request)
            seen.append(response.prepared)
            await response.write_eof()
        assert "200 OK" in repr(response)
        return response

    served = await serve(Echo, app=web.Application(middlewares=[middleware]))
    wire = await served.wire()
    assert (await wire.request("POST", "/echo/0/1/xhr", b"")).body == b"o\n"
    assert (await wire.request("POST", "/echo/0/2/xhr", b"")).body == b"o\n"
    assert seen == [False, True, True, True] * 2


@pytest.mark.parametrize("make_app", [web.Application, watched])
async def test_access_log_has_headers_and_size(
    make_app: Callable[[], web.Application], caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    SockJSRouter(Echo, "/echo").attach(app)
    caplog.set_level(logging.INFO, "test_response")
    runner = web.AppRunner(
        app,
        access_log=logging.getLogger("test_response"),
        access_log_format="%s %{Content-Length}o %{Server}o %{Date}o %{Vary}o; %b",
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        wire = await Wire.connect(runner.addresses[0][1])
        wire.send("POST", "/echo/0/1/xhr", b"")
        whole = await wire.reader.readuntil(b"\r\n\r\n") + await wire.reader.readexactly(2)
        wire.close()
    finally:
        await runner.cleanup()
    found = re.search(r"200 2 Python/\S+ aiohttp/\S+ .* GMT Origin; (\d+)", caplog.text)
    assert found is not None, caplog.text
    assert int(found[1]) == len(whole)
