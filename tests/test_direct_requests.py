"""The direct lane on real connections: when it answers, and that nobody notices."""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import async_timeout
import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from sockjs_aio import ConnectionInfo, SockJSConnection, SockJSRouter
from sockjs_aio.server.aiohttp_protocol import Server
from sockjs_aio.server.direct.conditions import MAX_PREFIXES
from sockjs_aio.server.direct.handshakes import Doors
from tests.certificate import contexts, make_certificate
from tests.conftest import PATIENCE, SHORT, Echo, Recorder, Serve, Served
from tests.lanes import answered as answered
from tests.websocket_wire import HANDSHAKE, close_code, close_frame, frame, masked
from tests.wire import Reply, Wire, end_sending

PATH = "/echo/000/abc"

pytestmark = pytest.mark.not_over("lane-on")  # here it is said where there is a lane


async def ask(wire: Wire, transport: str, body: str = "", **headers: str) -> Reply:
    async with async_timeout.timeout(PATIENCE):
        return await wire.request("POST", f"{PATH}/{transport}", body, headers=headers)


async def begin(served: Served, answered: list[str]) -> Wire:
    """Open the session, and make a connection whose next request a lane may answer."""
    wire = await served.wire()
    if not served.router.session_count:
        assert (await ask(wire, "xhr")).body == b"o\n"
    # aiohttp serves one request more, behind which its parser is known to be between two requests
    for _ in range(2):
        assert (await ask(wire, "xhr_send", "[]")).status == 204
    answered.clear()
    return wire


async def until(is_so: Callable[[], bool]) -> None:
    async with async_timeout.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.002)


async def test_lane_answers_polls_sends_and_streams(serve: Serve, answered: list[str]) -> None:
    served = await serve(Echo, settings={"direct_requests": None, "response_limit": 5})
    wire = await begin(served, answered)
    assert answered == []
    assert (await ask(wire, "xhr_send", '["a", "b"]')).status == 204
    assert (await ask(wire, "xhr")).body == b'a["a","b"]\n'
    assert (await ask(wire, "xhr_send", '["c"]')).status == 204
    reply = await ask(wire, "xhr_streaming")
    assert reply.chunks == [b"h" * 2048 + b"\n", b'a["c"]\n']
    assert answered == ["xhr_send", "xhr", "xhr_send", "xhr_streaming"]


async def test_poll_that_waits_gets_the_next_message(serve: Serve, answered: list[str]) -> None:
    served = await serve(Echo, settings={"direct_requests": None})
    wire = await begin(served, answered)
    wire.send("POST", f"{PATH}/xhr", b"")
    await until(lambda: answered == ["xhr"])
    assert await served.post("/000/abc", '["late"]') == 204
    assert (await wire.reply()).body == b'a["late"]\n'


# What the settings say.

SEEN = web.AppKey("SEEN", list[str])


def hooked() -> web.Application:
    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Seen"] = "1"

    app = web.Application()
    app.on_response_prepare.append(prepare)
    return app


