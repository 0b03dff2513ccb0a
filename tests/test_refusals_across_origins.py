"""Pages of allowed origins can read why they are refused; nobody keeps a refusal for others."""

import asyncio
import itertools
from typing import Any

import async_timeout
import pytest
from aiohttp import web

from sockjs_aio import SockJSConnection
from tests.cases import case
from tests.conftest import Echo, Serve, Served
from tests.hostile.urls import OPENING, URLS, answered, started
from tests.log_check import logs
from tests.wire import Reply

GOOD, EVIL = "https://good.example", "https://evil.example"
SESSION = "/000/session"
SENDING = ["xhr_send", "jsonp_send"]

lists = pytest.mark.parametrize("origins", ["*", [GOOD, "null"]], ids=["all", "listed"])


def allowing(origins: object, **more: Any) -> dict[str, Any]:
    return {"origins": origins, "allow_jsonp_and_frames": True, **more}


def assert_readable(reply: Reply, status: int, origin: str = GOOD) -> None:
    """Make sure that a page of `origin` can read a refusal, and no cache gives it to others."""
    assert reply.status == status
    assert reply.header("Access-Control-Allow-Origin") == origin
    assert reply.header("Access-Control-Allow-Credentials") == "true"
    assert reply.header("Cache-Control") == "no-store"
    assert "Origin" in (reply.header("Vary") or "").split(", ")


REFUSALS: dict[str, tuple[Any, int]] = {
    "401": (web.HTTPUnauthorized, 401),
    "403": (web.HTTPForbidden, 403),
    "404": (web.HTTPNotFound, 404),
    "a way in": (lambda: web.HTTPFound("/login"), 302),
    "False": (False, 403),
    "None": (None, 403),
}


@lists
async def test_what_authorize_refuses_can_be_read(serve: Serve, origins: object) -> None:
    async def authorize(request: web.Request) -> object:
        answer, _ = REFUSALS[request.headers["X-Refusal"]]
        if callable(answer):
            raise answer()
        return answer

    served = await serve(Echo, settings=allowing(origins), authorize=authorize)
    for transport, origin, name in itertools.product(OPENING, [GOOD, "null"], REFUSALS):
        with case((transport, origin, name)):
            headers = {"Origin": origin, "X-Refusal": name}
            reply = await answered(served, SESSION, transport, **headers)
            assert_readable(reply, REFUSALS[name][1], origin)


async def test_headers_of_authorize_stay(serve: Serve) -> None:
    async def authorize(request: web.Request) -> object:
        headers = {"Vary": "Cookie", "Cache-Control": "private", "WWW-Authenticate": "Basic"}
        raise web.HTTPUnauthorized(headers=headers)

    served = await serve(Echo, authorize=authorize)
    reply = await answered(served, SESSION, "xhr", Origin=GOOD)
    assert reply.header("Vary") == "Cookie, Origin"
    assert reply.header("Cache-Control") == "private"
    assert reply.header("WWW-Authenticate") == "Basic"
    assert reply.header("Access-Control-Allow-Origin") == GOOD


@lists
async def test_bad_ids_can_be_read(serve: Serve, origins: object) -> None:
    served = await serve(Echo, settings=allowing(origins))
    for transport in URLS:
        with case(transport):
            assert_readable(await answered(served, "/000/a%2Fb", transport, Origin=GOOD), 404)


@lists
async def test_unknown_sessions_can_be_read(serve: Serve, origins: object) -> None:
    served = await serve(Echo, settings=allowing(origins))
    for transport in SENDING:
        with case(transport):
            assert_readable(await answered(served, SESSION, transport, Origin=GOOD), 404)


@lists
async def test_disabled_transports_can_be_read(serve: Serve, origins: object) -> None:
    for transport in OPENING:
        with case(transport):
            served = await serve(Echo, settings=allowing(origins, disabled_transports=[transport]))
            assert_readable(await answered(served, SESSION, transport, Origin=GOOD), 404)
            if transport.startswith("xhr"):
                url = SESSION + "/" + transport
                reply = await served.request("OPTIONS", url, headers={"Origin": GOOD})
                assert reply.status == 204, "or a page that must ask first could not read the 404"
                assert reply.header("Access-Control-Allow-Origin") == GOOD


@lists
async def test_wrong_methods_can_be_read(serve: Serve, origins: object) -> None:
    served = await serve(Echo, settings=allowing(origins))
    for path in ["", "/", "/info", "/iframe.html", "/websocket", *URLS]:
        with case(path):
            url = SESSION + URLS[path][1] if path in URLS else path
            reply = await served.request("PUT", url, b"", headers={"Origin": GOOD})
            assert_readable(reply, 405)
            assert reply.header("Content-Type") is None


@lists
@pytest.mark.parametrize(("limit", "status"), [("max_sessions", 503), ("max_sessions_per_ip", 429)])
async def test_full_servers_can_be_read(
    serve: Serve, limit: str, status: int, origins: object
) -> None:
    others = [name for name in OPENING if name != "websocket"]
    # which process has a session depends
    for first, transports in (("websocket", ["websocket"]), ("xhr", others)):
        served = await serve(Echo, settings=allowing(origins, **{limit: 1}))
        _, reply = await started(served, "/000/first", first, Origin=GOOD)
        assert reply.status in (101, 200)
        for transport in transports:
            with case(transport):
                reply = await answered(served, SESSION, transport, Origin=GOOD)
                assert_readable(reply, status)
                assert reply.header("Retry-After") == "5"


