"""Pages of other origins: what they try, and that none of it gets through a restricted list.

A page cannot set `Origin`, `Host` or ``Sec-Fetch-*``, and can hide its `Referer` but not choose it.
Over plain HTTP browsers send no ``Sec-Fetch-*``.
"""

import logging

import pytest
from aiohttp import web

from sockjs_aio.server.admission import ORIGIN_INTERVAL
from tests.conftest import Echo, Recorder, Serve
from tests.openers import REQUESTS, ask, openers

GOOD = "https://good.example"
EVIL = "https://evil.example"
RESTRICTED = {"origins": [GOOD], "allow_jsonp_and_frames": True}
LINKABLE = [path for method, path in REQUESTS if method == "GET" and "websocket" not in path]
SENDS = [("POST", "/0/1/xhr_send"), ("POST", "/0/1/jsonp_send")]
PAGES = [("GET", ""), ("GET", "/info"), ("GET", "/iframe.html"), ("HEAD", "/info")]
PREFLIGHTS = [("OPTIONS", path) for path in ("/info", "/0/1/xhr", "/0/1/xhr_send")]
ALMOST_GOOD = [
    "http://good.example",
    "HTTPS://good.example",
    "https://GOOD.example",
    "https://good.example:443",
    "https://good.example:8443",
    "https://good.example/",
    "https://good.example.",
    "https://user@good.example",
    "https://good.example@evil.example",
    "https://good.example.evil.example",
    "https://evil-good.example",
    "https://good.example, https://good.example",
    "https://good.example https://evil.example",
    "good.example",
    "//good.example",
    "null",
    "NULL",
    "*",
    "\u00e4",
]

linkable = pytest.mark.parametrize("path", LINKABLE)


@openers
async def test_only_the_very_origin_passes(serve: Serve, method: str, path: str) -> None:
    served = await serve(Echo, settings=RESTRICTED)
    for origin in ALMOST_GOOD:
        assert (await ask(served, method, path, Origin=origin)).status == 403, origin
    assert served.router.session_count == 0


