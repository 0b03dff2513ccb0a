"""Server and session ids: what may stand in a URL's path, and what may not."""

import pytest

from tests import clients
from tests.cases import case
from tests.conftest import Echo, Recorder, Serve
from tests.hostile.refusals import NO_ROUTE, NOT_FOUND, UNKNOWN_SESSION, assert_refused
from tests.hostile.urls import OPENING, URLS, answered
from tests.websocket_wire import HANDSHAKE

transports = pytest.mark.parametrize("transport", URLS)

REFUSED = {
    "dot": ".",
    "two-dots": "..",
    "inner-dot": "a.b",
    "encoded-dot": "a%2Eb",
    "encoded-dots": "%2e%2e",
    "encoded-slash": "a%2Fb",
    "encoded-slash-in-lower-case": "a%2fb",
    "slash-alone": "%2F",
    "path-upwards": "%2E%2E%2F%2E%2E%2Finfo",
    "NUL": "a%00b",
    "NUL-alone": "%00",
    "newline": "a%0Ab",
    "CR-LF": "a%0D%0ASet-Cookie:%20x=1",
    "escape": "%1B[2J",
    "DEL": "a%7F",
    "C1-control": "a%C2%9B2J",
    "next-line": "a%C2%85b",
    "line-separator": "a%E2%80%A8b",
    "paragraph-separator": "%E2%80%A9",
    "257-characters": "x" * 257,
    "257-when-encoded": "%78" * 85 + "xx",
    "4-KB": "x" * 4050,
    "4-KB-encoded": "%78" * 1350,
    "not-UTF-8": "%ff",
    "overlong-slash": "a%C0%AFb",
    "overlong-NUL": "%C0%80",
    "surrogate": "%ED%A0%80",
    "truncated": "a%E2%82",
    "latin-1": "%E4",
    "bad-escape": "%zz",
    "unfinished-escape": "a%2",
    "lone-percent-sign": "%",
    "slash-in-two-steps": "a%2%46b",
    "dot-in-two-steps": "%2%65",
}


@transports
async def test_bad_id_is_404_without_repeating_the_path(serve: Serve, transport: str) -> None:
    class Noted(Recorder):
        pass

    served = await serve(Noted)
    for bad in REFUSED.values():
        for path in (f"/000/{bad}", f"/{bad}/abcdefgh", f"/{bad}/{bad}"):
            reply = await answered(served, path, transport, Accept="text/html")
            assert_refused(reply, NO_ROUTE if reply.body == NO_ROUTE else NOT_FOUND)
            assert (served.router.session_count, Noted.seen) == (0, []), path
    assert await served.poll("/000/next") == b"o"


ORDINARY = {
    "__proto__": "__proto__",
    "constructor": "constructor",
    "hasOwnProperty": "hasOwnProperty",
    "dunder": "__class__",
    "format": "{0}",
    "percent-format": "%25s%25n",
    "template": "$%7Bx%7D",
    "blank": "%20",
    "blanks": "a%20b",
    "plus": "a+b",
    "encoded-plus": "a%2Bb",
    "double-encoded-slash": "a%252Fb",
    "double-encoded-dot": "%252E%252E",
    "double-encoded-NUL": "%2500",
    "percent-sign": "%25",
    "snowman": "%E2%98%83",
    "emoji": "%F0%9F%98%80",
    "full-width-slash": "a%EF%BC%8Fb",
    "one-dot-leader": "%E2%80%A4%E2%80%A4",
    "element": "%3Cscript%3E",
    "quotes": "%22'",
    "backslashes": "..%5C..%5Cinfo".replace(".", ""),
    "delimiters": "~!$&'()*+,;=:@",
    "256-characters": "x" * 256,
    "digits": "0",
    "name-of-a-transport": "xhr",
    "name-of-a-page": "info",
}


@pytest.mark.parametrize("odd", ORDINARY.values(), ids=ORDINARY)
async def test_odd_id_is_an_ordinary_session(serve: Serve, odd: str) -> None:
    for kind in clients.SOCKJS:
        served = await serve(Echo)
        client = kind(served, {})
        client.path = f"/{odd}/{odd}"
        await client.connect()
        assert await client.frame() == b"o", kind
        await client.send("a")
        assert await client.messages(1) == ["a"]
        assert served.router.session_count == 1
        await client.leave()


@pytest.mark.parametrize("transport", ["xhr_send", "jsonp_send"])
async def test_odd_id_of_no_session_is_404(serve: Serve, transport: str) -> None:
    served = await serve(Echo)
    for odd in ORDINARY.values():
        assert_refused(await answered(served, f"/000/{odd}", transport), UNKNOWN_SESSION)


async def test_ids_that_differ_are_different_sessions(serve: Serve) -> None:
    served = await serve(Echo)
    ids = ["a", "A", "%20a", "a%20", "a+", "a%2B%20", "%C3%A9", "e%CC%81", "%252F", "%25252F"]
    for session_id in ids:
        assert await served.poll(f"/000/{session_id}") == b"o"
    assert served.router.session_count == len(ids)
    for session_id in ids:
        assert await served.post(f"/000/{session_id}", '["x"]') == 204


@pytest.mark.parametrize(("first", "second"), [("abc", "%61bc"), ("%2b", "%2B"), ("a%7Eb", "a~b")])
async def test_spellings_of_one_id_are_one_session(serve: Serve, first: str, second: str) -> None:
    served = await serve(Echo)
    assert await served.poll(f"/000/{first}") == b"o"
    assert await served.post(f"/000/{second}", '["x"]') == 204
    assert await served.poll(f"/000/{first}") == b'a["x"]'


@pytest.mark.parametrize("transport", OPENING)
async def test_server_id_says_nothing(serve: Serve, transport: str) -> None:
    served = await serve(Echo)
    for server_id in ("000", "__proto__", "%20", "x" * 256):
        reply = await answered(served, f"/{server_id}/abcdefgh{server_id[-2:]}", transport)
        assert reply.status in (101, 200)


PATHS = [
    "/000/abc/nothing",
    "/000/abc/xhr%00",
    "/000/abc/XHR",
    "/000/abc/xhr/",
    "/000/abc/xhr/xhr",
    "/000/abc/%78hr%2F",
    "/000//xhr",
    "//abc/xhr",
    "///xhr",
    "/abc/xhr",
    "/000/abc/../xhr",
    "/000/abc/./xhr",
    "/%2e%2e/000/abc/xhr",
    "/<script>alert(1)</script>",
    "/%3Cscript%3E",
    "/000/abc/xhr;jsessionid=1",
    "/" + "a/" * 3000,
    "/" + "%2F" * 2000,
    "/" + "../" * 2000 + "etc/passwd",
]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
async def test_unknown_path_is_404_without_repeating_it(serve: Serve, method: str) -> None:
    served = await serve(Echo)
    headers = {**HANDSHAKE, "Accept": "text/html"} if method == "GET" else {"Accept": "text/html"}
    body = b"" if method == "POST" else None
    for path in PATHS:
        with case(path[:25]):
            reply = await served.request(method, path, body, headers=headers)
            assert_refused(reply, NO_ROUTE)
            assert served.router.session_count == 0
