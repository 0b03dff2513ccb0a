"""What `server/aiohttp_internals.py` assumes of aiohttp, one test for each assumption.

If one of them fails with a new version of aiohttp, its docstring says what breaks in this package.
"""

import asyncio
import errno
import gzip
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar

import aiohttp
import async_timeout
import pytest
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParserPy
from aiohttp.typedefs import Handler

from sockjs_aio.server import aiohttp_internals as internals
from tests.wire import Wire

FOREVER = 3600.0
"""Seconds for which aiohttp would read the rest of a body: more than a test may take."""

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Run = Callable[..., Awaitable[Wire]]


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Serve an application, or one function at all URLs, and connect to it."""
    runners: list[web.AppRunner] = []
    wires: list[Wire] = []

    async def start(served: web.Application | Answer, **options: Any) -> Wire:
        if isinstance(served, web.Application):
            app = served
        else:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", served)
        options.setdefault("access_log", None)
        runners.append(web.AppRunner(app, lingering_time=FOREVER, **options))
        await runners[-1].setup()
        site = web.TCPSite(runners[-1], "127.0.0.1", 0)
        await site.start()
        wires.append(await Wire.connect(site.port))
        return wires[-1]

    yield start
    for wire in wires:
        wire.close()
    for runner in runners:
        await runner.cleanup()


async def page(request: web.Request) -> web.Response:
    return web.Response(text="a page")


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: x", *lines, b"", body])


# Applications.


async def test_application_is_frozen_once_it_has_started(run: Run) -> None:
    """Otherwise a router that is attached too late is not refused, and has no effect."""
    app = web.Application()
    assert not internals.has_started(app)
    await run(app)
    assert internals.has_started(app)


async def test_request_knows_its_applications_from_the_outside_in(run: Run) -> None:
    """Otherwise `readyz` misses services, and responses are not left to hooks and middlewares."""
    seen: list[Any] = []

    async def note(request: web.Request) -> web.Response:
        seen.extend(internals.apps_of(request))
        return web.Response()

    app, part = web.Application(), web.Application()
    part.router.add_get("/page", note)
    app.add_subapp("/part", part)
    await (await run(app)).request("GET", "/part/page")
    assert seen == [app, part]


@pytest.mark.parametrize("path", ["/", "/part/page", "/part/nothing", "/nothing"])
async def test_application_makes_all_requests_and_may_end_their_connections(
    run: Run, path: str
) -> None:
    """Otherwise the trailer of a chunked body becomes a header of the next client's request."""
    app, part = web.Application(), web.Application()
    app.router.add_route("*", "/", page)
    part.router.add_route("*", "/page", page)
    app.add_subapp("/part", part)
    internals.end_after_leftovers(app)
    wire = await run(app)
    reply = await wire.request("POST", path, "")
    assert reply.header("Connection") is None
    wire.writer.write(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode()
    )
    assert (await wire.reply()).header("Connection") == "close"
    assert await wire.is_closed()


async def test_connection_has_its_own_time_for_unread_bodies(run: Run) -> None:
    """Otherwise aiohttp unpacks a compressed body that nobody reads, and blocks the loop."""
    app = web.Application()
    app.router.add_post("/", page)
    internals.end_after_leftovers(app)
    wire = await run(app)
    wire.writer.write(post(b"Content-Length: 9", b"Content-Encoding: gzip"))
    assert (await wire.reply()).body == b"a page"
    assert await wire.is_closed()


# Requests.


@pytest.mark.parametrize("behind", [b"", b"frames"])
async def test_what_comes_behind_a_request_for_an_upgrade_is_kept_for_later(
    run: Run, behind: bytes
) -> None:
    """Otherwise aiohttp reads it as a request, if the upgrade is refused, and logs a traceback."""
    seen: list[bool] = []

    async def refuse(request: web.Request) -> web.Response:
        seen.append(internals.has_upgrade_data(request))
        response = web.Response()
        response.force_close()
        return response

    app = web.Application()
    app.router.add_get("/", refuse)
    wire = await run(app)
    head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    wire.writer.write(head + behind)
    await wire.reply()
    assert seen == [bool(behind)]


