"""Section 2 of the protocol: the pages without a session, methods, caching and CORS."""

import base64
import hashlib
import json
from email.utils import parsedate_to_datetime

import pytest

from examples.chat import SOCKJS_CLIENT
from sockjs_aio import Settings
from tests.cases import case
from tests.conftest import Echo, Serve, require

NOT_CACHED = "no-store, no-cache, no-transform, must-revalidate, max-age=0"


@pytest.mark.parametrize("path", ["", "/"])
async def test_greeting(serve: Serve, path: str) -> None:
    reply = await (await serve()).request("GET", path)
    assert (reply.status, reply.body) == (200, b"Welcome to SockJS!\n")
    assert reply.header("Content-Type") == "text/plain; charset=UTF-8"
    assert reply.header("Set-Cookie") is None


UNKNOWN = [
    *["/a", "/a.html", "//", "///", "/a/a", "/a/a/", "/a//", "/x/y/z", "/0/1/xhr/"],
    *["//x/xhr", "/x//xhr", "/a.b/c/xhr", "/a/b.c/xhr", "/a/b%2Ec/xhr", "/a/b%2Fc/xhr"],
    *["/a/b%00c/xhr", "/a/%ff/xhr", "/%ff/a/xhr", "/a/" + "x" * 4096 + "/xhr"],
    *["/iframe.htm", "/iframe", "/IFRAME.HTML", "/iframe.xml", "/iframe-/.html", "/iframex.html"],
    *["/reconnecting-sockjs", "/reconnecting-sockjs.d.ts", "/reconnecting-sockjs.min.js"],
]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_unknown_urls(serve: Serve, method: str) -> None:
    served = await serve()
    body = b"" if method == "POST" else None
    for path in UNKNOWN:
        with case(path[:40]):
            reply = await served.request(method, path, body)
            assert reply.status == 404
            assert b"<" not in reply.body and b"xxx" not in reply.body
            assert served.router.session_count == 0


METHODS = {
    "": "GET",
    "/": "GET",
    "/info": "OPTIONS, GET",
    "/iframe.html": "GET",
    "/iframe-x.html": "GET",
    "/reconnecting-sockjs.js": "GET",
    "/reconnecting-sockjs.mjs": "GET",
    "/reconnecting-sockjs.d.mts": "GET",
    "/websocket": "GET",
    "/0/1/websocket": "GET",
    "/0/1/xhr": "OPTIONS, POST",
    "/0/1/xhr_streaming": "OPTIONS, POST",
    "/0/1/xhr_send": "OPTIONS, POST",
    "/0/1/jsonp_send": "POST",
    "/0/1/jsonp": "GET",
    "/0/1/eventsource": "GET",
    "/0/1/htmlfile": "GET",
}


SCRIPTS = [path for path in METHODS if path.startswith("/reconnecting")]
PAGES = ["", "/", "/info", "/iframe.html", "/iframe-x.html", *SCRIPTS]
WRONG = [
    (method, path)
    for path, allowed in METHODS.items()
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"]
    if method not in allowed.split(", ") and not (method == "HEAD" and path in PAGES)
]


async def test_wrong_methods_are_told_the_right_ones(serve: Serve) -> None:
    served = await serve()
    for method, path in WRONG:
        with case((method, path)):
            reply = await served.request(method, path, b"" if method in ("POST", "PUT") else None)
            assert (reply.status, reply.body) == (405, b"")
            assert reply.header("Allow") == METHODS[path]
            assert reply.header("Content-Type") is None
            assert served.router.session_count == 0


async def test_method_that_nobody_knows_gets_an_answer(serve: Serve) -> None:
    served = await serve()
    assert (await served.request("FROBNICATE", "/0/1/xhr", b"")).status in (400, 405)
    assert served.router.session_count == 0


@pytest.mark.parametrize("path", ["", "/", "/info", "/iframe.html", *SCRIPTS])
async def test_head_is_get_without_a_body(serve: Serve, path: str) -> None:
    served = await serve()
    wire = await served.wire()
    get = await wire.request("GET", "/echo" + path)
    head = await wire.request("HEAD", "/echo" + path)
    again = await wire.request("GET", "/echo" + path)
    assert (get.status, head.status, again.status) == (200, 200, 200)
    assert head.header("Content-Type") == get.header("Content-Type")
    wire.close()


async def test_info(serve: Serve) -> None:
    served = await serve()
    replies = [await served.request("GET", "/info?t=1") for _ in range(5)]
    answers = [json.loads(reply.body) for reply in replies]
    entropies = [answer.pop("entropy") for answer in answers]
    assert answers[0] == {"websocket": True, "cookie_needed": False, "origins": ["*:*"]}
    assert len(set(entropies)) > 1
    assert all(isinstance(entropy, int) and 0 <= entropy < 2**32 for entropy in entropies)
    assert replies[0].header("Content-Type") == "application/json; charset=UTF-8"
    assert replies[0].header("Cache-Control") == NOT_CACHED
    assert replies[0].header("Expires") is None
    assert replies[0].header("Last-Modified") is None
    assert replies[0].header("Set-Cookie") is None


