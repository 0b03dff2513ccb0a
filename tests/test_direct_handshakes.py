"""Handshakes that are answered without aiohttp: when, and that nobody notices.

`tests/hostile/test_direct_handshakes.py` compares the answers, and what the application is told.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import SockJSConnection, SockJSRouter, guard
from sockjs_aio.connection import Session
from sockjs_aio.server.direct import first_bytes
from sockjs_aio.server.direct.first_bytes import FirstBytes
from sockjs_aio.server.websocket_connection import WebSocketConnection
from tests.certificate import contexts, make_certificate
from tests.conftest import PATIENCE, Echo, Recorder, Serve, Served
from tests.direct_bytes import AS_CHROME, asking, browser_handshake, get, text
from tests.lanes import answered as answered
from tests.test_direct_requests import SEEN, crowded, guarded, hooked, overridden, with_domain
from tests.websocket_wire import HANDSHAKE, close_code, close_frame, frame, handshake, masked
from tests.wire import Wire

# here it is said where there is a lane; a middleware or a proxy's own connections leave none
pytestmark = pytest.mark.not_over("lane-on", "lane-off", "replacing", "sharing")

PATHS = {"websocket": "/000/abc/websocket", "rawwebsocket": "/websocket"}

transports = pytest.mark.parametrize("transport", PATHS)


async def status(served: Served, path: str, **headers: str) -> int:
    """Ask for a WebSocket, and leave."""
    wire = await served.wire()
    wire.send("GET", served.prefix + path, headers={**HANDSHAKE, **headers})
    async with async_timeout.timeout(PATIENCE):
        found = (await wire.head()).status
    wire.close()
    return found


async def is_answered(served: Served, answered: list[str], **headers: str) -> bool:
    """Tell whether the second and third handshake of a server need no aiohttp."""
    for _ in range(3):
        assert await status(served, PATHS["websocket"], **headers) == 101
    assert len(answered) in (0, 2)
    return bool(answered)


async def until(is_so: Callable[[], bool]) -> None:
    async with async_timeout.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.002)


async def learnt(serve: Serve, connection: Any = None, **options: Any) -> Served:
    """Run a server that has served a handshake of each kind."""
    served = await serve(connection, **options)
    for path in PATHS.values():
        assert await status(served, path) == 101
    await served.until_empty()
    return served


def protocols(served: Served) -> list[Any]:
    return [type(connection) for connection in served.http_connections()]


# When.


@transports
async def test_handshakes_behind_the_first_one_are_answered(
    serve: Serve, answered: list[str], transport: str
) -> None:
    served = await serve(Echo)
    for _ in range(3):
        assert await status(served, PATHS[transport]) == 101
    assert answered == [transport] * 2


async def test_first_one_of_each_kind_is_aiohttps(serve: Serve, answered: list[str]) -> None:
    served = await serve(Echo)
    assert await status(served, PATHS["websocket"]) == 101
    assert await status(served, PATHS["rawwebsocket"]) == 101
    assert answered == []


async def test_browsers_are_answered(serve: Serve, answered: list[str]) -> None:
    served = await learnt(serve, Echo)
    wire = await served.wire()
    wire.writer.write(browser_handshake(served.prefix + PATHS["websocket"]))
    assert (await wire.head()).status == 101
    assert await frame(wire) == (1, b"o")
    wire.writer.write(masked(1, b'"a"'))
    assert await frame(wire) == (1, b'a["a"]')
    wire.writer.write(close_frame(3001, "bye"))
    assert await close_code(wire) == 3001
    assert answered == ["websocket"]


@pytest.mark.parametrize(("asked", "expected"), [(None, True), (True, True), (False, False)])
async def test_setting_decides(
    serve: Serve, answered: list[str], asked: bool | None, expected: bool
) -> None:
    served = await serve(Echo, settings={"direct_requests": asked})
    assert await is_answered(served, answered) is expected


@pytest.mark.parametrize("make_app", [hooked, guarded, overridden, crowded, with_domain])
@pytest.mark.parametrize("asked", [None, True])
async def test_application_that_looks_at_requests_sees_each_handshake(
    serve: Serve,
    answered: list[str],
    make_app: Callable[[], web.Application],
    asked: bool | None,
) -> None:
    served = await serve(Echo, settings={"direct_requests": asked}, app=make_app())
    assert not await is_answered(served, answered)
    if make_app is guarded:
        assert served.app[SEEN] == ["websocket"] * 3


async def test_authorize_sees_each_handshake(serve: Serve, answered: list[str]) -> None:
    seen: list[str] = []

    async def authorize(request: web.Request) -> str:
        seen.append(request.path)
        return "ann"

    assert not await is_answered(await serve(Echo, authorize=authorize), answered)
    assert len(seen) == 3


def competing(path: str) -> web.Application:
    async def other(request: web.Request) -> web.Response:
        return web.Response(status=418)

    app = web.Application()
    app.router.add_get(path, other)
    return app


@pytest.mark.parametrize(
    "path",
    ["/echo/websocket", "/echo/{a}/{b}/websocket", "/echo/000/abc/websocket", "/echo/{a:.*}"],
)
async def test_other_resource_that_might_match_is_not_passed_over(
    serve: Serve, answered: list[str], path: str
) -> None:
    served = await serve(Echo, app=competing(path))
    for wanted in (*PATHS.values(), *PATHS.values(), "/000/other/websocket"):
        await status(served, wanted)
    assert answered == []


async def test_service_at_the_root_leaves_other_services_theirs(
    serve: Serve, answered: list[str]
) -> None:
    class Outer(Recorder):
        pass

    class Inner(Recorder):
        pass

    app = web.Application()
    SockJSRouter(Inner, "/a/b").attach(app)
    served = await serve(Outer, "", app=app)
    for path in ("/x/y/websocket", "/a/b/websocket", "/a/b/c/d/websocket") * 3:
        assert await status(served, path) == 101
    await until(lambda: len(Outer.connections) == 3 and len(Inner.connections) == 6)


@pytest.mark.parametrize(
    ("settings", "headers", "expected"),
    [
        ({}, {"Sec-WebSocket-Extensions": "permessage-deflate"}, True),
        ({"websocket_compression": True}, {}, True),
        ({"websocket_compression": True}, {"Sec-WebSocket-Extensions": "x"}, False),
        ({"protocols": ["a"]}, {}, True),
        ({"protocols": ["a"]}, {"Sec-WebSocket-Protocol": "a"}, False),
        ({"origins": ["https://a.example"]}, {"Origin": "https://a.example"}, True),
        ({"origins": ["https://*.example"]}, {"Origin": "https://a.example"}, True),
        ({"origins": ["https://a.example"]}, {}, False),
        ({"origins": lambda origin: True}, {"Origin": "https://a.example"}, False),
        ({"verify_ip": True}, {}, True),
        ({"jsessionid": True}, {}, True),
        ({"message_rate": 10}, {}, True),
    ],
)
async def test_what_needs_a_choice_is_aiohttps(
    serve: Serve,
    answered: list[str],
    settings: dict[str, Any],
    headers: dict[str, str],
    expected: bool,
) -> None:
    served = await serve(Echo, settings=settings)
    assert await is_answered(served, answered, **headers) is expected


async def test_origins_are_checked(serve: Serve) -> None:
    served = await serve(Echo, settings={"origins": ["https://*.example"]})
    for origin, expected in [("https://a.example", 101), ("https://evil.test", 403)] * 3:
        assert await status(served, PATHS["websocket"], Origin=origin) == expected
    assert await status(served, PATHS["websocket"], Origin="https://*.example") == 403
    await served.until_empty()
    assert served.router.stats.refused == {"origin": 4}


@pytest.mark.parametrize(
    ("limit", "expected"), [("max_sessions", 503), ("max_sessions_per_ip", 429)]
)
async def test_limits_hold(serve: Serve, limit: str, expected: int) -> None:
    served = await learnt(serve, Echo, settings={limit: 2})
    wires = [await handshake(served, path) for path in PATHS.values()]
    assert await status(served, PATHS["websocket"]) == expected
    for wire in wires:
        wire.close()
    await served.until_empty()
    assert await status(served, PATHS["websocket"]) == 101
    assert served.router.stats.refused == {limit: 1}


async def test_drain_refuses(serve: Serve) -> None:
    served = await learnt(serve, Echo)
    await served.router.drain()
    for path in PATHS.values():
        assert await status(served, path) == 503


@pytest.mark.parametrize("transport", ["websocket", "rawwebsocket"])
async def test_disabled_transport_is_not_answered(serve: Serve, transport: str) -> None:
    served = await serve(Echo, settings={"disabled_transports": [transport]})
    for _ in range(2):
        for name, path in PATHS.items():
            assert await status(served, path) == (404 if name == transport else 101)


async def test_access_log_has_each_handshake(answered: list[str]) -> None:
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.getLogger("tests.access_of_handshakes")
    logger.setLevel(logging.WARNING)
    logger.addHandler(Lines())
    app = web.Application()
    SockJSRouter(Echo, "/echo", direct_requests=True).attach(app)
    runner = web.AppRunner(app, access_log=logger)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()

    async def ask() -> None:
        wire = await Wire.connect(runner.addresses[0][1])
        wire.writer.write(asking(path="/echo/websocket"))
        assert (await wire.head()).status == 101
        wire.close()

    for _ in range(2):
        await ask()
    assert len(answered) == 1
    logger.setLevel(logging.INFO)
    await ask()
    await until(lambda: len(lines) == 1)
    assert len(answered) == 1 and '"GET /echo/websocket HTTP/1.1" 101' in lines[0]
    await runner.cleanup()


@pytest.mark.parametrize("is_guarded", [False, True])
async def test_service_in_a_sub_application_needs_a_guard_on_the_whole(
    answered: list[str], is_guarded: bool
) -> None:
    apps: list[web.Application] = []

    class Noted(Echo):
        async def on_open(self, info: Any) -> None:
            apps.append(info.app)

    below, app = web.Application(), web.Application()
    SockJSRouter(Noted, "/echo").attach(below)
    app.add_subapp("/below", below)
    if is_guarded:
        guard(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    for _ in range(3):
        wire = await Wire.connect(runner.addresses[0][1])
        wire.writer.write(asking(path="/below/echo/000/abc/websocket"))
        assert (await wire.head()).status == 101
        assert await frame(wire) == (1, b"o")
        wire.close()
    assert apps == [below] * 3
    assert len(answered) == (2 if is_guarded else 0)
    await runner.cleanup()


async def test_tool_that_replaces_parts_of_aiohttp_sees_each_handshake(
    serve: Serve, answered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    resolve = web.UrlDispatcher.resolve

    async def watched(self: web.UrlDispatcher, request: web.Request) -> Any:
        seen.append(request.path)
        return await resolve(self, request)

    monkeypatch.setattr(web.UrlDispatcher, "resolve", watched)
    assert not await is_answered(await serve(Echo), answered)
    assert len(seen) == 3


@transports
async def test_spellings_of_a_path_are_not_collected(
    serve: Serve, answered: list[str], transport: str
) -> None:
    served = await serve(Echo)
    path = PATHS[transport]
    for number in range(5):
        for prefix in ("/%65cho", "/ech%6F", "/ech%6f", f"http://a{number}.example/echo"):
            wire = await served.wire()
            wire.send("GET", prefix + path, headers=HANDSHAKE)
            assert (await wire.head()).status == 101
            wire.close()
    assert answered == []
    for _ in range(2):
        assert await status(served, path) == 101
    assert len(answered) == 1
    doors: Any = getattr(served.runner.server, "greeter", None)
    assert set(doors._sessions) | set(doors._raw) == {"/echo"}


# What the application's code does.


@pytest.mark.logs("no database")
async def test_constructor_that_fails_is_called_once(
    serve: Serve, answered: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Session] = []

    class Failing(Echo):
        def __init__(self, session: Session) -> None:
            super().__init__(session)
            made.append(session)
            if len(made) > 2:
                raise web.HTTPForbidden(text="not you") if len(made) % 2 else OSError("no database")

    served = await learnt(serve, Failing)
    for count, expected in enumerate([403, 500, 403, 500], start=3):
        assert await status(served, PATHS["websocket"]) == expected
        assert len(made) == count
    assert len(answered) == 4
    await served.until_empty()
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [str(error) for error in errors] == ["no database"] * 2


async def test_connection_that_was_refused_may_be_used_again(serve: Serve) -> None:
    made: list[Session] = []

    class Failing(Echo):
        def __init__(self, session: Session) -> None:
            super().__init__(session)
            made.append(session)
            if len(made) == 3:
                raise web.HTTPForbidden(text="not yet")

    served = await learnt(serve, Failing)
    wire = await served.wire()
    wire.send("GET", "/echo/info")  # aiohttp's connection
    assert (await wire.reply()).status == 200
    wire.close()
    wire = await served.wire()
    wire.send("GET", "/echo/0/1/websocket", headers=HANDSHAKE)
    assert (await wire.reply()).status == 403
    wire.send("GET", "/echo/0/1/websocket", headers=HANDSHAKE)
    assert (await wire.head()).status == 101
    assert await frame(wire) == (1, b"o")


@pytest.mark.not_over("tls")  # which gives each connection turns of its own
async def test_failure_is_no_answer_to_the_next_handshake_of_its_connection(serve: Serve) -> None:
    made: list[Session] = []

    class Failing(Echo):
        def __init__(self, session: Session) -> None:
            super().__init__(session)
            made.append(session)
            if len(made) == 3:
                raise web.HTTPForbidden(text="not you")

    served = await learnt(serve, Failing, settings={"max_sessions": 1})
    failing, other = await served.wire(), await served.wire()
    for wire in (failing, other):  # the second one takes the last place, in the same turn
        wire.send("GET", "/echo/0/1/websocket", headers=HANDSHAKE)
    first = await failing.reply()
    assert (await other.head()).status == 101
    other.close()
    await served.until_empty()
    failing.send("GET", "/echo/0/1/websocket", headers=HANDSHAKE)
    assert (await failing.head()).status == 101
    assert await frame(failing) == (1, b"o")
    assert (first.status, len(made)) == (403, 5), "its own answer, although there is no room now"
    failing.close()


async def test_session_may_be_closed_where_it_is_made(serve: Serve, answered: list[str]) -> None:
    class Closing(SockJSConnection):
        def __init__(self, session: Session) -> None:
            super().__init__(session)
            self.close(4000, "at once")

    served = await serve(Closing)
    for count in range(2):
        wire = await handshake(served)
        assert await frame(wire) == (1, b'c[4000,"at once"]')
        assert await close_code(wire) == 1000
        assert answered == ["websocket"] * count


async def test_hooks_have_the_task_of_their_constructor(serve: Serve, answered: list[str]) -> None:
    tasks: list[Any] = []

    class Noted(Echo):
        def __init__(self, session: Session) -> None:
            super().__init__(session)
            tasks.append(asyncio.current_task())

        async def on_open(self, info: Any) -> None:
            tasks.append(asyncio.current_task())
            async with async_timeout.timeout(PATIENCE):
                await asyncio.sleep(0)

    served = await learnt(serve, Noted)
    tasks.clear()
    assert await status(served, PATHS["websocket"]) == 101
    await until(lambda: len(tasks) == 2)
    assert tasks[0] is tasks[1] is not None
    assert answered == ["websocket"]


# Connections that send nothing, or half of it.


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have connections that send nothing wait for ever, so that a slow machine finds them so."""
    monkeypatch.setattr(first_bytes, "PATIENCE", 3600)


