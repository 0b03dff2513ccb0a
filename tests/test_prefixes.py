"""Paths of a service that are not letters of ASCII alone."""

import pytest
from aiohttp import web

from sockjs_aio import SockJSRouter
from tests import clients
from tests.conftest import Echo, Serve

ENCODED = {
    "/\u00e9": ["/%C3%A9", "/%c3%a9"],
    "/%C3%A9": ["/%C3%A9", "/%c3%a9"],
    "/\u65e5\u672c/chat": ["/%E6%97%A5%E6%9C%AC/chat"],
    "/a|b": ["/a%7Cb", "/a|b"],
    "/a%2fb": ["/a%2Fb", "/a%2fb"],
    "/100%25": ["/100%25"],
    "/~c": ["/~c", "/%7Ec"],
}
"""Prefixes, and how clients may ask for them."""


@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
@pytest.mark.parametrize("prefix", ENCODED)
async def test_prefixes_of_any_characters(
    serve: Serve, kind: type[clients.Client], prefix: str
) -> None:
    served = await serve(Echo, prefix)
    for encoded in ENCODED[prefix]:
        served.prefix = encoded
        for page in ("", "/", "/info", "/iframe.html", "/reconnecting-sockjs.js"):
            assert (await served.request("GET", page)).status == 200
        client = await kind.open(served)
        await client.send("a")
        assert await client.messages(1) == ["a"]
        await client.leave()


@pytest.mark.parametrize("prefix", ["/\u00e9", "/%C3%A9"])
async def test_one_prefix_is_served_once_however_it_is_written(prefix: str) -> None:
    app = web.Application()
    SockJSRouter(Echo, "/\u00e9").attach(app)
    SockJSRouter(Echo, "/\u00e8").attach(app)
    with pytest.raises(RuntimeError, match="another SockJSRouter"):
        SockJSRouter(Echo, prefix).attach(app)


@pytest.mark.parametrize(
    "prefix",
    [
        "/a b",
        "/a%20b",
        "/a?b",
        "/a%3Fb",
        "/{a}",
        "/a%",
        "/a%zz",
        "/%ff",
        "/\ud800",
        "/..",
        "/a/./b",
    ],
)
def test_prefix_that_no_request_could_have_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match=r"prefix .* must "):
        SockJSRouter(Echo, prefix)