def guarded() -> web.Application:
    @web.middleware
    async def middleware(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        app[SEEN].append(request.path.rpartition("/")[2])
        return await handler(request)

    app = web.Application(middlewares=[middleware])
    app[SEEN] = []
    return app


def crowded() -> web.Application:
    async def other(request: web.Request) -> web.Response:
        return web.Response(text="another handler")

    app = web.Application()
    app.router.add_post("/echo/{any}/abc/xhr_send", other)
    return app


def overridden() -> web.Application:
    with pytest.warns(DeprecationWarning, match="Inheritance"):

        class Own(web.Application):
            async def _handle(self, request: web.Request) -> web.StreamResponse:
                return await super()._handle(request)

    return Own()


async def answers(serve: Serve, answered: list[str], **options: Any) -> bool:
    """Tell whether a lane answers a server's third request."""
    settings = options.pop("settings", {})
    served = await serve(Echo, settings={"direct_requests": None, **settings}, **options)
    wire = await served.wire()
    await ask(wire, "xhr")
    for _ in range(4):
        await ask(wire, "xhr_send", "[]")
    return bool(answered)


@pytest.mark.not_over("replacing")  # a middleware
@pytest.mark.parametrize(("asked", "is_answered"), [(None, True), (True, True), (False, False)])
async def test_setting_decides(
    serve: Serve, answered: list[str], asked: bool | None, is_answered: bool
) -> None:
    assert await answers(serve, answered, settings={"direct_requests": asked}) is is_answered


@pytest.mark.parametrize("make_app", [hooked, guarded, overridden])
@pytest.mark.parametrize("asked", [None, True])
async def test_what_sees_each_request_counts_unless_the_setting_is_true(
    serve: Serve,
    answered: list[str],
    make_app: Callable[[], web.Application],
    asked: bool | None,
) -> None:
    settings = {"direct_requests": asked}
    assert await answers(serve, answered, app=make_app(), settings=settings) is bool(asked)


@pytest.mark.parametrize("asked", [None, True])
async def test_tool_that_patches_aiohttp_counts_unless_the_setting_is_true(
    serve: Serve, answered: list[str], asked: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = RequestHandler._handle_request

    async def watched(self: RequestHandler, *arguments: Any) -> Any:
        return await handle(self, *arguments)

    monkeypatch.setattr(RequestHandler, "_handle_request", watched)
    assert await answers(serve, answered, settings={"direct_requests": asked}) is bool(asked)


@pytest.mark.parametrize("asked", [None, True])
async def test_access_log_counts_unless_the_setting_is_true(
    serve: Serve, answered: list[str], asked: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("tests.access")
    logger.setLevel(logging.INFO)
    app = web.Application()
    router = SockJSRouter(Echo, "/echo", direct_requests=asked)
    router.attach(app)
    runner = web.AppRunner(app, access_log=logger)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    wire = await Wire.connect(runner.addresses[0][1])
    await ask(wire, "xhr")
    for _ in range(4):
        await ask(wire, "xhr_send", "[]")
    assert bool(answered) is bool(asked)
    wire.close()
    await runner.cleanup()


@pytest.mark.parametrize("setting", [{"verify_ip": True}, {"jsessionid": True}])
async def test_some_settings_need_aiohttp(
    serve: Serve, answered: list[str], setting: dict[str, object]
) -> None:
    settings = {"direct_requests": True, **setting}
    assert not await answers(serve, answered, settings=settings)


async def test_verify_sees_each_request(answered: list[str]) -> None:
    seen = []

    def verify(request: web.Request, info: ConnectionInfo) -> bool:
        seen.append(request.path)
        return True

    app = web.Application()
    SockJSRouter(Echo, "/echo", verify=verify, direct_requests=True).attach(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    wire = await Wire.connect(runner.addresses[0][1])
    await ask(wire, "xhr")
    for _ in range(4):
        await ask(wire, "xhr_send", "[]")
    assert len(seen) == 4 and not answered
    wire.close()
    await runner.cleanup()


@pytest.mark.parametrize("prefix", ["", "/a", "/a/b", "/a/b/c", "/a.b/~c"])
async def test_prefixes_may_have_any_depth(serve: Serve, answered: list[str], prefix: str) -> None:
    served = await serve(Echo, prefix, settings={"direct_requests": None})
    wire = await served.wire()
    for transport in ("xhr", "xhr_send", "xhr_send"):
        path = f"{prefix}/000/abc/{transport}"
        assert (await wire.request("POST", path, b"[]")).status in (200, 204)
    assert answered == ["xhr_send"]


async def test_service_may_be_in_a_sub_application(answered: list[str]) -> None:
    below, app = web.Application(), web.Application()
    SockJSRouter(Echo, "/echo").attach(below)
    app.add_subapp("/below", below)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    wire = await Wire.connect(runner.addresses[0][1])
    for transport in ("xhr", "xhr_send", "xhr_send"):
        path = f"/below/echo/000/abc/{transport}"
        assert (await wire.request("POST", path, b"[]")).status in (200, 204)
    assert answered == ["xhr_send"]
    wire.close()
    await runner.cleanup()


async def test_two_services_may_share_a_connection(serve: Serve, answered: list[str]) -> None:
    app = web.Application()
    SockJSRouter(Echo, "/other", direct_requests=None).attach(app)
    served = await serve(Echo, settings={"direct_requests": None}, app=app)
    wire = await served.wire()
    for transport in ("xhr", "xhr_send", "xhr_send"):
        for prefix in ("/echo", "/other"):
            path = f"{prefix}/000/abc/{transport}"
            assert (await wire.request("POST", path, b"[]")).status in (200, 204)
    assert answered == ["xhr_send"] * 4


async def test_other_resource_that_might_match_keeps_the_lane_away(
    serve: Serve, answered: list[str]
) -> None:
    assert not await answers(serve, answered, app=crowded(), settings={"direct_requests": True})


def with_domain() -> web.Application:
    app = web.Application()
    app.add_domain("other.example", web.Application())
    return app


def with_static_files() -> web.Application:
    app = web.Application()
    app.router.add_static("/echo/000", Path(__file__).parent)
    return app


@pytest.mark.parametrize("make_app", [with_domain, with_static_files])
async def test_other_kinds_of_resources_keep_the_lane_away_too(
    serve: Serve, answered: list[str], make_app: Callable[[], web.Application]
) -> None:
    assert not await answers(serve, answered, app=make_app(), settings={"direct_requests": True})


def with_own_resource() -> web.Application:
    class Own(web.PlainResource):
        """Gets what is not its path, as an application's own resource may."""

        async def resolve(self, request: web.Request) -> Any:
            (route,) = self
            is_its = request.path.startswith("/echo/000/")
            return web.UrlMappingMatchInfo({}, route) if is_its else None, set()

    async def other(request: web.Request) -> web.Response:
        return web.Response(status=418)

    app = web.Application()
    resource = Own("/echo/000")
    resource.add_route("*", other)
    app.router.register_resource(resource)
    return app


@pytest.mark.parametrize("direct", [None, True])
async def test_resource_of_an_own_class_is_not_passed_over(
    serve: Serve, answered: list[str], direct: bool | None
) -> None:
    served = await serve(Echo, settings={"direct_requests": direct}, app=with_own_resource())
    wire = await served.wire()
    for path, status in (("/111/abc/xhr", 200), ("/111/abc/xhr_send", 204), ("/000/abc/xhr", 418)):
        body = b'["a"]' if "send" in path else b""
        assert (await wire.request("POST", served.prefix + path, body)).status == status
    wire.close()
    assert answered == []


def with_own_router(seen: list[str]) -> web.Application:
    app = web.Application()
    resolve = app.router.resolve

    async def noted(request: web.Request) -> web.UrlMappingMatchInfo:
        seen.append(request.path)
        match: web.UrlMappingMatchInfo = await resolve(request)
        return match

    app.router.resolve = noted  # type: ignore[method-assign]
    return app


def with_own_handle(seen: list[str]) -> web.Application:
    app = web.Application()
    handle = app._handle

    async def noted(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        return await handle(request)

    object.__setattr__(app, "_handle", noted)
    return app


@pytest.mark.parametrize("make", [with_own_router, with_own_handle])
async def test_what_an_application_puts_in_the_way_of_requests_sees_all(
    serve: Serve, answered: list[str], make: Callable[[list[str]], web.Application]
) -> None:
    seen: list[str] = []
    served = await serve(Echo, app=make(seen))
    wire = await served.wire()
    paths = [f"{served.prefix}/000/abc/xhr{send}" for send in ("", *["_send", ""] * 3)]
    for path in paths:
        body = b'["a"]' if "send" in path else b""
        assert (await wire.request("POST", path, body)).status == (204 if body else 200)
    wire.close()
    assert (answered, seen) == ([], paths)


async def test_resources_that_cannot_match_do_not(serve: Serve, answered: list[str]) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="a page")

    app = web.Application()
    for path in ("/{tail:.*}", "/echo/status", "/other/{a}/{b}/xhr"):
        app.router.add_get(path, page)
    assert await answers(serve, answered, app=app)


async def test_middleware_sees_the_opening_and_few_others_if_the_setting_is_true(
    serve: Serve, answered: list[str]
) -> None:
    app = guarded()
    served = await serve(Echo, settings={"direct_requests": True}, app=app)
    wire = await served.wire()
    await ask(wire, "xhr")
    for _ in range(10):
        assert (await ask(wire, "xhr_send", '["a"]')).status == 204
        assert (await ask(wire, "xhr")).status == 200
    assert app[SEEN] == ["xhr", "xhr_send"]
    assert len(answered) == 19


async def test_small_limits_of_aiohttp_keep_the_lane_away(
    serve: Serve, answered: list[str]
) -> None:
    assert not await answers(serve, answered, max_line_size=500)


@pytest.mark.parametrize("origins", [["https://a.example"], ["https://*.example"]])
async def test_origins_are_checked(serve: Serve, answered: list[str], origins: list[str]) -> None:
    served = await serve(Echo, settings={"direct_requests": None, "origins": origins})
    wire = await served.wire()
    for origin, status in [
        ("https://a.example", 200),
        ("https://a.example", 204),
        ("https://a.example", 204),
        ("https://evil.test", 403),
        ("https://a.example", 204),
        ("https://*.example", 403),
    ]:
        transport = "xhr_send" if status != 200 else "xhr"
        assert (await ask(wire, transport, "[]", Origin=origin)).status == status
    assert answered == ["xhr_send"] * 2


async def test_disabled_transport_is_not_answered(serve: Serve, answered: list[str]) -> None:
    settings = {"direct_requests": None, "disabled_transports": ["xhr_streaming"]}
    wire = await begin(await serve(Echo, settings=settings), answered)
    assert (await ask(wire, "xhr_streaming")).status == 404
    assert answered == []


# Order.


async def test_requests_behind_a_poll_wait_for_its_answer(
    serve: Serve, answered: list[str]
) -> None:
    served = await serve(Echo, settings={"direct_requests": None})
    wire = await begin(served, answered)
    wire.send("POST", f"{PATH}/xhr", b"")
    await until(lambda: answered == ["xhr"])
    wire.send("POST", f"{PATH}/xhr_send", b'["second"]')
    wire.send("GET", "/echo/info")
    wire.send("POST", f"{PATH}/xhr", b"")
    assert await served.post("/000/abc", '["first"]') == 204
    assert (await wire.reply()).body == b'a["first"]\n'
    assert (await wire.reply()).status == 204
    assert (await wire.reply()).header("Content-Type") == "application/json; charset=UTF-8"
    assert (await wire.reply()).body == b'a["second"]\n'


@pytest.mark.slow
async def test_much_behind_a_poll_stays_in_the_socket(serve: Serve, answered: list[str]) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings={"direct_requests": None})
    wire = await begin(served, answered)
    wire.send("POST", f"{PATH}/xhr", b"")
    await until(lambda: answered == ["xhr"])
    messages = [f"{number:0100000}" for number in range(200)]
    for message in messages:
        wire.send("POST", f"{PATH}/xhr_send", f'["{message}"]')
    await asyncio.sleep(0.1)
    assert wire.unsent > 0
    assert Noted.seen == ["open"]
    Noted.connections[0].send("first")
    assert (await wire.reply()).body == b'a["first"]\n'
    for _ in messages:
        assert (await wire.reply()).status == 204
    await Noted.until(messages[-1])
    assert Noted.seen == ["open", *messages]


async def test_what_aiohttp_leaves_in_the_socket_stays_there(
    serve: Serve, answered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise aiohttp would have to keep whatever comes behind requests that take long."""
    may_end = asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        await may_end.wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/slow", slow)
    served = await serve(Echo, settings={"direct_requests": None}, app=app)
    wire = await begin(served, answered)
    wire.send("POST", f"{PATH}/xhr", b"")
    await until(lambda: answered == ["xhr"])
    (connection,) = connections(served)
    transport = cast(Any, connection.transport)
    lane = transport.get_protocol()
    request = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n%b\r\n"
    wire.writer.write(40 * (request % b""))  # more than aiohttp takes before it stops reading
    await until(lambda: lane.has_more)
    wire.writer.write(100 * (request % (b"X-Long: %b\r\n" % (4000 * b"x"))))
    await until(lambda: lane._is_paused)
    # so that the first part is passed on in one turn of the loop, and the rest in another one
    monkeypatch.setattr("sockjs_aio.turns.TURN", 2e-5)
    assert await served.post("/000/abc", '["now"]') == 204
    assert (await wire.reply()).body == b'a["now"]\n'
    await until(lambda: not lane.has_more)
    assert not transport.is_reading()
    may_end.set()
    for _ in range(140):
        assert (await wire.reply()).status == 200
    assert (await ask(wire, "xhr_send", "[]")).status == 204


@pytest.mark.parametrize("is_pipelined", [False, True])
async def test_websocket_may_follow_on_the_connection(
    serve: Serve, answered: list[str], is_pipelined: bool
) -> None:
    served = await serve(Echo, settings={"direct_requests": None})
    wire = await begin(served, answered)
    wire.send("POST", f"{PATH}/xhr", b"")
    await until(lambda: answered == ["xhr"])
    if is_pipelined:
        wire.send("GET", "/echo/000/socket/websocket", headers=HANDSHAKE)
    assert await served.post("/000/abc", '["first"]') == 204
    assert (await wire.reply()).body == b'a["first"]\n'
    if not is_pipelined:
        wire.send("GET", "/echo/000/socket/websocket", headers=HANDSHAKE)
    assert (await wire.head()).status == 101
    assert await frame(wire) == (1, b"o")
    for number in range(3):
        wire.writer.write(masked(1, b'["%d"]' % number))
        assert await frame(wire) == (1, b'a["%d"]' % number)
    wire.writer.write(close_frame(1000))
    assert await close_code(wire) == 1000


# Ends.


@pytest.mark.parametrize("transport", ["xhr", "xhr_streaming"])
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_client_that_leaves_is_noticed(
    serve: Serve, answered: list[str], transport: str, how: str
) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings={"direct_requests": None})
    wire = await begin(served, answered)
    wire.send("POST", f"{PATH}/{transport}", b"")
    await until(lambda: answered == [transport])
    getattr(wire, how)()
    await Noted.until("close")
    info = Noted.connections[0].close_info
    assert info is not None and info.code == 1006


@pytest.mark.parametrize("transport", ["xhr", "xhr_streaming"])
async def test_client_that_leaves_behind_other_requests_is_noticed(
    serve: Serve, answered: list[str], transport: str
) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted, settings={"direct_requests": None})
    wire = await begin(served, answered)
    wire.send("POST", f"{PATH}/{transport}", b"")
    await until(lambda: answered == [transport])
    wire.send("POST", f"{PATH}/xhr_send", b'["never"]')
    wire.close()
    await Noted.until("close")
    assert "never" not in Noted.seen


@pytest.mark.parametrize("transport", ["xhr", "xhr_streaming"])
@pytest.mark.parametrize("is_behind_send", [False, True])
async def test_request_that_is_held_when_its_client_leaves_is_dropped(
    serve: Serve, answered: list[str], transport: str, is_behind_send: bool
) -> None:
    """aiohttp would begin it in the turn in which it hears of the loss, and log a traceback.

    The answer to a held xhr_send may be the first thing that shows that the client has left.
    """

    class Noted(Recorder):
        pass

    settings = {**SHORT, "heartbeat_delay": 60, "direct_requests": None, "response_limit": 1}
    served = await serve(Noted, settings=settings)
    for turns in range(10):
        wire, path = await served.wire(), f"/echo/000/{turns}"
        for name in ["xhr", "xhr_send", "xhr_send"]:
            await wire.request("POST", f"{path}/{name}", "[]")
        answered.clear()
        wire.send("POST", f"{path}/{transport}", b"")
        await until(lambda: answered == [transport])
        (connection,) = connections(served)
        lane = cast(Any, connection.transport).get_protocol()
        if is_behind_send:
            wire.send("POST", f"{path}/xhr_send", "[]")
            await until(lambda lane=lane: lane.has_more)  # type: ignore[misc]
        held = len(lane._held or ())
        wire.send("GET", "/echo/info")
        await until(lambda lane=lane, held=held: len(lane._held or ()) > held)  # type: ignore[misc]
        wire.abort()
        for _ in range(turns):
            await asyncio.sleep(0)
        Noted.connections[-1].send("a")
        await until(lambda: not connections(served))
        await served.until_empty()
    assert Noted.seen == ["open", "close"] * 10


@pytest.mark.programs
async def test_request_whose_client_leaves_before_its_body_leaves_nothing_in_the_log(
    serve: Serve, answered: list[str], tmp_path: Path
) -> None:
    """Over TLS, a write that fails tells nothing: then aiohttp begins a request just before it
    hears of the loss."""

    class Noted(Recorder):
        pass

    settings = {**SHORT, "heartbeat_delay": 60, "direct_requests": None}
    served = await serve(Noted, settings=settings, tls=contexts(make_certificate(tmp_path)))
    for turns in range(40):
        wire, path = await served.wire(), f"/echo/000/{turns}"
        for name in ["xhr", "xhr_send", "xhr_send"]:
            await wire.request("POST", f"{path}/{name}", "[]")
        answered.clear()
        wire.send("POST", f"{path}/xhr", b"")
        await until(lambda: answered == ["xhr"])
        (connection,) = connections(served)
        lane = cast(Any, connection.transport).get_protocol()
        wire.send("POST", f"{path}/xhr_send", headers={"Content-Length": "90000"})
        await until(lambda lane=lane: lane.has_more)  # type: ignore[misc]
        end_sending(wire.writer.transport) if turns % 2 else wire.abort()
        for _ in range(turns // 4):
            await asyncio.sleep(0)
        Noted.connections[-1].send("a")
        await asyncio.sleep(0.002)
        wire.abort()
        await until(lambda: not connections(served))
        await served.until_empty()


@pytest.mark.parametrize("transport", ["xhr", "xhr_streaming"])
async def test_second_receiver_is_told_2010(
    serve: Serve, answered: list[str], transport: str
) -> None:
    served = await serve(Echo, settings={"direct_requests": None})
    first, second = await begin(served, answered), await begin(served, answered)
    first.send("POST", f"{PATH}/xhr", b"")
    await until(lambda: answered == ["xhr"])
    reply = await ask(second, transport)
    assert reply.body.endswith(b'c[2010,"Another connection still open"]\n')
    assert (await ask(second, "xhr_send", '["still there"]')).status == 204
    assert (await first.reply()).body == b'a["still there"]\n'


@pytest.mark.parametrize("transport", ["xhr", "xhr_streaming"])
@pytest.mark.parametrize("cancels", [False, True])
async def test_shutdown_tells_who_waits(
    serve: Serve, answered: list[str], transport: str, cancels: bool
) -> None:
    served = await serve(Echo, settings={"direct_requests": None}, handler_cancellation=cancels)
    wire = await begin(served, answered)
    wire.send("POST", f"{PATH}/{transport}", b"")
    await until(lambda: answered == [transport])
    async with async_timeout.timeout(PATIENCE):
        await served.runner.cleanup()
    assert (await wire.reply()).body.endswith(b'c[1012,"Service restart"]\n')
    assert await wire.is_closed()


@pytest.mark.virtual_time
async def test_drain_tells_who_waits_and_serves_on(serve: Serve, answered: list[str]) -> None:
    served = await serve(Echo, settings={"direct_requests": None, "disconnect_delay": 0.3})
    wire = await begin(served, answered)
    wire.send("POST", f"{PATH}/xhr", b"")
    await until(lambda: answered == ["xhr"])
    draining = asyncio.ensure_future(served.router.drain())
    for _ in range(2):
        assert (await wire.reply()).body == b'c[1012,"Service restart"]\n'
        wire.send("POST", f"{PATH}/xhr", b"")
    assert (await wire.reply()).body == b'c[1012,"Service restart"]\n'
    await draining


@pytest.mark.virtual_time
async def test_keep_alive_time_does_not_count_while_a_poll_waits(
    serve: Serve, answered: list[str]
) -> None:
    served = await serve(Echo, settings={"direct_requests": None}, keepalive_timeout=0.2)
    wire = await begin(served, answered)
    wire.send("POST", f"{PATH}/xhr", b"")
    await until(lambda: answered == ["xhr"])
    await asyncio.sleep(0.5)
    assert await served.post("/000/abc", '["late"]') == 204
    assert (await wire.reply()).body == b'a["late"]\n'
    async with async_timeout.timeout(PATIENCE):
        assert await wire.is_closed()


@pytest.mark.skipif(sys.platform != "linux", reason="the option is Linux's")
@pytest.mark.parametrize("transport", ["xhr", "xhr_streaming"])
async def test_kernel_keeps_no_limit_for_other_requests_of_the_connection(
    serve: Serve, answered: list[str], transport: str
) -> None:
    settings = {"direct_requests": None, "heartbeat_delay": 20, "response_limit": 1}
    served = await serve(Echo, settings=settings)
    wire = await begin(served, answered)

    def limit() -> object:
        transport = connections(served)[0].transport
        assert transport is not None
        its_socket = transport.get_extra_info("socket")
        return its_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)

    for _ in range(2):
        assert (await ask(wire, "xhr_send", '["a"]')).status == 204
        assert (await ask(wire, transport)).body.endswith(b'a["a"]\n')
    assert answered == ["xhr_send", transport] * 2
    assert limit() == 60_000
    assert (await wire.request("GET", "/echo/")).status == 200
    assert limit() == 0


# Clients that do not read.


async def narrow(served: Served, answered: list[str]) -> Wire:
    """Make a connection on which little can be on its way, to a client that does not read."""
    sock = socket.create_connection(("127.0.0.1", served.port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    wire = await served.wire(sock=sock)
    await until(lambda: len(connections(served)) == 1)
    for connection in connections(served):
        assert connection.transport is not None
        its_socket = connection.transport.get_extra_info("socket")
        its_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    await ask(wire, "xhr")
    for _ in range(2):
        await ask(wire, "xhr_send", "[]")
    answered.clear()
    wire.stop_reading()
    return wire


def connections(served: Served) -> list[RequestHandler]:
    assert served.runner.server is not None
    return served.runner.server.connections


def go_on_reading(wire: Wire) -> None:
    cast(asyncio.Transport, wire.writer.transport).resume_reading()


async def test_response_that_is_not_read_keeps_the_session(
    serve: Serve, answered: list[str]
) -> None:
    class Flood(SockJSConnection):
        async def on_message(self, message: str | bytes) -> None:
            self.send("x" * 3_000_000)

    served = await serve(Flood, settings={"direct_requests": None})
    wire = await narrow(served, answered)
    wire.send("POST", f"{PATH}/xhr", b"")
    await until(lambda: answered == ["xhr"])
    assert await served.post("/000/abc", '["go"]') == 204
    session = served.router._registry.get("abc")
    assert session is not None
    await until(lambda: session._liveness.is_delivering)
    wire.send("POST", f"{PATH}/xhr_send", b"[]")
    await asyncio.sleep(0.1)
    assert answered == ["xhr"]
    assert served.router.session_count == 1
    go_on_reading(wire)
    assert len((await wire.reply()).body) > 3_000_000
    assert (await wire.reply()).status == 204
    assert not session._liveness.is_delivering


async def test_response_that_is_not_read_is_cut_by_a_shutdown(
    serve: Serve, answered: list[str]
) -> None:
    class Flood(SockJSConnection):
        async def on_message(self, message: str | bytes) -> None:
            self.send("x" * 3_000_000)

    served = await serve(Flood, settings={"direct_requests": None, "shutdown_timeout": 0.1})
    wire = await narrow(served, answered)
    wire.send("POST", f"{PATH}/xhr", b"")
    await until(lambda: answered == ["xhr"])
    assert await served.post("/000/abc", '["go"]') == 204
    session = served.router._registry.get("abc")
    assert session is not None
    await until(lambda: session._liveness.is_delivering)
    async with async_timeout.timeout(PATIENCE):
        await served.runner.cleanup()
    assert not session._liveness.is_delivering


async def test_stream_that_is_not_read_says_how_it_ended(serve: Serve, answered: list[str]) -> None:
    class Flood(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            for _ in range(160):
                self.send("x" * 65536)

    limits = {"send_queue_limit": 1 << 26, "response_limit": 1 << 26}
    options = {"direct_requests": None, "heartbeat_delay": 0.5, "session_check_interval": 0.1}
    served = await serve(Flood, settings=options | limits)
    wire = await narrow(served, answered)
    wire.send("POST", f"{PATH}/xhr_streaming", b"")
    await until(lambda: answered == ["xhr_streaming"])
    assert await served.post("/000/abc", '["go"]') == 204
    await Flood.until("close")
    info = Flood.connections[0].close_info
    assert info is not None
    assert (info.code, info.reason, info.initiator) == (1006, "Client takes nothing", "timeout")


@pytest.mark.slow
async def test_client_that_does_not_read_answers_to_sends_is_not_read(
    serve: Serve, answered: list[str]
) -> None:
    served = await serve(Echo, settings={"direct_requests": None})
    wire = await narrow(served, answered)
    for count in range(1, 3000):
        wire.send("POST", f"{PATH}/xhr_send", b"[]")
        await wire.writer.drain()
        with contextlib.suppress(asyncio.TimeoutError):
            async with async_timeout.timeout(1):
                while len(answered) < count:
                    await asyncio.sleep(0)
        if len(answered) < count:
            break
    assert 100 < len(answered) < 2999
    wire.send("POST", f"{PATH}/xhr_send", b'["more"]')
    count = len(answered)
    go_on_reading(wire)
    for _ in range(count + 2):
        assert (await wire.reply()).status == 204


def test_setting_is_checked() -> None:
    with pytest.raises(ValueError, match="must be True, False or None"):
        SockJSRouter(Echo, "/echo", {"direct_requests": "yes"})


async def test_service_below_a_variable_path_is_known_at_some_prefixes_only(serve: Serve) -> None:
    app = web.Application()
    router = SockJSRouter(Echo, "/chat")
    app.add_routes(
        web.route("*", "/{tenant}" + route.path, route.handler) for route in router.routes
    )
    other = SockJSRouter(Echo, "/other")
    other.attach(app)
    served = await serve(app=app)
    for count in range(MAX_PREFIXES + 10):
        wire = await served.wire()
        path = f"/{count}/chat/0"
        for _ in range(2):
            assert (await wire.request("POST", f"{path}/p{count}/xhr")).status == 200
            assert (await wire.request("POST", f"{path}/p{count}/xhr_send", '["a"]')).status == 204
        wire.send("GET", f"{path}/w{count}/websocket", headers=HANDSHAKE)
        assert (await wire.head()).status == 101
        wire.close()
    (known,) = router._service.direct.values()
    server = served.runner.server
    assert isinstance(server, Server) and isinstance(server.greeter, Doors)
    assert len(known or ()) == len(server.greeter._sessions) == MAX_PREFIXES
    wire = await served.wire()
    wire.send("GET", "/other/0/w/websocket", headers=HANDSHAKE)
    assert (await wire.head()).status == 101
    assert "/other" in server.greeter._sessions, "no other service lacks room"
    wire.close()
    await router.shutdown()