@pytest.mark.virtual_time
async def test_connection_that_sends_nothing_gets_aiohttps_times(serve: Serve) -> None:
    served = await learnt(serve, Echo, keepalive_timeout=0.3)
    wire = await served.wire()
    await until(lambda: protocols(served) == [web.RequestHandler])
    async with async_timeout.timeout(PATIENCE):
        assert await wire.is_closed()
    await until(lambda: protocols(served) == [])


async def test_connection_may_begin_late(serve: Serve, answered: list[str]) -> None:
    served = await learnt(serve, Echo)
    wire = await served.wire()
    await until(lambda: protocols(served) == [web.RequestHandler])
    wire.send("GET", "/echo/0/1/websocket", headers=HANDSHAKE)
    assert (await wire.head()).status == 101
    assert await frame(wire) == (1, b"o")
    assert answered == []


@pytest.mark.virtual_time
@pytest.mark.parametrize("begin", [b"G", asking()[:40], asking()[:-1]])
async def test_half_a_head_is_aiohttps(serve: Serve, answered: list[str], begin: bytes) -> None:
    served = await learnt(serve, Echo, keepalive_timeout=0.3)
    wire = await served.wire()
    wire.writer.write(begin)
    await until(lambda: protocols(served) == [web.RequestHandler])
    async with async_timeout.timeout(PATIENCE):
        assert await wire.is_closed()
    assert answered == []


