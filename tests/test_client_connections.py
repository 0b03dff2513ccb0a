"""What a connection is used for besides our requests: by the application, or by other clients."""

import asyncio
import contextlib
import functools
import signal
import socket
from typing import Any

import async_timeout
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio import SockJSRouter
from tests import clients
from tests.conftest import SHORT, Echo, Recorder, Serve, Served
from tests.test_run_app import Run
from tests.test_run_app import server as server
from tests.wire import Wire

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
http = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
streams = pytest.mark.parametrize("kind", clients.STREAMS, ids=lambda kind: kind.name)
Kind = type[clients.Client]

RARELY = {"session_check_interval": 60, "heartbeat_delay": 60, "disconnect_delay": 60}
"""Settings with which nothing is noticed by looking now and then."""


@pytest.mark.virtual_time
@every
@pytest.mark.parametrize("cancellation", [True, False])
@pytest.mark.parametrize("way", ["leave", "abort"])
async def test_lost_client_is_noticed_at_once_whatever_aiohttp_cancels(
    serve: Serve, kind: Kind, cancellation: bool, way: str
) -> None:
    class Left(Recorder):
        pass

    served = await serve(Left, settings=RARELY, handler_cancellation=cancellation)
    client = await kind.open(served)
    await Left.until("open")
    await asyncio.sleep(0.05)  # the next poll has come
    if way == "leave":
        await client.leave()
    else:
        client.abort()
    await Left.until("close")


