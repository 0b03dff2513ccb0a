"""What `server.aiohttp_protocol` assumes of aiohttp's protocol, on real connections."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar, cast

import async_timeout
import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from sockjs_aio.server import aiohttp_protocol
from sockjs_aio.server.direct.grammar import DirectRequest, Reader
from tests.conftest import PATIENCE
from tests.wire import Wire

REQUEST = b"POST /page?a=b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Connected:
    """A server and one connection to it, seen from both sides."""

    runner: web.AppRunner
    wire: Wire
    handler: RequestHandler
    go_on: asyncio.Event

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with async_timeout.timeout(PATIENCE):
            while not is_so():
                await asyncio.sleep(0.002)

    async def until_waiting(self) -> None:
        await self.until(lambda: aiohttp_protocol.is_waiting(self.handler))

    def borrow(self) -> aiohttp_protocol.Waiter:
        return aiohttp_protocol.borrow(self.handler)

    def give_back(self, waiter: aiohttp_protocol.Waiter) -> bool:
        return aiohttp_protocol.give_back(self.handler, waiter)


Connect = Callable[..., Awaitable[Connected]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    made: list[Connected] = []

    async def make(**options: object) -> Connected:
        go_on = asyncio.Event()

        async def page(request: web.Request) -> web.Response:
            await request.read()
            return web.Response(text=aiohttp_protocol.path_of(request.protocol))

        async def slow(request: web.Request) -> web.Response:
            await go_on.wait()
            return web.Response(text="at last")

        app = web.Application()
        app.router.add_post("/page", page)
        app.router.add_get("/slow", slow)
        # it need not be told what these tests do to it
        silent = logging.getLogger("tests.silent")
        silent.propagate = False
        runner = web.AppRunner(app, logger=silent, **{"access_log": None, **options})  # type: ignore[arg-type]
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        wire = await Wire.connect(runner.addresses[0][1])
        assert runner.server is not None
        async with async_timeout.timeout(PATIENCE):
            while not runner.server.connections:
                await asyncio.sleep(0.002)
        connected = Connected(runner, wire, runner.server.connections[0], go_on)
        await connected.until_waiting()
        made.append(connected)
        return connected

    yield make
    for connected in made:
        connected.wire.close()
        await connected.runner.cleanup()


def read(data: bytes) -> DirectRequest:
    request = Reader().read(data)
    assert request is not None
    return request


async def test_handler_waits_between_requests_only(connect: Connect) -> None:
    connected = await connect()
    connected.wire.send("GET", "/slow")
    await connected.until(lambda: not aiohttp_protocol.is_waiting(connected.handler))
    connected.go_on.set()
    assert (await connected.wire.reply()).status == 200
    await connected.until_waiting()


@pytest.mark.parametrize("sends_much", [False, True])
async def test_handler_that_has_stopped_reading_reads_on_by_itself(
    connect: Connect, sends_much: bool
) -> None:
    """It has many requests to answer, or a long body that nobody reads yet."""
    connected = await connect()
    for _ in range(1 if sends_much else 60):
        connected.wire.send("GET", "/slow")
    if sends_much:
        connected.wire.send("POST", "/page", 1_000_000 * b"x")
    handler, transport = connected.handler, cast(asyncio.Transport, connected.handler.transport)
    await connected.until(lambda: aiohttp_protocol.has_stopped_reading(handler))
    assert not transport.is_reading()
    connected.go_on.set()
    for _ in range(2 if sends_much else 60):
        assert (await connected.wire.reply()).status == 200
    assert not aiohttp_protocol.has_stopped_reading(handler)
    assert transport.is_reading()


async def test_handler_of_a_closing_connection_does_not_wait(connect: Connect) -> None:
    connected = await connect()
    connected.wire.send("GET", "/none", headers={"Connection": "close"})
    assert (await connected.wire.reply()).status == 404
    assert await connected.wire.is_closed()
    assert not aiohttp_protocol.is_waiting(connected.handler)


async def test_path_of_the_request_that_is_served_is_known(connect: Connect) -> None:
    connected = await connect()
    assert (await connected.wire.request("POST", "/page?a=b", b"")).body == b"/page"
    assert aiohttp_protocol.path_of(connected.handler) == ""


async def test_whole_request_is_taken(connect: Connect) -> None:
    connected = await connect()
    for begin in (b"", b"\r\n"):
        connected.handler.data_received(begin + REQUEST)
        assert aiohttp_protocol.has_taken(connected.handler, read(REQUEST))
        assert (await connected.wire.reply()).body == b"/page"
        await connected.until_waiting()


SAME_LINE = b"POST /page?a=b HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    "begin",
    [
        b"P",
        b"POST /",
        b"POST /other HTTP/1.1\r\n",
        b"POST /other HTTP/1.1\r\nX: ",
        SAME_LINE,
        SAME_LINE + b"X: ",
        SAME_LINE + b"Content-Length: 2\r\nX: ",
        SAME_LINE + b"Content-Length: 1",
        SAME_LINE + b"Transfer-Encoding: chunked\r\nX: ",
        SAME_LINE + b"Content-Length: 1\r\n\r\n",
        SAME_LINE + b"Content-Length: %d\r\n\r\n" % len(REQUEST),
        SAME_LINE + b"Content-Length: %d\r\n\r\n" % (len(REQUEST) - 2),
        SAME_LINE + b"Transfer-Encoding: chunked\r\n\r\n",
        REQUEST + b"P",
        REQUEST,
    ],
)
async def test_request_behind_other_data_is_not_taken(connect: Connect, begin: bytes) -> None:
    connected = await connect()
    connected.handler.data_received(begin)
    is_waiting = aiohttp_protocol.is_waiting(connected.handler)
    connected.handler.data_received(REQUEST)
    assert not (is_waiting and aiohttp_protocol.has_taken(connected.handler, read(REQUEST)))


async def test_request_before_other_data_is_not_taken(connect: Connect) -> None:
    connected = await connect()
    connected.handler.data_received(REQUEST[:-1])
    assert not aiohttp_protocol.has_taken(connected.handler, read(REQUEST))


async def test_keep_alive_time_does_not_end_a_borrowed_connection(connect: Connect) -> None:
    connected = await connect(keepalive_timeout=0.05)
    waiter = connected.borrow()
    await asyncio.sleep(0.2)
    assert connected.handler.transport is not None
    assert connected.give_back(waiter)
    assert await connected.wire.is_closed()


async def test_keep_alive_time_begins_with_each_request(connect: Connect) -> None:
    connected = await connect(keepalive_timeout=1000)
    before = connected.handler._next_keepalive_close_time
    await asyncio.sleep(0.01)
    aiohttp_protocol.count_request(connected.handler)
    assert connected.handler._next_keepalive_close_time > before
    assert connected.runner.server is not None
    assert connected.runner.server.requests_count == 1


async def test_connection_serves_on_after_it_was_borrowed(connect: Connect) -> None:
    connected = await connect()
    for _ in range(3):
        assert connected.give_back(connected.borrow())
        assert (await connected.wire.request("POST", "/page", b"")).body == b"/page"
        await connected.until_waiting()


async def test_shutdown_waits_for_a_borrowed_connection(connect: Connect) -> None:
    connected = await connect()
    waiter = connected.borrow()
    cleanup = asyncio.ensure_future(connected.runner.cleanup())
    await asyncio.sleep(0.05)
    assert not cleanup.done()
    assert connected.handler.transport is not None
    connected.handler.transport.write(b"the answer")
    assert not connected.give_back(waiter)
    assert await connected.wire.reader.read() == b"the answer"
    async with async_timeout.timeout(PATIENCE):
        await cleanup


async def test_shutdown_does_not_wait_for_ever(connect: Connect) -> None:
    connected = await connect(shutdown_timeout=0.05)
    waiter = connected.borrow()
    async with async_timeout.timeout(PATIENCE):
        await connected.runner.cleanup()
    assert await connected.wire.is_closed()
    assert not connected.give_back(waiter)


async def test_connection_that_is_lost_while_borrowed_leaves_no_task(connect: Connect) -> None:
    connected = await connect()
    task = connected.handler._task_handler
    waiter = connected.borrow()
    connected.give_back(waiter)
    connected.wire.close()
    await connected.until(lambda: connected.handler.transport is None)
    assert task is not None
    await connected.until(task.done)


@pytest.mark.parametrize("is_logged", [False, True])
async def test_access_log_is_known(connect: Connect, is_logged: bool) -> None:
    logger = logging.getLogger("tests.access")
    logger.setLevel(logging.INFO)
    connected = await connect(access_log=logger if is_logged else None)
    assert aiohttp_protocol.logs_access(connected.handler) is is_logged


@pytest.mark.parametrize("limit", ["max_line_size", "max_field_size", "max_headers"])
async def test_smaller_limits_than_the_lanes_are_known(connect: Connect, limit: str) -> None:
    assert aiohttp_protocol.takes((await connect()).handler)
    assert not aiohttp_protocol.takes((await connect(**{limit: 20})).handler)


async def test_runner_has_its_protocol_made_for_each_connection() -> None:
    made: list[RequestHandler] = []

    class Own(aiohttp_protocol.Handler):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(self)
            super().connection_made(transport)

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="served")

    app = web.Application()
    app.router.add_get("/", page)
    runner = aiohttp_protocol.Runner(app, Own, keepalive_timeout=7.0, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    wire = await Wire.connect(runner.addresses[0][1])
    assert (await wire.request("GET", "/")).body == b"served"
    assert runner.server is not None
    assert runner.server.connections == made
    assert made[0].keepalive_timeout == 7.0
    wire.close()
    await runner.cleanup()
    assert made[0].transport is None


class Greeting(asyncio.Protocol):
    """Answers whatever comes first on a connection."""

    _task_handler: ClassVar[None] = None

    def __init__(self, server: aiohttp_protocol.Server) -> None:
        self.server = server
        self.ends: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not
        self.server.connection_made(self, transport)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        handler = self.server.make_handler()
        self.server.connection_lost(self)  # type: ignore[arg-type]
        self.transport.set_protocol(handler)
        handler.connection_made(self.transport)
        handler.data_received(data)

    def close(self) -> None:
        self.ends.append("close")

    async def shutdown(self, timeout: float | None = None) -> None:
        self.ends.append("shutdown")
        self.transport.close()


class Greeter:
    """Greets connections as long as it is needed."""

    is_needed = False

    def __init__(self) -> None:
        self.made: list[Greeting] = []

    def greet(self, server: aiohttp_protocol.Server) -> Greeting:
        self.made.append(Greeting(server))
        return self.made[-1]


async def served(app: web.Application, **options: object) -> web.AppRunner:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="served")

    app.router.add_get("/", page)
    aiohttp_protocol.use_own_server(app)
    runner = web.AppRunner(app, access_log=None, **options)  # type: ignore[arg-type]
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


async def test_application_is_served_by_our_server() -> None:
    runner = await served(web.Application(), keepalive_timeout=7.0, handler_cancellation=True)
    server = runner.server
    assert type(server) is aiohttp_protocol.Server
    assert server.handler_cancellation and server.make_handler().keepalive_timeout == 7.0
    server.greeter = greeter = Greeter()
    for greeter.is_needed in (False, True):
        wire = await Wire.connect(runner.addresses[0][1])
        assert (await wire.request("GET", "/")).body == b"served"
        assert [type(one) for one in server.connections] == [RequestHandler]
        wire.close()
        async with async_timeout.timeout(PATIENCE):
            while server.connections:
                await asyncio.sleep(0.002)
    assert len(greeter.made) == 1
    await runner.cleanup()


async def test_shutdown_ends_what_greets_a_connection() -> None:
    runner = await served(web.Application())
    server = runner.server
    assert type(server) is aiohttp_protocol.Server
    server.greeter = greeter = Greeter()
    greeter.is_needed = True
    wire = await Wire.connect(runner.addresses[0][1])
    async with async_timeout.timeout(PATIENCE):
        while not server.connections:
            await asyncio.sleep(0.002)
        connections: list[object] = list(server.connections)
        assert connections == greeter.made
        await runner.cleanup()
    assert greeter.made[0].ends == ["close", "shutdown"]
    assert await wire.is_closed()
    wire.close()


async def test_other_servers_stay_as_they_are() -> None:
    class Own(web.Server):
        pass

    app = web.Application()
    make = app._make_handler
    object.__setattr__(app, "_make_handler", lambda **_: Own(app._handle))  # type: ignore[arg-type]
    runner = await served(app)
    assert type(runner.server) is Own
    assert make is not app._make_handler
    await runner.cleanup()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (RequestHandler, "start"),
        (RequestHandler, "_handle_request"),
        (RequestHandler, "finish_response"),
        (web.UrlDispatcher, "resolve"),
    ],
)
async def test_tools_that_replace_methods_are_noticed(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    app = web.Application()
    runner = await served(app)
    assert runner.server is not None
    assert not aiohttp_protocol.is_watched(runner.server)
    original = getattr(owner, name)

    async def replaced(*arguments: object) -> object:
        return await original(*arguments)

    monkeypatch.setattr(owner, name, replaced)
    assert aiohttp_protocol.is_watched(runner.server)
    await runner.cleanup()


async def test_access_log_tells_whether_it_is_written_now(connect: Connect) -> None:
    logger = logging.getLogger("tests.access_now")
    log = aiohttp_protocol.access_log_of((await connect(access_log=logger)).handler)
    assert log is not None
    for level in (logging.INFO, logging.WARNING, logging.INFO):
        logger.setLevel(level)
        assert log.enabled is (level == logging.INFO)
    assert aiohttp_protocol.access_log_of((await connect()).handler) is None