@pytest.mark.virtual_time
@pytest.mark.parametrize("begin", [b"", b"G", asking()[:-1], asking(path="/echo/websocket")])
async def test_shutdown_ends_all_connections(serve: Serve, patient: None, begin: bytes) -> None:
    served = await learnt(serve, Echo)
    wire = await served.wire()
    wire.writer.write(begin)
    expected = {b"": FirstBytes, asking(path="/echo/websocket"): WebSocketConnection}
    await until(lambda: protocols(served) == [expected.get(begin, web.RequestHandler)])
    server = served.runner.server
    assert server is not None
    async with async_timeout.timeout(PATIENCE):
        await served.runner.cleanup()
        with contextlib.suppress(ConnectionError):
            await wire.reader.read()
    assert server.connections == []


@pytest.mark.virtual_time
async def test_connection_that_begins_during_the_shutdown_is_not_answered(
    serve: Serve, answered: list[str], patient: None
) -> None:
    class Slow(SockJSConnection):
        async def on_close(self) -> None:
            await asyncio.sleep(0.2)

    served = await learnt(serve, Slow)
    other = await handshake(served, PATHS["rawwebsocket"])
    wire = await served.wire()
    await until(lambda: FirstBytes in protocols(served))
    answered.clear()
    cleanup = asyncio.ensure_future(served.runner.cleanup())
    await until(lambda: not served.runner.sites)
    await asyncio.sleep(0)
    wire.send("GET", "/echo/0/1/websocket", headers=HANDSHAKE)
    async with async_timeout.timeout(PATIENCE):
        assert await wire.is_closed()
        await cleanup
    assert answered == []
    other.close()


