"""Services are known to what runs an application, however their routes were added or wrapped."""

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

import sockjs_aio.tornado
from sockjs_aio import SockJSRouter, aiolibs, readyz
from sockjs_aio.server.drain import Drain
from sockjs_aio.server.service import services_of
from tests import clients
from tests.conftest import Echo, Serve


def wrapped(handler: Handler) -> Handler:
    @functools.wraps(handler)
    async def wrapper(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    return wrapper


def bare(handler: Handler) -> Handler:
    async def wrapper(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    return wrapper


def attach(app: web.Application) -> None:
    SockJSRouter(Echo, "/service").attach(app)


def add_routes(app: web.Application) -> None:
    app.add_routes(SockJSRouter(Echo, "/service").routes)


def decorate(app: web.Application) -> None:
    for route in SockJSRouter(Echo, "/service").routes:
        app.router.add_route(route.method, route.path, wrapped(route.handler), **route.kwargs)


def decorate_twice(app: web.Application) -> None:
    for route in SockJSRouter(Echo, "/service").routes:
        handler = wrapped(functools.partial(wrapped(route.handler)))
        app.router.add_route(route.method, route.path, handler, **route.kwargs)


def mount(app: web.Application) -> None:
    inner = web.Application()
    SockJSRouter(Echo, "").attach(inner)
    app.add_subapp("/service", inner)


class TornadoEcho(sockjs_aio.tornado.SockJSConnection):
    def on_message(self, message: Any) -> None:
        self.send(message)


def adapt_tornado(app: web.Application) -> None:
    app.add_routes(sockjs_aio.tornado.SockJSRouter(TornadoEcho, "/service").urls)


def attach_tornado(app: web.Application) -> None:
    sockjs_aio.tornado.SockJSRouter(TornadoEcho, "/service").attach(app)


def adapt_aiolibs(app: web.Application) -> None:
    async def handle(manager: Any, session: Any, message: Any) -> None:
        if message.type is aiolibs.MsgType.MESSAGE:
            session.send(message.data)

    aiolibs.add_endpoint(app, handle, prefix="/service")


def mount_at_a_domain(app: web.Application) -> None:
    below, inner = web.Application(), web.Application()
    sockjs_aio.tornado.SockJSRouter(TornadoEcho, "").attach(inner)
    below.add_subapp("/service", inner)
    below.router.add_get("/readyz", readyz)  # `app` is not asked for what a domain lacks
    app.add_domain("*", below)


WAYS = [attach, add_routes, decorate, decorate_twice, mount, adapt_tornado, attach_tornado]
WAYS += [adapt_aiolibs, mount_at_a_domain]
every_way = pytest.mark.parametrize("add", WAYS, ids=lambda add: add.__name__)
every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
Add = Callable[[web.Application], None]


@pytest.mark.virtual_time
@every
@every_way
async def test_drain_tells_the_clients_of_every_service(
    serve: Serve, add: Add, kind: type[clients.Client]
) -> None:
    app = web.Application()
    app.router.add_get("/readyz", readyz)
    add(app)
    served = await serve(Echo, app=app)
    served.prefix = "/service"
    client = await kind.open(served)
    await client.send("a")
    assert await client.messages(1) == ["a"]
    assert (await served.ask("/readyz")).status == 200
    draining = asyncio.ensure_future(Drain(notice=0, over=0).run(app))
    assert await client.frame() == b'c[1012,"Service restart"]'
    assert (await served.ask("/readyz")).status == 404
    await client.leave()
    await draining


@every_way
async def test_each_service_is_found_once(add: Add) -> None:
    app = web.Application()
    add(app)
    assert len(services_of(app)) == 1


@every_way
async def test_handlers_are_coroutine_functions_with_a_name(add: Add) -> None:
    app = web.Application()
    add(app)
    for route in app.router.routes():
        assert inspect.iscoroutinefunction(route.handler)
        if add is not decorate_twice:  # a partial has no name
            assert route.handler is readyz or route.handler.__name__.startswith("sockjs_")


async def test_decorator_that_hides_a_service_is_named_in_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    app = web.Application()
    for route in SockJSRouter(Echo, "/service").routes:
        app.router.add_route(route.method, route.path, bare(route.handler), **route.kwargs)
    served = await serve(Echo, app=app)
    served.prefix = "/service"
    for number in range(3):
        assert await served.poll(f"/0/{number}") == b"o"
    assert caplog.text.count("use functools.wraps in the decorator") == 1
    caplog.clear()
    served.prefix = "/echo"
    assert await served.poll("/0/1") == b"o"
    assert "functools.wraps" not in caplog.text
