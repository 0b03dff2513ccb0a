"""What a service of the Tornado-style API refuses can be read by pages of allowed origins."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from tests.cases import case
from tests.hostile.urls import OPENING, URLS, answered, started
from tests.test_refusals_across_origins import (
    EVIL,
    GOOD,
    SESSION,
    allowing,
    assert_readable,
    lists,
)
from tests.test_tornado import Old, Start, start

__all__ = ["start"]  # the fixture


class Quiet(Old):
    """Does nothing."""


@lists
async def test_bad_ids_can_be_read(start: Start, origins: object) -> None:
    served = await start(Quiet, allowing(origins))
    for transport in URLS:
        with case(transport):
            assert_readable(await answered(served, "/000/a%2Fb", transport, Origin=GOOD), 404)


@lists
async def test_wrong_methods_can_be_read(start: Start, origins: object) -> None:
    served = await start(Quiet, allowing(origins))
    for path in ["", "/", "/info", "/iframe.html", "/websocket", *URLS]:
        with case(path):
            url = SESSION + URLS[path][1] if path in URLS else path
            reply = await served.request("PUT", url, b"", headers={"Origin": GOOD})
            assert_readable(reply, 405)


@lists
@pytest.mark.parametrize(("limit", "status"), [("max_sessions", 503), ("max_sessions_per_ip", 429)])
async def test_full_servers_can_be_read(
    start: Start, limit: str, status: int, origins: object
) -> None:
    served = await start(Quiet, allowing(origins, **{limit: 1}))
    _, reply = await started(served, "/000/first", "xhr", Origin=GOOD)
    assert reply.status == 200
    for transport in OPENING:
        with case(transport):
            assert_readable(await answered(served, SESSION, transport, Origin=GOOD), status)


@lists
async def test_sends_that_are_refused_can_be_read(start: Start, origins: object) -> None:
    served = await start(Quiet, allowing(origins, max_message_size=10, verify_ip=False))
    for transport in ["xhr_send", "jsonp_send"]:
        session = f"/000/{transport}"
        with case(transport):
            assert_readable(await answered(served, session, transport, Origin=GOOD), 404)
            _, reply = await started(served, session, "xhr", Origin=GOOD)
            assert reply.status == 200
            long = b'["' + b"x" * 99 + b'"]'
            headers = {"Origin": GOOD}
            reply = await served.request("POST", f"{session}/{transport}", long, headers=headers)
            assert_readable(reply, 413)


async def test_a_websocket_of_another_host_can_read_why_it_is_refused(start: Start) -> None:
    served = await start(Quiet, {"websocket_allow_origin": ["other.example"]})
    assert_readable(await answered(served, SESSION, "websocket", Origin=GOOD), 403)


async def test_refusals_of_middlewares_can_be_read(start: Start) -> None:
    @web.middleware
    async def refuse(request: web.Request, handler: Any) -> web.StreamResponse:
        await asyncio.sleep(0)
        raise web.HTTPUnauthorized

    app = web.Application(middlewares=[refuse])
    served = await start(Quiet, allowing([GOOD]), app=app)
    for transport in URLS:
        with case(transport):
            assert_readable(await answered(served, SESSION, transport, Origin=GOOD), 401)
            reply = await answered(served, SESSION, transport, Origin=EVIL)
            assert reply.status == 401
            assert reply.header("Access-Control-Allow-Origin") is None


@pytest.mark.parametrize("urls_only", [True, False])
async def test_pages_of_other_origins_cannot_read_refusals(start: Start, urls_only: bool) -> None:
    served = await start(Quiet, allowing([GOOD]), urls_only=urls_only)
    for transport in URLS:
        with case(transport):
            reply = await answered(served, SESSION, transport, Origin=EVIL)
            assert reply.status in (403, 404)
            assert reply.header("Access-Control-Allow-Origin") is None
