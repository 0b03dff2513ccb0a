"""Mounting, and who may come in."""

import asyncio
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from sockjs_aio import SockJSConnection, SockJSRouter
from sockjs_aio.protocol.transports import TRANSPORTS
from tests import clients
from tests.axes import Axes
from tests.conftest import Echo, Recorder, Serve
from tests.openers import REQUESTS, ask, openers

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
http = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
Kind = type[clients.Client]


# Mounting.


@every
@pytest.mark.parametrize("prefix", ["", "/", "/a/b/c", "/a/"])
async def test_prefixes_of_any_depth(serve: Serve, kind: Kind, prefix: str) -> None:
    served = await serve(Echo, prefix)
    client = await kind.open(served)
    await client.send("a")
    assert await client.messages(1) == ["a"]
    await client.leave()
    assert (await served.request("GET", "/")).status == 200


async def test_empty_prefix_leaves_other_routes_alone(serve: Serve) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="page")

    app = web.Application()
    app.router.add_get("/static/{name}", page)
    app.router.add_get("/about", page)
    served = await serve(Echo, "", app=app)
    assert (await served.request("GET", "/static/x")).body == b"page"
    assert (await served.request("GET", "/about")).body == b"page"
    assert (await served.request("GET", "/info")).status == 200
    assert await served.poll("/0/1") == b"o"


@every
async def test_sub_application(serve: Serve, kind: Kind, axes: Axes) -> None:
    class Noted(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send(f"{self.info.app[name]} {self.info.path}")

    served = await serve(Echo, "/main")
    sub = web.Application()
    name = web.AppKey("name", str)
    sub[name] = "sub"
    router = SockJSRouter(Noted, "/inner")
    router.attach(sub)
    outer = web.Application()
    axes.add_middlewares(outer)
    outer.add_subapp("/api", sub)
    runner = web.AppRunner(outer)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=axes.server_tls)
    await site.start()
    served.port = runner.addresses[0][1]
    served.prefix = "/api/inner"
    client = await kind.open(served)
    await client.send("a")
    (answer,) = await client.messages(1)
    assert answer.startswith("sub /api/inner")
    await runner.cleanup()  # the sub-application's sessions end with the outer application
    await Noted.until("close")
    assert router.session_count == 0
    await client.leave()


async def test_several_routers_keep_to_themselves(serve: Serve) -> None:
    class Other(Recorder):
        pass

    app = web.Application()
    SockJSRouter(Other, "/other").attach(app)
    served = await serve(Echo, app=app)
    assert await served.poll("/0/1") == b"o"
    served.prefix = "/other"
    assert await served.post("/0/1", '["a"]') == 404
    assert await served.poll("/0/1") == b"o"
    await Other.until("open")