@pytest.mark.parametrize("begin", [b"", b"G", asking()[:-1], asking(path="/echo/websocket")])
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_client_that_leaves_is_forgotten(
    serve: Serve, patient: None, begin: bytes, how: str
) -> None:
    class Noted(Recorder):
        pass

    served = await learnt(serve, Noted)
    Noted.forget()
    wire = await served.wire()
    await until(lambda: len(protocols(served)) == 1)
    assert protocols(served) == [FirstBytes]
    if begin:
        wire.writer.write(begin)
        await until(lambda: protocols(served) != [FirstBytes])
    getattr(wire, how)()
    await until(lambda: protocols(served) == [])
    await served.until_empty()
    assert Noted.seen in ([], ["open", "close"])


@pytest.mark.parametrize(
    "is_tls",
    [pytest.param(False, id="plain"), pytest.param(True, id="tls", marks=pytest.mark.programs)],
)
async def test_client_that_leaves_while_the_loop_is_blocked_leaves_nothing_behind(
    serve: Serve, is_tls: bool, tmp_path: Path
) -> None:
    served = await learnt(serve, tls=contexts(make_certificate(tmp_path)) if is_tls else None)
    for _ in range(3):
        wire = await served.wire()
        await until(lambda: protocols(served) == [FirstBytes])
        wire.abort()
        # so that its loss and the end of the patience come together
        asyncio.get_running_loop().call_soon(time.sleep, first_bytes.PATIENCE)
        await until(lambda: protocols(served) == [])