async def test_what_comes_behind_an_upgrade_is_not_that_of_the_request_before(run: Run) -> None:
    """Otherwise the answer to a poll ends a connection on which more requests have come."""
    seen: list[bool] = []
    asked = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        await asked.wait()
        seen.append(internals.has_upgrade_data(request))
        return web.Response()

    app = web.Application()
    app.router.add_get("/", answer)
    wire = await run(app)
    upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    wire.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + upgrade + b"GET / HTTP/1.1\r\n")
    await asyncio.sleep(0.05)
    asked.set()
    for _ in range(2):
        await wire.reply()
    assert seen == [False, True]


async def test_task_of_the_connection_waits_for_the_one_that_writes_the_response(run: Run) -> None:
    """Otherwise a poll's response counts as failed while a middleware still works on it."""
    events: list[str] = []
    tasks: list[Any] = []

    class Noted(web.Response):
        async def write_eof(self, data: bytes = b"") -> None:
            await super().write_eof(data)
            events.append("response written")

    async def answer(request: web.Request) -> web.Response:
        task = internals.handling_task(request)
        task.add_done_callback(lambda _: events.append("task done"))
        tasks.extend((task, asyncio.current_task()))
        return Noted(text="x")

    @web.middleware
    async def detour(request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.sleep(0)
        response: web.StreamResponse = await asyncio.ensure_future(handler(request))
        events.append("handler done")
        return response

    app = web.Application(middlewares=[detour])
    app.router.add_get("/", answer)
    wire = await run(app)
    for _ in range(2):
        await wire.request("GET", "/")
    assert tasks[0] is not tasks[1]
    assert events[:3] == ["handler done", "response written", "task done"]


@pytest.mark.parametrize(
    "cookie",
    ["a=b", "a=b; c=d", 'a="b c"; d=\\101; =e; f; g=', "a=b; a=c", 'q="1;2"', "ü=x; y=ÿ", "$x=1"],
)
async def test_cookies_are_those_of_the_request(run: Run, cookie: str) -> None:
    """Otherwise `info.cookies` depends on who has answered the handshake."""
    seen: list[Any] = []

    async def note(request: web.Request) -> web.Response:
        seen.append((dict(internals.cookies_in(request.headers)), dict(request.cookies)))
        return web.Response()

    await (await run(note)).request("GET", "/", headers={"Cookie": cookie})
    assert seen[0][0] == seen[0][1]


async def test_address_is_that_of_the_request(run: Run) -> None:
    """Otherwise `info.ip` does, and addresses are counted wrongly."""
    seen: list[Any] = []

    async def note(request: web.Request) -> web.Response:
        assert request.transport is not None
        seen.append((internals.remote_of(request.transport), request.remote))
        return web.Response()

    await (await run(note)).request("GET", "/")
    assert seen == [("127.0.0.1", "127.0.0.1")]


async def test_names_of_headers_are_written_as_the_parser_writes_them(run: Run) -> None:
    """Otherwise the names in `info.headers` do."""
    names = [*internals.NAMES, "x-own", "X-OTHER", "sec-fetch-dest", "sEC-wEBsOCKET-kEY", "DNT"]
    names = [name for name in names if name not in ("host", "content-length", "connection")]
    refused = ("transfer-encoding", "expect", "upgrade", "sec-websocket-key1")
    names = [name for name in names if name not in refused]
    seen: list[str] = []

    async def note(request: web.Request) -> web.Response:
        seen.extend(request.headers)
        return web.Response()

    wire = await run(note)
    for name in names:
        wire.send("GET", "/", headers={name: "1"})
        assert (await wire.reply()).status == 200, name
    found = [name for name in seen if name != "Host"]
    assert found == [internals.NAMES.get(name.lower(), name) for name in names]


# Bodies of requests.


async def test_broken_body_is_known_to_be_broken_and_raises_these_errors(run: Run) -> None:
    """Otherwise a broken body is answered with 500 instead of 400, and fills the log."""
    seen: list[object] = []

    async def read(request: web.Request) -> web.Response:
        seen.append(internals.is_broken(request))
        try:
            await request.read()
        except internals.BODY_ERRORS as error:
            seen.extend((type(error), internals.is_broken(request)))
        internals.drop_rest(request)
        response = web.Response()
        response.force_close()
        return response

    wire = await run(read)
    wire.writer.write(post(b"Content-Length: 9", b"Content-Encoding: gzip"))
    while not seen:
        await asyncio.sleep(0)
    wire.writer.write(b"not gzip!")
    await wire.reply()
    assert seen[0] is False
    assert seen[1] in internals.BODY_ERRORS
    assert seen[2] is True


async def test_parser_in_python_raises_one_of_these_errors() -> None:
    """Otherwise a broken body is answered with 500 where aiohttp has no C extension."""
    loop = asyncio.get_running_loop()
    parser = HttpRequestParserPy(BaseProtocol(loop), loop, 2**16)
    messages, _, _ = parser.feed_data(post(b"Transfer-Encoding: chunked"))
    ((_, body),) = messages
    with pytest.raises(internals.BODY_ERRORS):
        parser.feed_data(b"zz\r\n")
        await body.read()


async def test_received_bytes_are_counted_after_unpacking(run: Run) -> None:
    """Otherwise a small compressed body is read in one piece, however large it becomes."""
    counts: list[int] = []

    async def read(request: web.Request) -> web.Response:
        await request.read()
        counts.append(internals.received(request.content))
        return web.Response()

    body = gzip.compress(b"x" * 10_000)
    wire = await run(read)
    wire.writer.write(post(b"Content-Length: %d" % len(body), b"Content-Encoding: gzip", body=body))
    await wire.reply()
    assert counts == [10_000]


@pytest.mark.logs("ValueError: mistake")
async def test_response_can_be_an_error_after_the_body_was_invited(run: Run) -> None:
    """Otherwise the connection is cut, without an answer, when code fails after that."""
    wire = await run(failing_after_invitation())
    wire.writer.write(post(b"Content-Length: 1", b"Expect: 100-continue"))
    assert (await wire.head()).status == 100
    wire.writer.write(b"x")
    assert (await wire.reply()).status == 500


def failing_after_invitation() -> web.Application:
    async def fail(request: web.Request) -> web.Response:
        await request.read()
        raise ValueError("mistake")

    app = web.Application()
    app.router.add_route("POST", "/", fail, expect_handler=internals.invite_rest)
    return app


async def test_dropped_rest_of_a_body_is_not_waited_for(run: Run) -> None:
    """Otherwise a refused client keeps its connection for as long as it sends its body."""

    async def drop(request: web.Request) -> web.Response:
        internals.drop_rest(request)
        response = web.Response()
        response.force_close()
        return response

    wire = await run(drop)
    wire.writer.write(post(b"Content-Length: 9"))
    assert (await wire.reply()).status == 200
    assert await wire.is_closed()


async def test_reader_of_a_body_gets_an_exception_that_is_set(run: Run) -> None:
    """Otherwise a shutdown waits for each client that is slow to send (`Closing.uploads`)."""
    raised: list[Exception] = []
    bodies: list[aiohttp.StreamReader] = []

    async def read(request: web.Request) -> web.Response:
        bodies.append(request.content)
        try:
            await request.read()
        except TimeoutError as error:
            raised.append(error)
        internals.drop_rest(request)
        return web.Response()

    wire = await run(read)
    wire.writer.write(post(b"Content-Length: 9"))
    while not bodies:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    error = TimeoutError("too late")
    bodies[0].set_exception(error)
    await wire.reply()
    assert raised == [error]


# Responses.


async def test_server_header_is_the_one_that_aiohttp_writes(run: Run) -> None:
    """Otherwise responses differ by who has written them."""
    assert (await (await run(page)).request("GET", "/")).header("Server") == internals.SERVER


class Direct(internals.DirectResponse):
    """Writes itself, like a poll's response."""

    is_last = False

    async def prepare(self, request: web.BaseRequest) -> internals.ResponseWriter | None:
        self._direct = internals.writer_of(request)
        return self._direct

    async def write_eof(self, data: bytes = b"") -> None:
        assert self._direct is not None
        await self._direct.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        await self._direct.drain()

    @property
    def keep_alive(self) -> bool | None:
        return not self.is_last


class Chunked(internals.DirectResponse):
    """Writes itself, like a relayed response."""

    async def prepare(self, request: web.BaseRequest) -> internals.ResponseWriter | None:
        writer = self._direct = internals.writer_of(request)
        self.headers["Transfer-Encoding"] = "chunked"
        writer.enable_chunking()
        await writer.write_headers("HTTP/1.1 200 OK", self.headers)
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        assert self._direct is not None
        await self._direct.write(b"a")
        await self._direct.write_eof(b"b")

    @property
    def keep_alive(self) -> bool | None:
        return True


class Lengths(AbstractAccessLogger):
    """Notes what the access log shows."""

    seen: ClassVar[list[tuple[bool, int]]] = []

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        self.seen.append((response.prepared, response.body_length))


async def test_response_may_write_itself_between_prepare_and_write_eof(run: Run) -> None:
    """Otherwise polls and sends are answered wrongly, and access logs show wrong sizes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return Direct()

    Lengths.seen.clear()
    log = logging.getLogger("tests.access")
    log.setLevel("INFO")
    wire = await run(answer, access_log_class=Lengths, access_log=log)
    for _ in range(2):
        wire.send("GET", "/")
        data = await wire.reader.readexactly(39)
        assert data == b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
    assert Lengths.seen[0] == (True, 39)


async def test_keep_alive_of_a_response_decides_whether_its_connection_stays(run: Run) -> None:
    """Otherwise connections stay open after a process has sent its clients elsewhere."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = Direct()
        response.is_last = True
        return response

    wire = await run(answer)
    assert (await wire.request("GET", "/")).body == b"x"
    assert await wire.is_closed()


async def test_writer_frames_what_follows_its_head(run: Run) -> None:
    """Otherwise relayed responses cannot be read."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return Chunked()

    wire = await run(answer)
    for _ in range(2):
        reply = await wire.request("GET", "/")
        assert (reply.header("Transfer-Encoding"), reply.body) == ("chunked", b"ab")


async def test_body_and_text_of_a_response_are_properties_that_can_be_replaced() -> None:
    """Otherwise a poll does not notice that a middleware reads its response and sends a copy."""

    class Watched(web.Response):
        is_read = False

        @property
        def body(self) -> Any:
            self.is_read = True
            return super().body

        @body.setter
        def body(self, body: Any) -> None:
            internals.set_body(self, body)

        @property
        def text(self) -> str | None:
            self.is_read = True
            return super().text

        @text.setter
        def text(self, text: str) -> None:
            internals.set_text(self, text)

    response = Watched(body=b"a")
    assert not response.is_read
    assert response.body == b"a"
    assert response.is_read
    response.text = "b"
    assert (response.text, response.body) == ("b", b"b")


# Connections.


class Heir(asyncio.Protocol):
    _task_handler: ClassVar[None] = None

    def __init__(self) -> None:
        self.calls: list[str] = []

    def close(self) -> None:
        self.calls.append("close")

    async def shutdown(self, timeout: float | None = None) -> None:
        self.calls.append("shutdown")


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_connection_is_given_away_with_what_came_behind_the_handshake(
    is_replaced: bool,
) -> None:
    """Otherwise messages that come with a handshake are lost, or aiohttp closes the connection.

    If a middleware answers with another response, aiohttp's task would wait for more requests.
    """
    heir, taken = Heir(), asyncio.get_running_loop().create_future()

    class Husk(asyncio.Transport):
        head = b""

        def write(self, data: Any) -> None:
            self.head += data

        def is_closing(self) -> bool:
            return False

        def close(self) -> None:
            heir.calls.append("husk closed")

    async def take(request: Any) -> web.StreamResponse:
        transport, husk = request.transport, Husk()
        assert transport is not None
        internals.set_transport(request, husk)
        assert internals.transport_of(request) is husk
        response = web.StreamResponse(status=101)
        response.force_close()
        await response.prepare(request)
        server = internals.server_of(request)
        rest = internals.release(request, heir, transport)
        transport.set_protocol(heir)
        taken.set_result((server, transport, husk.head, rest))
        return web.Response(status=503) if is_replaced else response

    runner = web.ServerRunner(web.Server(take))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    wire = await Wire.connect(site.port)
    wire.writer.write(UPGRADE + b"behind")
    server, transport, head, rest = await taken
    assert head.startswith(b"HTTP/1.1 101 ")
    assert rest == b"behind"
    async with async_timeout.timeout(5):
        while server.connections != [heir]:
            await asyncio.sleep(0)  # aiohttp's task ends
    assert heir.calls == ["husk closed"]
    assert not transport.is_closing()
    await runner.cleanup()
    assert heir.calls == ["husk closed", "close", "shutdown"]
    server.connection_lost(heir)
    transport.abort()
    wire.close()


async def test_connection_tells_whether_another_request_waits(run: Run) -> None:
    """Otherwise the options of one client's connection hold for the next one's request."""
    seen: list[tuple[bool, bool]] = []

    async def note(request: web.Request) -> web.Response:
        seen.append(
            (internals.has_another(request.protocol), internals.has_moved_on(request.protocol))
        )
        return web.Response()

    wire = await run(note)
    wire.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
    for _ in range(2):
        await wire.reply()
    assert seen == [(True, True), (False, True)]


async def test_masks_are_undone_in_place() -> None:
    """Otherwise messages of WebSockets are unmasked by slower code, or come garbled."""
    payload = bytearray(b"some text")
    assert internals.unmask is not None
    for _ in range(2):
        internals.unmask(b"\x01\x02\x03\x04", payload)
    assert payload == b"some text"


# The client.


@pytest.fixture
async def endless() -> AsyncIterator[str]:
    """The URL of a server that never ends its response."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
        await reader.read(1)
        writer.close()
        has_ended.set()

    has_ended = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    await has_ended.wait()
    server.close()


async def test_connection_knows_what_has_ended_it(endless: str) -> None:
    """Otherwise a session counts as lost when only the network to its node is cut."""
    async with aiohttp.ClientSession() as client, client.get(endless) as answer:
        connection = answer.connection
        assert internals.end_of(connection) is None
        assert connection is not None
        protocol, transport = connection.protocol, connection.transport
        assert protocol is not None
        assert transport is not None
        transport.set_protocol(asyncio.Protocol())
        protocol.connection_lost(OSError(errno.ETIMEDOUT, "silent"))  # as asyncio does
        transport.abort()
        with pytest.raises(aiohttp.ClientError):
            while True:
                await answer.content.readchunk()
        end = internals.end_of(connection)
        assert isinstance(end, OSError)
        assert end.errno == errno.ETIMEDOUT
    assert internals.end_of(None) is None


async def test_empty_first_part_of_a_body_sends_the_head(run: Run) -> None:
    """Otherwise the owner hears of a relayed upload only when its first bytes have arrived."""
    has_come, may_go_on = asyncio.Event(), asyncio.Event()

    async def read(request: web.Request) -> web.Response:
        has_come.set()
        return web.Response(body=await request.read())

    async def parts() -> AsyncIterator[bytes]:
        yield b""
        await may_go_on.wait()
        yield b"x"

    wire = await run(read)
    port = wire.writer.get_extra_info("peername")[1]
    async with aiohttp.ClientSession() as client:
        asking = asyncio.create_task(client.post(f"http://127.0.0.1:{port}/", data=parts()))
        await has_come.wait()
        may_go_on.set()
        async with await asking as answer:
            assert await answer.read() == b"x"