@lists
async def test_slow_authorize_can_be_read(serve: Serve, origins: object) -> None:
    async def authorize(request: web.Request) -> object:
        await asyncio.sleep(60)
        return True

    settings = allowing(origins, authorize_timeout=0.05)
    served = await serve(Echo, settings=settings, authorize=authorize)
    for transport in OPENING:
        with case(transport):
            assert_readable(await answered(served, SESSION, transport, Origin=GOOD), 503)


async def sent(
    served: Served, transport: str, head: dict[str, str], body: bytes, session: str = SESSION
) -> Reply:
    wire = await served.wire()
    wire.send("POST", served.prefix + session + URLS[transport][1], headers=head)
    wire.writer.write(body)
    async with async_timeout.timeout(5):
        return await wire.reply()


UNREAD: list[tuple[dict[str, str], bytes, int]] = [
    ({"Content-Length": "9"}, b"half", 408),
    ({"Content-Length": "99999999"}, b"", 413),
    ({"Content-Length": "9", "Content-Encoding": "gzip"}, b"no gzip!!", 400),
]


@lists
async def test_bodies_that_are_refused_can_be_read(serve: Serve, origins: object) -> None:
    served = await serve(Echo, settings=allowing(origins, receive_timeout=0.2))

    async def check(transport: str, head: dict[str, str], body: bytes, status: int) -> None:
        session = f"/000/{transport}-{status}"
        with case(session):
            assert await served.poll(session, headers={"Origin": GOOD}) == b"o"
            reply = await sent(served, transport, {"Origin": GOOD, **head}, body, session)
            assert_readable(reply, status)

    transports = ["xhr_send", "jsonp_send", "xhr", "xhr_streaming"]
    await asyncio.gather(*(check(name, *unread) for name in transports for unread in UNREAD))


@lists
async def test_broken_payloads_can_be_read(serve: Serve, origins: object) -> None:
    served = await serve(Echo, settings=allowing(origins))
    assert await served.poll(SESSION, headers={"Origin": GOOD}) == b"o"
    head = {"Origin": GOOD, "Content-Length": "1"}
    for transport in SENDING:
        with case(transport):
            assert_readable(await sent(served, transport, head, b"["), 500)


async def test_ends_of_the_service_can_be_read(serve: Serve) -> None:
    served = await serve(SockJSConnection, settings=allowing([GOOD]))
    await served.router.drain()
    for transport in [name for name in URLS if name != "websocket"]:
        with case(transport):
            reply = await answered(served, SESSION, transport, Origin=GOOD)
            assert_readable(reply, 404 if transport in SENDING else 503)


FAILURES: dict[str, tuple[Exception, int]] = {
    "mistake": (ZeroDivisionError("mistake"), 500),
    "database away": (ConnectionRefusedError("mistake"), 500),
}


@pytest.mark.logs("mistake")
@lists
@pytest.mark.parametrize("name", FAILURES)
async def test_failures_of_authorize_can_be_read(serve: Serve, name: str, origins: object) -> None:
    error, status = FAILURES[name]

    async def authorize(request: web.Request) -> object:
        raise error

    served = await serve(Echo, settings=allowing(origins), authorize=authorize)
    for transport in OPENING:
        with case(transport), logs("mistake"):
            assert_readable(await answered(served, SESSION, transport, Origin=GOOD), status)


@pytest.mark.logs("mistake")
async def test_failures_of_the_connection_class_can_be_read(serve: Serve) -> None:
    class Failing(SockJSConnection):
        def __init__(self, session: Any) -> None:
            raise ZeroDivisionError("mistake")

    served = await serve(Failing, settings=allowing([GOOD]))
    for transport in OPENING:
        with case(transport), logs("mistake"):
            reply = await answered(served, f"/000/{transport}", transport, Origin=GOOD)
            assert_readable(reply, 500)


async def test_refused_origins_read_nothing(serve: Serve) -> None:
    served = await serve(Echo, settings=allowing([GOOD], disabled_transports=["xhr"]))
    strangers: list[dict[str, str]] = [
        {"Origin": EVIL},
        {"Origin": f"{GOOD}, {EVIL}"},
        {"Referer": EVIL + "/"},
        {},
    ]
    for method, url in URLS.values():
        for headers, path in itertools.product(strangers, (SESSION, "/000/a%2Fb")):
            for asked in (method, "PUT", "OPTIONS"):
                wire = await served.wire()
                body = b"" if asked != "GET" else None
                wire.send(asked, served.prefix + path + url, body, headers=headers)
                reply = await wire.head()
                if reply.status >= 400:
                    with case((asked, path + url, headers)):
                        assert reply.header("Access-Control-Allow-Origin") is None
                        assert reply.header("Access-Control-Allow-Credentials") is None
                        assert reply.header("Cache-Control") == "no-store"
                        assert reply.header("Vary") == "Origin"
