"""What a service of the Tornado-style API refuses can be read by pages of allowed origins."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from tests.hostile.urls import OPENING, URLS, answered, started
from tests.test_refusals_across_origins import (
    EVIL,
    GOOD,
    SESSION,
    allowing,
    assert_readable,
    lists,
    transports,
)
from tests.test_tornado import Old, Start, start

__all__ = ["start"]  # the fixture

opening = pytest.mark.parametrize("transport", OPENING)


class Quiet(Old):
    """Does nothing."""


@lists
@transports
async def test_bad_ids_can_be_read(start: Start, transport: str, origins: object) -> None:
    served = await start(Quiet, allowing(origins))
    assert_readable(await answered(served, "/000/a%2Fb", transport, Origin=GOOD), 404)


@lists
@pytest.mark.parametrize("path", ["", "/", "/info", "/iframe.html", "/websocket", *URLS])
async def test_wrong_methods_can_be_read(start: Start, path: str, origins: object) -> None:
    served = await start(Quiet, allowing(origins))
    url = SESSION + URLS[path][1] if path in URLS else path
    reply = await served.request("PUT", url, b"", headers={"Origin": GOOD})
    assert_readable(reply, 405)


@lists
@opening
@pytest.mark.parametrize(("limit", "status"), [("max_sessions", 503), ("max_sessions_per_ip", 429)])
async def test_full_servers_can_be_read(
    start: Start, limit: str, status: int, transport: str, origins: object
) -> None:
    served = await start(Quiet, allowing(origins, **{limit: 1}))
    first = "websocket" if transport == "websocket" else "xhr"
    _, reply = await started(served, "/000/first", first, Origin=GOOD)
    assert reply.status in (101, 200)
    assert_readable(await answered(served, SESSION, transport, Origin=GOOD), status)


@lists
@pytest.mark.parametrize("transport", ["xhr_send", "jsonp_send"])
async def test_sends_that_are_refused_can_be_read(
    start: Start, transport: str, origins: object
) -> None:
    served = await start(Quiet, allowing(origins, max_message_size=10, verify_ip=False))
    assert_readable(await answered(served, SESSION, transport, Origin=GOOD), 404)
    _, reply = await started(served, SESSION, "xhr", Origin=GOOD)
    assert reply.status == 200
    reply = await served.request(
        "POST", SESSION + "/" + transport, b'["' + b"x" * 99 + b'"]', headers={"Origin": GOOD}
    )
    assert_readable(reply, 413)


async def test_a_websocket_of_another_host_can_read_why_it_is_refused(start: Start) -> None:
    served = await start(Quiet, {"websocket_allow_origin": ["other.example"]})
    assert_readable(await answered(served, SESSION, "websocket", Origin=GOOD), 403)


@transports
async def test_refusals_of_middlewares_can_be_read(start: Start, transport: str) -> None:
    @web.middleware
    async def refuse(request: web.Request, handler: Any) -> web.StreamResponse:
        await asyncio.sleep(0)
        raise web.HTTPUnauthorized

    app = web.Application(middlewares=[refuse])
    served = await start(Quiet, allowing([GOOD]), app=app)
    assert_readable(await answered(served, SESSION, transport, Origin=GOOD), 401)
    reply = await answered(served, SESSION, transport, Origin=EVIL)
    assert reply.status == 401
    assert reply.header("Access-Control-Allow-Origin") is None


@transports
@pytest.mark.parametrize("urls_only", [True, False])
async def test_pages_of_other_origins_cannot_read_refusals(
    start: Start, transport: str, urls_only: bool
) -> None:
    served = await start(Quiet, allowing([GOOD]), urls_only=urls_only)
    reply = await answered(served, SESSION, transport, Origin=EVIL)
    assert reply.status in (403, 404)
    assert reply.header("Access-Control-Allow-Origin") is None