async def test_refused_origin_is_logged_once_a_minute(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sockjs_aio.transports")
    served = await serve(Echo, settings=RESTRICTED)
    await ask(served, "GET", "/info", Origin="null")
    await ask(served, "GET", "/info", Referer="https://ann:secret@evil.example/")
    for _ in range(3):
        await ask(served, "GET", "/info", Origin=EVIL)
    admission = served.router._service.admission
    admission._next_origin -= ORIGIN_INTERVAL  # as if a minute had passed
    await ask(served, "GET", "/info", Origin="x" * 4000)
    lines = [line for line in caplog.messages if "may not connect" in line]
    assert lines[0] == f"pages of '{EVIL}' may not connect: the setting origins forbids it"
    assert len(lines) == 2
    assert len(lines[1]) < 300


@pytest.mark.parametrize(("method", "path"), [*REQUESTS, *SENDS, *PAGES, *PREFLIGHTS])
async def test_several_origins_are_none(serve: Serve, method: str, path: str) -> None:
    served = await serve(Echo, settings=RESTRICTED)
    await served.poll("/0/1", headers={"Origin": GOOD})
    for first, second in [(GOOD, EVIL), (EVIL, GOOD), (GOOD, GOOD)]:
        reply = await ask(served, method, path, **{"Origin": first, "origin": second})
        assert reply.status == 403
    assert served.router.session_count == 1


# What is done before the origin is looked at: nothing.


@pytest.mark.parametrize(("method", "path"), [*REQUESTS, *SENDS])
async def test_refused_page_touches_nothing(serve: Serve, method: str, path: str) -> None:
    class Noted(Recorder):
        pass

    asked = []

    async def authorize(request: web.Request) -> bool:
        asked.append(request)
        return True

    served = await serve(Noted, settings=RESTRICTED, authorize=authorize)
    assert await served.poll("/0/1", headers={"Origin": GOOD}) == b"o"
    wire = await served.wire()
    waiting = wire.request("POST", "/echo/0/1/xhr", b"", headers={"Origin": GOOD})
    reply = await ask(served, method, path, Origin=EVIL)
    assert reply.status == 403
    assert len(asked) == served.router.session_count == 1
    assert await served.post("/0/1", '["a"]', headers={"Origin": GOOD}) == 204
    await Noted.until("a")
    assert Noted.seen == ["open", "a"]
    Noted.connections[0].send("b")
    assert (await waiting).body == b'a["b"]\n'  # and not 2010


@pytest.mark.parametrize(("method", "path"), SENDS)
async def test_body_of_a_refused_page_is_not_waited_for(
    serve: Serve, method: str, path: str
) -> None:
    served = await serve(Echo, settings=RESTRICTED)
    await served.poll("/0/1", headers={"Origin": GOOD})
    wire = await served.wire()
    # as a form of any page can be posted without asking for leave
    headers = {"Origin": EVIL, "Content-Type": "text/plain", "Content-Length": "1000"}
    wire.send(method, served.prefix + path, headers=headers)
    assert (await wire.head()).status == 403


# Pages that hide where they come from.


@linkable
async def test_hidden_page_opens_no_session(serve: Serve, path: str) -> None:
    served = await serve(Echo, settings=RESTRICTED)
    for site in ("cross-site", "same-site"):
        for dest in ("image", "script", "iframe", "empty"):
            fetched = {"Sec-Fetch-Site": site, "Sec-Fetch-Dest": dest}
            assert (await ask(served, "GET", path, **fetched)).status == 403
    assert (await ask(served, "GET", path)).status == 403  # the same over plain HTTP
    assert served.router.session_count == 0


@openers
async def test_host_that_a_page_has_made_its_own_is_of_no_use(
    serve: Serve, method: str, path: str
) -> None:
    """DNS rebinding: the page's name leads here, so what it asks has the same origin to a browser.

    A browser tells that origin with everything but a GET, and the page with that.
    """
    served = await serve(Echo, settings=RESTRICTED)
    assert (await ask(served, method, path, Origin="http://localhost")).status == 403
    if path in LINKABLE:
        assert (await ask(served, method, path, Referer="http://localhost/page")).status == 403
    assert served.router.session_count == 0


@linkable
@pytest.mark.parametrize("origins", ["*", [GOOD]])
async def test_link_opens_no_session(serve: Serve, path: str, origins: object) -> None:
    """With a link go cookies that are ``SameSite=Lax``, and whoever made it knows the session's id:
    the session would be the user's, and anybody's.
    """
    served = await serve(Echo, settings={**RESTRICTED, "origins": origins})
    headers = {"Referer": GOOD + "/page", "Sec-Fetch-Dest": "document"}
    for site in ("none", "cross-site", "same-site", "same-origin"):
        headers["Sec-Fetch-Site"] = site
        assert (await ask(served, "GET", path, **headers)).status == 403
    assert served.router.session_count == 0
    headers["Sec-Fetch-Dest"] = "iframe"  # as htmlfile is asked for
    assert (await ask(served, "GET", path, **headers)).status == 200


@openers
async def test_client_that_is_no_browser_passes(serve: Serve, method: str, path: str) -> None:
    served = await serve(Echo, settings=RESTRICTED)
    headers = {"Origin": GOOD} if path in LINKABLE else {}  # there it has to name one
    status = (await ask(served, method, path, **headers)).status
    assert status == (101 if "websocket" in path else 200)


# Caches.


@pytest.mark.parametrize("headers", [{}, {"Origin": GOOD}, {"Origin": "\u00e4"}])
@pytest.mark.parametrize("origins", ["*", [GOOD]])
async def test_caches_are_told_that_the_answer_depends_on_the_origin(
    serve: Serve, headers: dict[str, str], origins: object
) -> None:
    if origins != "*" and not headers.get("Origin", GOOD).isascii():
        return
    served = await serve(Echo, settings={**RESTRICTED, "origins": origins})
    for method, path in [
        *(("GET", "/info"), ("POST", "/0/1/xhr"), ("POST", "/0/1/xhr_send")),
        *(("POST", "/0/2/xhr_streaming"), *PREFLIGHTS),
    ]:
        reply = await ask(served, method, path, **headers)
        asked = ", Access-Control-Request-Headers" if method == "OPTIONS" else ""
        assert reply.header("Vary") == "Origin" + asked, path


@pytest.mark.parametrize(("method", "path"), [*REQUESTS, *SENDS, *PAGES, *PREFLIGHTS])
async def test_no_cache_keeps_a_refusal(serve: Serve, method: str, path: str) -> None:
    served = await serve(Echo, settings=RESTRICTED)
    reply = await ask(served, method, path, Origin=EVIL)
    assert (reply.status, reply.header("Vary")) == (403, "Origin")
    assert reply.header("Cache-Control") == "no-store"
    assert reply.header("Access-Control-Allow-Origin") is None


@openers
async def test_no_cache_keeps_what_authorize_refuses(serve: Serve, method: str, path: str) -> None:
    async def authorize(request: web.Request) -> None:
        raise web.HTTPNotFound  # which caches may keep unless they are told

    served = await serve(Echo, authorize=authorize)
    reply = await ask(served, method, path)
    assert (reply.status, reply.header("Cache-Control")) == (404, "no-store")
    assert reply.header("Access-Control-Allow-Origin") == "*"  # the page is to see the status


# Without a list everybody is welcome, with the user's cookies.


@openers
async def test_by_default_pages_of_all_origins_come_in_with_cookies(
    serve: Serve, method: str, path: str
) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    reply = await ask(served, method, path, Origin=EVIL, Cookie="user=ann")
    assert reply.status == (101 if "websocket" in path else 200)
    await Noted.until("open")
    assert Noted.connections[0].info.cookies["user"] == "ann"
    if "xhr" in path or "eventsource" in path:
        assert reply.header("Access-Control-Allow-Origin") == EVIL
        assert reply.header("Access-Control-Allow-Credentials") == "true"


# Pages that are allowed, and others.


@openers
async def test_other_origins_are_403(serve: Serve, method: str, path: str) -> None:
    settings = {"origins": ["https://good.example"], "allow_jsonp_and_frames": True}
    served = await serve(Echo, settings=settings)
    assert (await ask(served, method, path, Origin="https://evil.example")).status == 403
    assert (await ask(served, method, path, Origin="null")).status == 403
    assert (
        await ask(served, method, path, Origin="https://good.example.evil.example")
    ).status == 403
    assert served.router.session_count == 0
    head = await ask(served, method, path, Origin="https://good.example")
    assert head.status == (101 if "websocket" in path else 200)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # no browser, perhaps
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Referer": "https://evil.example/page"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Referer": "https://good.example/page"}, 200),
        ({"Referer": "https://evil.example/page"}, 403),
        ({"Referer": "https://good.example/page"}, 200),
        ({"Referer": "http://localhost/page"}, 403),  # our own, which has to be listed too
        ({"Referer": "nonsense"}, 200),
    ],
)
@pytest.mark.parametrize("path", ["/iframe.html", "/info", *LINKABLE])
async def test_requests_without_origin_are_known_by_where_they_come_from(
    serve: Serve, path: str, headers: dict[str, str], status: int
) -> None:
    served = await serve(Echo, settings=RESTRICTED)
    if path in LINKABLE and not {"Sec-Fetch-Site", "Origin"} & set(headers):
        status = 200 if headers.get("Referer", "").startswith(GOOD) else 403
    assert (await ask(served, "GET", path, **headers)).status == status


