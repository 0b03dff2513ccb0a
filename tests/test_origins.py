"""Pages of other origins, and what they may not do."""

import pytest

from tests.conftest import Echo, Serve
from tests.openers import ask, openers


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
        ({}, 200),  # no browser
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Referer": "https://evil.example/page"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Referer": "https://good.example/page"}, 200),
        ({"Referer": "https://evil.example/page"}, 403),
        ({"Referer": "https://good.example/page"}, 200),
        ({"Referer": "http://localhost/page"}, 200),  # our own
        ({"Referer": "nonsense"}, 200),
    ],
)
@pytest.mark.parametrize("path", ["/0/1/jsonp?c=x", "/iframe.html", "/info", "/0/1/eventsource"])
async def test_requests_without_origin_are_known_by_where_they_come_from(
    serve: Serve, path: str, headers: dict[str, str], status: int
) -> None:
    settings = {"origins": ["https://good.example"], "allow_jsonp_and_frames": True}
    served = await serve(Echo, settings=settings)
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