async def test_info_tells_of_settings(serve: Serve) -> None:
    settings = {
        "disabled_transports": ["websocket"],
        "jsessionid": True,
        "base_url": "https://x.example/echo",
    }
    reply = await (await serve(settings=settings)).request("GET", "/info")
    answer = json.loads(reply.body)
    assert answer["websocket"] is False
    assert answer["cookie_needed"] is True
    assert answer["base_url"] == "https://x.example/echo"
    assert reply.header("Set-Cookie") is None


@pytest.mark.parametrize(
    ("base_url", "told"),
    [
        ("https://x.example/echo/", "https://x.example/echo"),
        ("https://x.example/echo//", "https://x.example/echo"),
        ("https://x.example/", "https://x.example"),
        ("https://x.example", "https://x.example"),
        ("http://[::1]:8080/a/b/", "http://[::1]:8080/a/b"),
        ("https://x.example/echo/?key=a/", "https://x.example/echo?key=a/"),
    ],
)
async def test_base_url_ends_without_a_slash(serve: Serve, base_url: str, told: str) -> None:
    reply = await (await serve(settings={"base_url": base_url})).request("GET", "/info")
    assert json.loads(reply.body)["base_url"] == told


@pytest.mark.parametrize("origin", ["http://a.example", "null", "https://b.example:8443"])
async def test_origins_are_echoed(serve: Serve, origin: str) -> None:
    reply = await (await serve()).request("GET", "/info", headers={"Origin": origin})
    assert reply.header("Access-Control-Allow-Origin") == origin
    assert reply.header("Access-Control-Allow-Credentials") == "true"
    assert reply.header("Vary") == "Origin"


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://\u00e4.example"}])
async def test_without_a_usable_origin_anybody_may_read(
    serve: Serve, headers: dict[str, str]
) -> None:
    reply = await (await serve()).request("GET", "/info", headers=headers)
    assert reply.status == 200
    assert reply.header("Access-Control-Allow-Origin") == "*"
    assert reply.header("Access-Control-Allow-Credentials") is None


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/info", "OPTIONS, GET"),
        ("/0/1/xhr", "OPTIONS, POST"),
        ("/0/1/xhr_streaming", "OPTIONS, POST"),
        ("/0/1/xhr_send", "OPTIONS, POST"),
    ],
)
async def test_preflight(serve: Serve, path: str, methods: str) -> None:
    served = await serve()
    headers = {"Origin": "http://a.example", "Access-Control-Request-Headers": "content-type"}
    reply = await served.request("OPTIONS", path, headers=headers)
    assert (reply.status, reply.body) == (204, b"")
    assert reply.header("Access-Control-Allow-Methods") == methods
    assert reply.header("Access-Control-Allow-Headers") == "content-type"
    assert reply.header("Access-Control-Allow-Origin") == "http://a.example"
    assert reply.header("Access-Control-Max-Age") == "31536000"
    assert reply.header("Cache-Control") == "public, max-age=31536000"
    assert parsedate_to_datetime(reply.header("Expires") or "")
    assert reply.header("Vary") == "Origin, Access-Control-Request-Headers"
    headers["Access-Control-Request-Headers"] = ""
    reply = await served.request("OPTIONS", path, headers=headers)
    assert reply.header("Access-Control-Allow-Headers") is None
    assert reply.header("Vary") == "Origin, Access-Control-Request-Headers"
    assert served.router.session_count == 0


IFRAME = """\
<!DOCTYPE html>
<html>
<head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
  <script src="https://x.example/sockjs.js?a=1&amp;b=2"></script>
  <script>
    try { document.domain = document.domain; } catch (e) {}
    SockJS.bootstrap_iframe();
  </script>
</head>
<body>
  <h2>Don't panic!</h2>
  <p>This is a SockJS hidden iframe. It's used for cross domain magic.</p>
</body>
</html>"""


@pytest.mark.parametrize(
    "path", ["/iframe.html", "/iframe-.html", "/iframe-a.b-1.html", "/iframe-a.html?t=1"]
)
async def test_iframe(serve: Serve, path: str) -> None:
    served = await serve(settings={"sockjs_url": "https://x.example/sockjs.js?a=1&b=2"})
    reply = await served.request("GET", path)
    assert (reply.status, reply.body.decode().strip()) == (200, IFRAME)
    assert reply.header("Content-Type") == "text/html; charset=UTF-8"
    assert reply.header("Cache-Control") == "public, max-age=31536000"
    assert parsedate_to_datetime(reply.header("Expires") or "")
    assert reply.header("Last-Modified") is None
    assert reply.header("Set-Cookie") is None
    assert reply.header("X-Content-Type-Options") == "nosniff"
    etag = reply.header("ETag")
    assert etag and etag.startswith('"')
    again = await served.request("GET", path, headers={"If-None-Match": f'"x", {etag}'})
    assert (again.status, again.body) == (304, b"")
    assert again.header("ETag") == etag
    assert again.header("Content-Type") is None
    other = await served.request("GET", path, headers={"If-None-Match": '"x"'})
    assert other.status == 200