async def test_jsonp_and_frames_are_off_with_restricted_origins(serve: Serve) -> None:
    served = await serve(Echo, settings={"origins": ["https://good.example"]})
    good = {"Origin": "https://good.example", "Sec-Fetch-Site": "same-origin"}
    for path in ("/0/1/jsonp?c=x", "/0/1/htmlfile?c=x", "/iframe.html", "/iframe-1.html"):
        assert (await served.request("GET", path, headers=good)).status == 404
    assert (await served.request("POST", "/0/1/jsonp_send", "d=x", headers=good)).status == 404
    assert await served.poll("/0/1", headers=good) == b"o"


async def test_other_origins_may_neither_send_nor_ask(serve: Serve) -> None:
    settings = {"origins": ["https://good.example", "null"], "allow_jsonp_and_frames": True}
    served = await serve(Echo, settings=settings)
    await served.poll("/0/1")
    evil, good = {"Origin": "https://evil.example"}, {"Origin": "null"}
    assert await served.post("/0/1", '["a"]', headers=evil) == 403
    assert await served.post("/0/1", '["a"]', headers=good) == 204
    for path in ("/info", "/iframe.html", "", "/0/1/jsonp_send"):
        method = "POST" if "send" in path else "GET"
        body = '["a"]' if "send" in path else None
        assert (await served.request(method, path, body, headers=evil)).status == 403
        assert (await served.request(method, path, body, headers=good)).status == 200
    for path in ("/info", "/0/1/xhr", "/0/1/xhr_send", "/0/1/xhr_streaming"):
        assert (await served.request("OPTIONS", path, headers=evil)).status == 403
        assert (await served.request("OPTIONS", path, headers=good)).status == 204
