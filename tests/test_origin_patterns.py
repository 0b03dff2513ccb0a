"""Origins by pattern and by function, and those of pages that have no host.

Whatever is not clearly allowed is refused.
"""

import pytest

from sockjs_aio import Settings, SettingsError
from tests.conftest import Echo, Serve
from tests.openers import ask, openers

PATTERN = "https://*.good.example"
MATCHING = [
    "https://a.good.example",
    "https://a.b.good.example",
    "https://a-1_b.good.example",
    "https://xn--bcher-kva.good.example",
]
ALMOST_MATCHING = [
    "https://good.example",
    "https://.good.example",
    "https://a..good.example",
    "https://*.good.example",
    "http://a.good.example",
    "HTTPS://a.good.example",
    "https://A.good.example",
    "https://a.good.example:443",
    "https://a.good.example:8443",
    "https://a.good.example/",
    "https://a.good.example.",
    "https://a.good.example.evil.example",
    "https://evil-good.example",
    "https://evil.example/.good.example",
    "https://evil.example#.good.example",
    "https://evil.example?.good.example",
    "https://evil.example:80.good.example",
    "https://evil.example@.good.example",
    "https://user@a.good.example",
    "https://evil.example\\.good.example",
    "https://a.good.example, https://a.good.example",
    "https://evil.example https://a.good.example",
    "https://[::1].good.example",
    "null",
    "file://",
    "*",
    "\u00e4",
]

# no page has the first two; what the function says of the others is its own affair
THE_FUNCTIONS_AFFAIR = [
    "https://.good.example",
    "https://a..good.example",
    "http://a.good.example",
    "https://a.good.example:443",
]


def allows_customers(origin: str) -> bool:
    # as careless as functions of applications may be
    return origin.endswith(".good.example")


@openers
@pytest.mark.parametrize("origins", [[PATTERN], allows_customers], ids=["pattern", "function"])
async def test_subdomains_pass_and_nothing_that_looks_like_them(
    serve: Serve, method: str, path: str, origins: object
) -> None:
    if callable(origins) and ("jsonp" in path or "htmlfile" in path):
        served = await serve(Echo, settings={"origins": origins})  # where these are off
        assert (await ask(served, method, path, Origin=MATCHING[0])).status == 404
        return
    settings = {"origins": origins, "allow_jsonp_and_frames": not callable(origins)}
    served = await serve(Echo, settings=settings)
    for origin in ALMOST_MATCHING:
        if callable(origins) and origin in THE_FUNCTIONS_AFFAIR:
            continue
        assert (await ask(served, method, path, Origin=origin)).status == 403, origin
    assert served.router.session_count == 0
    for number, origin in enumerate(MATCHING):
        other = path.replace("/1/", f"/{number}/")
        reply = await ask(served, method, other, Origin=origin)
        assert reply.status in (101, 200), origin
        if "xhr" in path:
            assert reply.header("Access-Control-Allow-Origin") == origin


@openers
@pytest.mark.parametrize("answer", [None, 1, "yes", False, [True]])
async def test_function_lets_in_by_true_alone(
    serve: Serve, method: str, path: str, answer: object
) -> None:
    served = await serve(Echo, settings={"origins": lambda origin: answer})
    status = 404 if "jsonp" in path or "htmlfile" in path else 403
    assert (await ask(served, method, path, Origin="https://a.example")).status == status
    assert served.router.session_count == 0


@pytest.mark.logs("failed: the client is refused")
async def test_function_that_fails_refuses(serve: Serve) -> None:
    def broken(origin: str) -> bool:
        raise KeyError(origin)

    served = await serve(Echo, settings={"origins": broken})
    assert (await ask(served, "POST", "/0/1/xhr", Origin="https://a.example")).status == 403
    assert (await ask(served, "POST", "/0/1/xhr")).status == 200  # no browser


async def test_function_is_asked_by_what_tells_where_a_request_comes_from(serve: Serve) -> None:
    asked = []

    def note(origin: str) -> bool:
        asked.append(origin)
        return False

    served = await serve(Echo, settings={"origins": note})
    for headers in (
        {"Origin": "https://a.example:8443"},
        {"Referer": "https://b.example/page"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "file://"},
        {"Origin": "https://a.example/"},
        {"Origin": "a" * 7000},
    ):
        assert (await ask(served, "GET", "/info", **headers)).status == 403
    assert asked == [
        "https://a.example:8443",
        "https://b.example",
        "null",
        "file://",
    ]


@openers
async def test_pages_of_files_pass_if_they_are_listed(serve: Serve, method: str, path: str) -> None:
    served = await serve(Echo, settings={"origins": ["file://"], "allow_jsonp_and_frames": True})
    for origin in ("null", "file:", "file:///", "file://x", "https://a.example"):
        assert (await ask(served, method, path, Origin=origin)).status == 403, origin
    assert (await ask(served, method, path, Origin="file://")).status in (101, 200)


async def test_frame_ancestors_have_the_patterns(serve: Serve) -> None:
    origins = ["null", "https://a.example", "https://*.b.example", "file://", "http://*.c:81"]
    served = await serve(settings={"origins": origins, "allow_jsonp_and_frames": True})
    reply = await served.request("GET", "/iframe.html")
    assert reply.header("Content-Security-Policy") == (
        "frame-ancestors https://a.example https://*.b.example http://*.c:81"
    )


def test_function_does_without_frames() -> None:
    assert not Settings(origins=allows_customers).is_enabled("iframe")
    assert not Settings(origins=allows_customers).is_enabled("jsonp")
    with pytest.raises(SettingsError, match="allow_jsonp_and_frames does not work with a func"):
        Settings(origins=allows_customers, allow_jsonp_and_frames=True)


async def test_coroutine_functions_are_refused() -> None:
    async def allowed(origin: str) -> bool:
        return True

    with pytest.raises(SettingsError, match="plain function"):
        Settings(origins=allowed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "pattern",
    [
        "*.good.example",
        "https://*",
        "https://*.",
        "https://**.good.example",
        "https://*.*.good.example",
        "https://a*.good.example",
        "https://a.*.example",
        "https://*good.example",
        "https://*.good.example:443",
        "http://*.good.example:80",
        "https://*.good.example:*",
        "https://*.good.example/",
        "https://*.Good.example",
        "https://*.good..example",
        "*://*.good.example",
        "file://*",
    ],
)
def test_patterns_that_mean_something_else_are_refused(pattern: str) -> None:
    with pytest.raises(SettingsError, match="not allowed: "):
        Settings(origins=[pattern])