@every
async def test_hook_sees_at_once_that_its_client_has_gone(serve: Serve, kind: Kind) -> None:
    class Watching(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.seen.append(message)
            while not self.is_closed:
                await asyncio.sleep(0.001)
            self.seen.append("told")

    served = await serve(Watching, settings=RARELY)
    client = await kind.open(served)
    await client.send("a")
    await Watching.until("a")
    client.abort()
    await Watching.until("close")
    assert Watching.seen == ["open", "a", "told", "close"]


async def test_run_app_lets_the_applications_handlers_finish(server: Run) -> None:
    served = await server()
    wire = await Wire.connect(served.port)
    wire.send("POST", "/pay", b"")
    await served.until("/paid", 404)
    wire.abort()
    await served.until("/paid", 200)
    served.process.send_signal(signal.SIGTERM)
    assert await served.ended() == 0


# What is set on a connection is taken back.


@contextlib.asynccontextmanager
async def shared(serve: Serve, kind: Kind, **settings: Any) -> Any:
    """Serve /options, which tells what is set on the connection of its request, and /large."""

    async def options(request: web.Request) -> web.Response:
        assert request.transport is not None
        sock: socket.socket = request.transport.get_extra_info("socket")
        seconds = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        return web.json_response([seconds, request.transport.get_write_buffer_limits()[1]])

    async def large(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 30_000_000)

    app = web.Application()
    app.router.add_get("/options", options)
    app.router.add_get("/large", large)
    served = await serve(Echo, settings=settings, app=app)
    client = kind(served, {})
    yield served, client


async def ended_response(client: clients.Client, served: Served) -> Wire:
    """Have a response of the client's transport end; return its connection, which stays open."""
    await client.connect()
    wire: Wire = client.wire  # type: ignore[attr-defined]
    if isinstance(client, clients.Xhr):
        assert (await wire.reply()).status == 200
    else:
        assert await client.frame() == b"o"
        await client.send("x" * 1000)
        while await client.frame():
            pass
    return wire


@http
async def test_what_is_set_for_a_response_does_not_outlive_it(serve: Serve, kind: Kind) -> None:
    async with shared(serve, kind, send_queue_limit=4000, response_limit=500) as (served, client):
        fresh = await (await served.wire()).request("GET", "/options")
        wire = await ended_response(client, served)
        assert (await wire.request("GET", "/options")).body == fresh.body


@http
async def test_session_does_not_live_by_other_downloads_on_its_connection(
    serve: Serve, kind: Kind
) -> None:
    async with shared(serve, kind, response_limit=500, **SHORT) as (served, client):
        wire = await ended_response(client, served)
        wire.stop_reading()
        wire.send("GET", "/large")
        await served.until_empty()
        wire.abort()


@http
async def test_what_is_set_for_a_response_does_not_reach_a_request_that_came_along(
    serve: Serve, kind: Kind
) -> None:
    """A download that pauses would be reset."""
    async with shared(serve, kind, send_queue_limit=4000, response_limit=1) as (served, client):
        fresh = await (await served.wire()).request("GET", "/options")
        method, url = client._request()
        wire = await served.wire()
        wire.send(method, served.prefix + client.path + url, b"" if method == "POST" else None)
        wire.send("GET", "/options")
        assert (await wire.reply()).status == 200
        assert (await wire.reply()).body == fresh.body


@http
async def test_session_does_not_live_by_a_download_that_was_asked_for_along_with_a_poll(
    serve: Serve, kind: Kind
) -> None:
    async with shared(serve, kind, response_limit=1, **SHORT) as (served, client):
        method, url = client._request()
        wire = await served.wire(limit=50_000)
        wire.send(method, served.prefix + client.path + url, b"" if method == "POST" else None)
        wire.send("GET", "/large")
        assert (await wire.reply()).status == 200
        taken: list[int] = []
        reading = asyncio.ensure_future(slowly(wire, taken))
        await served.until_empty()
        assert sum(taken) < 15_000_000, "it lives until all has been taken"
        reading.cancel()
        wire.abort()


async def slowly(wire: Wire, taken: list[int]) -> None:
    """Take something of what comes again and again."""
    while data := await wire.reader.read(100_000):
        taken.append(len(data))
        await asyncio.sleep(0.01)


@streams
async def test_nothing_is_set_for_a_stream_that_is_refused(serve: Serve, kind: Kind) -> None:
    async with shared(serve, kind, send_queue_limit=4000) as (served, client):
        fresh = await (await served.wire()).request("GET", "/options")
        await client.connect()
        assert await client.frame() == b"o"
        method, url = client._request()
        wire = await served.wire()
        path = served.prefix + client.path + url
        refused = await wire.request(method, path, b"" if method == "POST" else None)
        assert b"Another connection still open" in refused.body
        assert (await wire.request("GET", "/options")).body == fresh.body
        client.abort()


@pytest.mark.parametrize("kind", clients.POLLS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("what", ["copies", "hides"])
async def test_connection_is_not_cut_for_a_response_that_a_decorator_replaced(
    serve: Serve, kind: Kind, what: str
) -> None:
    is_on = True

    def replace(handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def wrapper(request: web.Request) -> web.StreamResponse:
            response = await handler(request)
            if not is_on or not isinstance(response, web.Response):
                return response
            if what == "hides":
                return web.Response(status=500, text="Sorry.")
            return web.Response(body=response.body, headers=response.headers)

        return wrapper

    app = web.Application()
    for route in SockJSRouter(Echo, "/decorated").routes:
        app.router.add_route(route.method, route.path, replace(route.handler), **route.kwargs)
    served = await serve(prefix="/other", app=app)
    served.prefix = "/decorated"
    client = kind(served, {})
    method, url = client._request()  # type: ignore[attr-defined]
    path = served.prefix + client.path + url
    wire = await served.wire()
    reply = await wire.request(method, path, b"")
    assert reply.status == (200 if what == "copies" else 500)
    is_on = False
    if what == "copies":
        await client.send("a")
    body = (await served.request(method, client.path + url, b"")).body
    expected = b'["a"]' if what == "copies" else b"Connection interrupted"
    assert expected in body.replace(b"\\", b"")
    assert (await wire.request("GET", "/other/info")).status == 200


@pytest.mark.parametrize("kind", clients.POLLS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("what", ["copies", "hides", "fails"])
@pytest.mark.logs()
async def test_connection_is_not_cut_for_a_response_that_a_middleware_replaced(
    serve: Serve, kind: Kind, what: str, request: pytest.FixtureRequest
) -> None:
    """By then another client may use it, behind a proxy."""
    gate = asyncio.Event()
    is_on = True

    @web.middleware
    async def replace(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if not is_on or not request.path.startswith("/echo"):
            return response
        if what == "fails":
            raise ZeroDivisionError("mistake")
        if what == "hides":
            return web.Response(status=500, text="Sorry.")
        assert isinstance(response, web.Response)
        return web.Response(body=response.body, headers=response.headers)

    async def of_another_client(request: web.Request) -> web.Response:
        await gate.wait()
        return web.Response(text="another's")

    if what == "fails":
        request.applymarker(pytest.mark.logs("ZeroDivisionError"))
    app = web.Application(middlewares=[replace])
    app.router.add_get("/another", of_another_client)
    served = await serve(Echo, app=app)
    client = kind(served, {})
    method, url = client._request()  # type: ignore[attr-defined]
    wire = await served.wire()
    reply = await wire.request(method, served.prefix + client.path + url, b"")
    assert reply.status == (200 if what == "copies" else 500)
    if what != "fails":  # after which aiohttp closes the connection
        wire.send("GET", "/another")
    await asyncio.sleep(0.02)
    is_on = False
    if what == "copies":
        await client.send("a")
        expected = b'["a"]'
    else:
        expected = b"Connection interrupted"
    body = (await served.request(method, client.path + url, b"")).body
    assert expected in body.replace(b"\\", b"")
    gate.set()
    if what == "fails":
        return
    async with async_timeout.timeout(5):
        assert (await wire.reply()).body == b"another's"


@every
@pytest.mark.parametrize("cancellation", [True, False])
async def test_sessions_whose_responses_are_replaced_do_not_hold_up_the_end(
    serve: Serve, kind: Kind, cancellation: bool
) -> None:
    @web.middleware
    async def replace(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if isinstance(response, web.Response):
            return web.Response(body=response.body, headers=response.headers)
        return response

    app = web.Application(middlewares=[replace])
    served = await serve(Echo, app=app, handler_cancellation=cancellation)
    client = await kind.open(served)
    await client.send("a")
    assert await client.messages(1) == ["a"]
    async with async_timeout.timeout(5):
        ending = asyncio.ensure_future(served.router.shutdown())
        assert await client.frame() == b'c[1012,"Service restart"]'
        await client.leave()
        await ending


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has that")
async def test_websocket_that_came_along_with_a_poll_keeps_its_options(serve: Serve) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    wire = await served.wire()
    wire.writer.write(
        b"POST /echo/0/polls/xhr HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        b"GET /echo/0/other/websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    await Noted.until("open", 2)
    await asyncio.sleep(0.05)
    (connection,) = served.http_connections()
    sock = connection.transport.get_extra_info("socket")
    before = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert before > 0
    wire.writer.write(b"\x81\x85\0\0\0\0" + b'["a"]')
    await Noted.until("a")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == before
    wire.close()