async def test_routes_alone_serve_too(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    router = SockJSRouter(Noted, "/bare", {"disconnect_delay": 0.1, "session_check_interval": 0.02})
    app = web.Application()
    app.add_routes(router.routes)
    served = await serve(Echo, app=app)
    served.prefix = "/bare"
    assert await served.poll("/0/1") == b"o"
    await Noted.until("close")


async def test_middlewares_see_every_request(serve: Serve) -> None:
    seen = []

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        seen.append(request.path)
        response: web.StreamResponse = await handler(request)
        if not response.prepared:
            response.headers["X-Noted"] = "yes"
        return response

    served = await serve(Echo, app=web.Application(middlewares=[note]))
    for kind in clients.ALL:
        client = await kind.open(served)
        await client.leave()
    reply = await served.request("POST", "/0/last/xhr", b"")
    assert reply.header("X-Noted") == "yes"
    for kind in clients.ALL:
        name = kind.name.replace("raw", "")
        assert any(path.endswith(f"/{name}") for path in seen)


async def test_connection_may_be_any_callable(serve: Serve) -> None:
    class Greeter(SockJSConnection):
        def __init__(self, session: Any, greeting: str) -> None:
            super().__init__(session)
            self.greeting = greeting

        async def on_open(self, info: Any) -> None:
            self.send(self.greeting)

    served = await serve(lambda session: Greeter(session, "hello"))
    client = await clients.WebSocket.open(served)
    assert await client.messages(1) == ["hello"]
    await client.leave()


@pytest.mark.logs("ZeroDivisionError: mistake")
async def test_connection_that_cannot_be_made_leaves_no_session(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(session: Any) -> Any:
        raise ZeroDivisionError("mistake")

    served = await serve(fail)
    for method, path in REQUESTS:
        assert (await ask(served, method, path)).status == 500
    assert served.router.session_count == 0
    assert caplog.text.count("ZeroDivisionError: mistake") == len(REQUESTS)


# Who may come in.


@openers
@pytest.mark.parametrize("error", [web.HTTPUnauthorized, web.HTTPForbidden])
async def test_authorize_refuses_with_its_status(
    serve: Serve, method: str, path: str, error: type[web.HTTPException]
) -> None:
    class Noted(Recorder):
        pass

    async def authorize(request: web.Request) -> bool:
        if request.query.get("token") != "secret":
            raise error
        return True

    served = await serve(Noted, authorize=authorize)
    assert (await ask(served, method, path)).status == error.status_code
    assert served.router.session_count == 0
    joint = "&" if "?" in path else "?"
    if "websocket" not in path:
        assert (await ask(served, method, f"{path}{joint}token=secret")).status == 200
        await Noted.until("open")
    else:
        async with served.websocket(f"{path}?token=secret"):
            await Noted.until("open")


@openers
@pytest.mark.logs("ConnectionRefusedError: no database")
async def test_authorize_that_reaches_nobody_is_an_error(
    serve: Serve, method: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def authorize(request: web.Request) -> None:
        raise ConnectionRefusedError("no database")

    served = await serve(authorize=authorize)
    assert (await ask(served, method, path)).status == 500
    assert served.router.session_count == 0
    assert caplog.text.count("ConnectionRefusedError: no database") == 1


async def test_authorize_runs_once_for_each_session(serve: Serve) -> None:
    calls = []

    async def authorize(request: web.Request) -> bool:
        calls.append(request.path)
        await asyncio.sleep(0.01)
        return True

    served = await serve(Echo, authorize=authorize)
    polls = [asyncio.ensure_future(served.poll("/0/1")) for _ in range(2)]
    done, waiting = await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
    assert [poll.result() for poll in done] == [b"o"]
    assert served.router.session_count == 1
    before = len(calls)
    await served.post("/0/1", '["a"]')
    assert [await poll for poll in waiting] == [b'a["a"]']
    assert len(calls) == before


async def test_verify_ip_pins_a_session_to_its_address(serve: Serve) -> None:
    from aiohttp_remotes import XForwardedRelaxed
    from aiohttp_remotes import setup as setup_remotes

    class Noted(Recorder):
        pass

    app = web.Application()
    await setup_remotes(app, XForwardedRelaxed())
    served = await serve(Noted, app=app, settings={"verify_ip": True})
    ann, bob = {"X-Forwarded-For": "10.0.0.1"}, {"X-Forwarded-For": "10.0.0.2"}
    assert await served.poll("/0/1", headers=ann) == b"o"
    await Noted.until("open")
    assert Noted.connections[0].info.ip == "10.0.0.1"
    assert await served.post("/0/1", '["a"]', headers=bob) == 403
    for method, path in REQUESTS[:5]:
        assert (await ask(served, method, path, **bob)).status == 403
    assert await served.post("/0/1", '["a"]', headers=ann) == 204
    await Noted.until("a")


async def test_address_is_not_pinned_by_default(serve: Serve) -> None:
    served = await serve(Echo)
    assert await served.poll("/0/1") == b"o"
    wire = await served.wire(local_addr=("127.0.0.2", 0))
    assert (await wire.request("POST", "/echo/0/1/xhr_send", '["a"]')).status == 204
    wire.close()


# The cookie for load balancers.


@http
@pytest.mark.parametrize(
    ("cookie", "value"),
    [
        (None, "dummy"),
        ("JSESSIONID=abc", "abc"),
        ("a=b; JSESSIONID=node1.x-Y_z!; c=d", "node1.x-Y_z!"),
        ("XJSESSIONID=abc", "dummy"),
        ("JSESSIONID=", "dummy"),
        ('JSESSIONID="a\\015\\012b"', "dummy"),
        ("JSESSIONID=a b", "dummy"),
        ("JSESSIONID=a,b", "dummy"),
        ("JSESSIONID=\u00e4", "dummy"),
    ],
)
async def test_cookie_is_echoed_if_it_is_plain(
    serve: Serve, kind: Kind, cookie: str | None, value: str
) -> None:
    served = await serve(Echo, settings={"jsessionid": True})
    headers = {} if cookie is None else {"Cookie": cookie}
    method, path = next(
        (method, path) for method, path in REQUESTS if path.split("?")[0].endswith("/" + kind.name)
    )
    head = await ask(served, method, path, **headers)
    assert head.header("Set-Cookie") == f"JSESSIONID={value}; Path=/"


async def test_cookie_on_sending_requests_and_not_on_the_handshake(serve: Serve) -> None:
    served = await serve(Echo, settings={"jsessionid": True})
    await served.poll("/0/1")
    for url in ("/0/1/xhr_send", "/0/1/jsonp_send"):
        reply = await served.request("POST", url, '["a"]')
        assert reply.header("Set-Cookie") == "JSESSIONID=dummy; Path=/"
    assert (await ask(served, "GET", "/0/1/websocket")).header("Set-Cookie") is None
    assert (await served.request("GET", "/iframe.html")).header("Set-Cookie") is None


@http
@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("SameSite=None; Secure", "Path=/; SameSite=None; Secure"),
        ("Path=/echo; SameSite=Lax", "Path=/echo; SameSite=Lax"),
    ],
)
async def test_cookie_has_the_attributes_of_the_setting(
    serve: Serve, kind: Kind, attributes: str, expected: str
) -> None:
    served = await serve(Echo, settings={"jsessionid": attributes})
    method, path = next(
        (method, path) for method, path in REQUESTS if path.split("?")[0].endswith("/" + kind.name)
    )
    head = await ask(served, method, path, Cookie="JSESSIONID=one")
    assert head.header("Set-Cookie") == f"JSESSIONID=one; {expected}"
    assert b'"cookie_needed": true' in (await served.request("GET", "/info")).body


@http
async def test_cookie_may_be_set_by_the_application(serve: Serve, kind: Kind) -> None:
    def set_cookie(request: web.Request, response: web.StreamResponse) -> None:
        response.set_cookie("JSESSIONID", "node1", secure=True, samesite="None")

    served = await serve(Echo, settings={"jsessionid": set_cookie})
    method, path = next(
        (method, path) for method, path in REQUESTS if path.split("?")[0].endswith("/" + kind.name)
    )
    cookie = (await ask(served, method, path)).header("Set-Cookie")
    assert "JSESSIONID=node1" in cookie and "Secure" in cookie and "SameSite=None" in cookie
    assert b'"cookie_needed": true' in (await served.request("GET", "/info")).body


async def test_no_cookie_by_default(serve: Serve) -> None:
    served = await serve(Echo)
    for method, path in REQUESTS:
        assert (await ask(served, method, path)).header("Set-Cookie") is None


@pytest.mark.parametrize("prefix", ["", "/chat", "/gr\u00fc\u00dfe"])
async def test_each_transport_has_a_route_of_its_own(prefix: str) -> None:
    app = web.Application()
    SockJSRouter(Echo, prefix).attach(app)
    app.freeze()
    for name, row in TRANSPORTS.items():
        if row.has_session_url:
            request = make_mocked_request(row.method, f"{quote(prefix)}/0/jsonp/{name}")
            found = await app.router.resolve(request)
            assert found.route.resource is not None
            assert found.route.resource.canonical.endswith(f"/{{server_id}}/{{session_id}}/{name}")
            assert found.handler.__name__ == f"sockjs_{name}"