async def test_iframe_runs_only_the_very_script_that_the_default_names(serve: Serve) -> None:
    require(SOCKJS_CLIENT.is_file(), "npm's sockjs-client")
    digest = base64.b64encode(hashlib.sha384(SOCKJS_CLIENT.read_bytes()).digest()).decode()
    page = (await (await serve()).request("GET", "/iframe.html")).body.decode()
    url = Settings.sockjs_url
    assert f'<script src="{url}" integrity="sha384-{digest}" crossorigin="anonymous"></scr' in page
    served = await serve(settings={"sockjs_url": url + "?"})
    assert b"integrity" not in (await served.request("GET", "/iframe.html")).body


async def test_iframe_may_only_be_embedded_by_allowed_origins(serve: Serve) -> None:
    name = "Content-Security-Policy"
    assert (await (await serve()).request("GET", "/iframe.html")).header(name) is None
    allowed = {"allow_jsonp_and_frames": True}
    origins = ["https://a.example", "null", "http://b:1"]
    served = await serve(settings={"origins": origins, **allowed})
    reply = await served.request("GET", "/iframe.html")
    assert reply.header(name) == "frame-ancestors https://a.example http://b:1"
    served = await serve(settings={"origins": ["null"], **allowed})
    reply = await served.request("GET", "/iframe.html")
    assert reply.header(name) == "frame-ancestors 'none'"


@pytest.mark.parametrize("path", SCRIPTS)
async def test_script_for_pages_is_cached_for_an_hour(serve: Serve, path: str) -> None:
    served = await serve(settings={"origins": ["https://good.example"]})
    # also for pages that tell nothing of themselves, and modules of others
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        reply = await served.request("GET", path, headers=headers)
        assert (reply.status, reply.header("Access-Control-Allow-Origin")) == (200, "*")
        assert reply.header("Vary") is None
    kind = "text/plain" if path.endswith(".d.mts") else "application/javascript"
    assert reply.header("Content-Type") == f"{kind}; charset=UTF-8"
    assert reply.header("X-Content-Type-Options") == "nosniff"
    assert reply.header("Cache-Control") == "public, max-age=3600"
    assert reply.header("Set-Cookie") is None
    etag = reply.header("ETag")
    again = await served.request("GET", path, headers={"If-None-Match": f"{etag}"})
    assert (again.status, again.body, again.header("ETag")) == (304, b"", etag)
    assert again.header("Access-Control-Allow-Origin") == "*"
    assert b"ReconnectingSockJS" in reply.body


async def test_script_for_pages_is_the_module_in_a_block(serve: Serve) -> None:
    served = await serve()
    module = (await served.request("GET", "/reconnecting-sockjs.mjs")).body
    script = (await served.request("GET", "/reconnecting-sockjs.js")).body
    code, _, names = module.rpartition(b"\nexport ")
    assert names == b"{ ReconnectingSockJS, ReconnectingSockJS as default };\n"
    assert script.startswith(b'"use strict";\n{\n' + code) and b"\nexport" not in script
    assert script.endswith(b"\nglobalThis.ReconnectingSockJS = ReconnectingSockJS;\n}\n")


async def test_disabled_transports_are_not_found(serve: Serve) -> None:
    disabled = ["websocket", "rawwebsocket", "xhr_streaming", "eventsource", "htmlfile", "jsonp"]
    served = await serve(settings={"disabled_transports": disabled})
    paths = ["/websocket", "/0/1/websocket", "/0/1/eventsource", "/0/1/htmlfile", "/0/1/jsonp"]
    for path in paths:
        assert (await served.request("GET", path)).status == 404
    for path in ["/0/1/xhr_streaming", "/0/1/jsonp_send"]:
        assert (await served.request("POST", path, b"")).status == 404
    assert await served.poll("/0/1") == b"o"


async def test_http_1_0_gets_pages(serve: Serve) -> None:
    served = await serve(Echo)
    reply = await served.request("GET", "", version="1.0")
    assert (reply.status, reply.body) == (200, b"Welcome to SockJS!\n")
    reply = await served.request("GET", "", version="1.0", headers={"Connection": "keep-alive"})
    assert (reply.status, reply.header("Connection")) == (200, "keep-alive")