async def test_client_that_leaves_before_on_open_is_never_told_of(serve: Serve) -> None:
    class Noted(Recorder):
        def __init__(self, session: Session) -> None:
            super().__init__(session)
            if is_leaving:
                protocol: Any = served.http_connections()[0]
                protocol.transport.abort()

    is_leaving = False
    served = await learnt(serve, Noted)
    is_leaving = True
    Noted.forget()
    wire = await served.wire()
    wire.send("GET", "/echo/0/1/websocket", headers=HANDSHAKE)
    async with async_timeout.timeout(PATIENCE):
        assert await wire.is_closed()
    await served.until_empty()
    assert Noted.seen in ([], ["open", "close"])
    await until(lambda: protocols(served) == [])


async def test_many_connections_come_and_go(serve: Serve, answered: list[str]) -> None:
    served = await learnt(serve, Echo)

    async def talk(number: int) -> None:
        wire = await served.wire()
        data = asking(path=f"/echo/0/{number}/websocket") + text(b'"%d"' % number)
        cut = number % len(data)
        for piece in (data[:cut], data[cut:]):
            wire.writer.write(piece)
            await asyncio.sleep(0.001 * (number % 3))
        assert (await wire.head()).status == 101
        assert await frame(wire) == (1, b"o")
        assert await frame(wire) == (1, b'a["%d"]' % number)
        wire.close()

    async with async_timeout.timeout(PATIENCE):
        await asyncio.gather(*(talk(number) for number in range(100)))
    await served.until_empty()
    await until(lambda: protocols(served) == [])
    assert served.router.stats.opened == {"websocket": 101, "rawwebsocket": 1}


async def test_unix_sockets_are_served_too(tmp_path: Path, answered: list[str]) -> None:
    ips: list[Any] = []

    class Noted(Echo):
        async def on_open(self, info: Any) -> None:
            ips.append(info.ip)

    app = web.Application()
    SockJSRouter(Noted, "/echo").attach(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    path = str(tmp_path / "socket")
    await web.UnixSite(runner, path).start()
    for _ in range(2):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(get("/echo/websocket", *AS_CHROME))
        assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
        writer.close()
    await until(lambda: len(ips) == 2)
    assert ips[0] == ips[1]
    assert answered == ["rawwebsocket"]
    await runner.cleanup()
