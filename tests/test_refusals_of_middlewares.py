"""Pages of allowed origins can read refusals that are not the service's own, but a middleware's."""

from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import SockJSRouter
from tests.cases import case
from tests.conftest import Echo, Serve
from tests.hostile.urls import URLS, answered
from tests.test_refusals_across_origins import (
    EVIL,
    GOOD,
    SESSION,
    allowing,
    assert_readable,
    lists,
)


def with_middleware(answer: Any) -> web.Application:
    """Make an application whose middleware answers, or raises, in place of every handler."""

    @web.middleware
    async def middleware(request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = answer()
        if isinstance(response, Exception):
            raise response
        return response

    return web.Application(middlewares=[middleware])


@lists
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (web.HTTPUnauthorized, 401),
        (lambda: web.HTTPFound("/login"), 302),
        (lambda: web.Response(status=429), 429),
        pytest.param(
            *(lambda: ZeroDivisionError("mistake"), 500), marks=pytest.mark.logs("mistake")
        ),
    ],
    ids=["401", "302", "429", "500"],
)
async def test_refusals_of_middlewares_can_be_read(
    serve: Serve, answer: Any, status: int, origins: object
) -> None:
    served = await serve(Echo, settings=allowing(origins), app=with_middleware(answer))
    for transport in URLS:
        with case(transport):
            assert_readable(await answered(served, SESSION, transport, Origin=GOOD), status)
            if origins != "*":
                reply = await answered(served, SESSION, transport, Origin=EVIL)
                assert reply.status == status
                assert reply.header("Access-Control-Allow-Origin") is None
                assert reply.header("Vary") == "Origin"


async def test_what_a_middleware_says_of_origins_stays(serve: Serve) -> None:
    headers = {"Access-Control-Allow-Origin": EVIL, "Cache-Control": "private"}
    app = with_middleware(lambda: web.Response(status=403, headers=headers))
    served = await serve(Echo, settings=allowing([GOOD]), app=app)
    reply = await answered(served, SESSION, "xhr", Origin=GOOD)
    assert reply.header("Access-Control-Allow-Origin") == EVIL
    assert reply.header("Cache-Control") == "private"


async def test_refusals_of_other_urls_are_the_applications(serve: Serve) -> None:
    served = await serve(Echo, app=with_middleware(web.HTTPForbidden))
    for path in ("/", "/echoes/info"):
        wire = await served.wire()
        reply = await wire.request("GET", path, headers={"Origin": GOOD})
        assert reply.status == 403
        assert reply.header("Access-Control-Allow-Origin") is None
        assert reply.header("Cache-Control") is None


@pytest.mark.logs("mistake")
async def test_refusals_can_be_read_where_a_router_is_in_a_sub_application(serve: Serve) -> None:
    inner = with_middleware(lambda: ZeroDivisionError("mistake"))
    SockJSRouter(Echo, "/inner", allowing([GOOD])).attach(inner)
    app = web.Application()
    app.add_subapp("/sub", inner)
    served = await serve(Echo, app=app)
    wire = await served.wire()
    headers = {"Origin": GOOD}
    reply = await wire.request("GET", "/sub/inner/0/a/eventsource", headers=headers)
    assert_readable(reply, 500)
