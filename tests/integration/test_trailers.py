"""A stranger's trailers do not become headers of another client's requests, behind real proxies.

Both sides are safe by themselves: the configurations before any aiohttp application, and an
application with a service behind a proxy that shares connections and passes trailers on.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import SockJSRouter
from tests.conftest import Echo
from tests.integration import haproxy as proxies
from tests.integration.haproxy import SERVICES, Haproxy, documented, replace
from tests.integration.test_nginx import nginx
from tests.ports import free_port
from tests.process import PATIENCE
from tests.wire import Wire

pytestmark = pytest.mark.haproxy

EVIL = "evil-trailer"
NAMES = ["cookie", "x-forwarded-for", "x-first", "origin"]


class Local:
    """A server in this very process, in the place of a `NodeProcess`."""

    def __init__(self, port: int) -> None:
        self.port = port


async def tell(request: web.Request) -> web.Response:
    """Answer with all headers of the request."""
    return web.Response(
        text="\n".join(f"{name}: {value}" for name, value in request.headers.items())
    )


async def nothing(request: web.Request) -> web.Response:
    return web.Response()


@contextlib.asynccontextmanager
async def serving(*, guarded: bool) -> AsyncIterator[Any]:
    """Serve an application, which is not ours unless it is `guarded`."""
    app = web.Application()
    for path in ("/readyz", "/healthz"):
        app.router.add_get(path, nothing)
    for path in ("/tell", "/echo/tell"):
        app.router.add_get(path, tell)
    if guarded:
        SockJSRouter(Echo, "/echo").attach(app)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield Local(site.port)
    await runner.cleanup()


# What a stranger sends.


async def over_http1(port: int, path: str, name: str, **headers: str) -> None:
    wire = await Wire.connect(port)
    wire.send("POST", path, headers={"Transfer-Encoding": "chunked", **headers})
    wire.writer.write(f"1\r\nx\r\n0\r\n{name}: {EVIL}\r\n\r\n".encode())
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await wire.reply()
    wire.close()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Make a frame of HTTP/2 (RFC 9113, section 4.1)."""
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def field(name: str, value: str) -> bytes:
    """Write a header so that no table is needed (RFC 7541, section 6.2.2)."""
    assert len(name) < 127 and len(value) < 127
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


DATA, HEADERS, SETTINGS, GOAWAY = 0, 1, 4, 7
END_STREAM, END_HEADERS = 1, 4


async def expecting(port: int, path: str, name: str) -> None:
    await over_http1(port, path, name, Expect="x")


async def over_http2(port: int, path: str, name: str) -> None:
    """Send a body without a length: on the way to the server it gets chunks."""
    wire = await Wire.connect(port)
    pseudo = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost"}
    wire.writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b""))
    head = b"".join(field(*item) for item in pseudo.items())
    wire.writer.write(frame(HEADERS, END_HEADERS, 1, head) + frame(DATA, 0, 1, b"x"))
    wire.writer.write(frame(HEADERS, END_HEADERS | END_STREAM, 1, field(name, EVIL)))
    has_ended = False
    while not has_ended:
        start = await wire.reader.readexactly(9)
        await wire.reader.readexactly(int.from_bytes(start[:3], "big"))
        has_ended = start[3] == GOAWAY  # nginx' answer to trailers
        has_ended |= start[3] in (HEADERS, DATA) and bool(start[4] & END_STREAM)
    wire.close()


async def heard(port: int, http2_port: int | None = None) -> set[str]:
    """Have strangers and a client take turns; return what came of the former's trailers to it."""
    strangers = {
        "HTTP/1.1": (over_http1, port),
        "HTTP/1.1 with Expect": (expecting, port),
        "HTTP/2": (over_http2, http2_port or port),
    }
    found = set()
    client = await Wire.connect(port)
    async with async_timeout.timeout(PATIENCE):
        for version, (stranger, entry) in strangers.items():
            for name in NAMES:
                for path in ("/echo/elsewhere", "/echo/tell", "/echo/0/1/xhr_send"):
                    await stranger(entry, path, name)
                    reply = await client.request("GET", "/echo/tell")
                    assert reply.status == 200, reply
                    if EVIL in reply.body.decode():
                        found.add(f"{name} over {version}")
    client.close()
    return found


@pytest.fixture
def sharing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have haproxy share connections, as it does by default, wherever it can."""
    for path in proxies.CONFIGURATIONS.glob("*.cfg"):
        text = path.read_text()
        if path.name == "common.cfg":
            text = replace(text, "http-reuse never", "http-reuse always")
        (tmp_path / path.name).write_text(text)
    monkeypatch.setattr(proxies, "CONFIGURATIONS", tmp_path)


@contextlib.contextmanager
def fronted(program: str, directory: Path, node: Any, name: str) -> Iterator[int]:
    (directory / "haproxy").mkdir()
    haproxy = Haproxy(program, directory / "haproxy", [node], name)
    try:
        yield haproxy.port
    finally:
        haproxy.stop()


@pytest.mark.parametrize("configuration", SERVICES)
async def test_haproxy_shares_no_connection(
    program: str, tmp_path: Path, configuration: str
) -> None:
    async with serving(guarded=False) as node:
        with fronted(program, tmp_path, node, configuration) as port:
            assert await heard(port) == set()


@pytest.mark.usefixtures("sharing")
async def test_application_is_safe_behind_a_proxy_that_shares(program: str, tmp_path: Path) -> None:
    async with serving(guarded=True) as node:
        with fronted(program, tmp_path, node, "by-relay") as port:
            assert await heard(port) == set()


@pytest.mark.usefixtures("sharing")
async def test_other_applications_are_not_behind_a_proxy_that_shares(
    program: str, tmp_path: Path
) -> None:
    """So these tests would see it."""
    async with serving(guarded=False) as node:
        with fronted(program, tmp_path, node, "by-relay") as port:
            assert len(await heard(port)) == 3 * len(NAMES)


@pytest.mark.parametrize("buffering", ["on", "off"])
async def test_nginx_passes_no_trailer_on(tmp_path: Path, buffering: str) -> None:
    http2_port = free_port()
    block = documented("nginx", "upstream sockjs")
    block = replace(block, "listen 80;", f"listen 80; listen localhost:{http2_port} http2;")
    block = replace(block, "proxy_pass", f"proxy_request_buffering {buffering}; proxy_pass")
    async with serving(guarded=False) as node:
        with nginx(tmp_path, block, [node, node]) as port:
            assert await heard(port, http2_port) == set()
