"""Request heads that are wrong, odd or large.  What aiohttp answers is pinned here."""

import pytest

from tests.conftest import Echo, Serve
from tests.hostile.raw_http import assert_last_words, assert_still_serves, exchange, head, logged
from tests.hostile.refusals import NO_ROUTE, assert_refused

GREETING = b"GET /echo/ HTTP/1.1"
WELCOME = b"Welcome to SockJS!\n"
LIMIT = 8190  # aiohttp's, of a line, and of a header

# What comes first on a connection and has no method is logged at DEBUG only.
WRONG = [
    logged("unknown-method", head(b"FROB /echo/000/a/xhr HTTP/1.1"), ""),
    logged("method-in-lower-case", head(b"post /echo/000/a/xhr HTTP/1.1"), ""),
    logged("no-method", head(b"/echo/ HTTP/1.1"), ""),
    logged("method-alone", b"GET\r\n\r\n", ""),
    logged("NULs", b"\0\0\0\0\r\n\r\n", ""),
    logged("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 40, ""),
    logged("HTTP-2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "BadHttpMessage"),
    logged("HTTP-1.2", head(b"GET /echo/ HTTP/1.2"), "BadStatusLine"),
    logged("HTTP-3.7", head(b"GET /echo/ HTTP/3.7"), "BadStatusLine"),
    logged("HTTP-x", head(b"GET /echo/ HTTP/x"), "BadStatusLine"),
    logged("other-protocol", head(b"GET /echo/ ICY/1.1"), "BadStatusLine|BadHttpMessage"),
    logged("no-host", b"GET /echo/ HTTP/1.1\r\n\r\n", "Missing 'Host'"),
    logged("two-hosts", head(GREETING, b"Host: b"), "Duplicate 'Host'"),
    logged("same-host-twice", head(GREETING, b"Host: localhost"), "Duplicate 'Host'"),
    # targets
    logged("authority", head(b"GET a.example:80 HTTP/1.1"), "InvalidURLError"),
    logged("asterisk", head(b"GET * HTTP/1.1"), "InvalidURLError"),
    logged("relative", head(b"GET echo/ HTTP/1.1"), "InvalidURLError"),
    logged("absolute-without-host", head(b"GET http:///echo/ HTTP/1.1"), "InvalidURLError"),
    logged("NUL-in-target", head(b"GET /echo/\0 HTTP/1.1"), "InvalidURLError"),
    logged("not-ASCII-target", head(b"GET /echo/\xff HTTP/1.1"), "InvalidURLError"),
    logged("not-ASCII-query", head(b"GET /echo/?\xc3\xa4 HTTP/1.1"), "InvalidURLError"),
    logged("tab-in-target", head(b"GET /echo/\t HTTP/1.1"), "InvalidURLError|BadStatusLine"),
    # line ends
    logged("LF-alone", b"GET /echo/ HTTP/1.1\nHost: a\n\n", "BadStatusLine"),
    logged("LF-at-the-end", b"GET /echo/ HTTP/1.1\r\nHost: a\r\n\n", "BadHttpMessage"),
    logged("LF-between", b"GET /echo/ HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "BadHttpMessage"),
    logged("CR-alone", b"GET /echo/ HTTP/1.1\rHost: a\r\r", "BadHttpMessage|BadStatusLine"),
    # headers
    logged("obs-fold", head(GREETING, b"X: a", b" b"), "BadHttpMessage"),
    logged("obs-fold-tab", head(GREETING, b"X: a", b"\tb"), "BadHttpMessage"),
    logged("blank-before-colon", head(GREETING, b"X : a"), "BadHttpMessage"),
    logged("blank-line-start", head(GREETING, b" X: a"), "BadHttpMessage"),
    logged("no-name", head(GREETING, b": a"), "BadHttpMessage"),
    logged("no-colon", head(GREETING, b"Xyz"), "BadHttpMessage"),
    logged("NUL-in-value", head(GREETING, b"X: a\0b"), "BadHttpMessage"),
    logged("control-in-name", head(GREETING, b"X\x01: a"), "BadHttpMessage"),
    logged("brackets-in-name", head(GREETING, b"<script>: a"), "BadHttpMessage"),
    # sizes
    logged("long-line", head(b"GET /echo/?" + b"a" * (LIMIT - 6) + b" HTTP/1.1"), "LineTooLong"),
    logged("long-value", head(GREETING, b"X: " + b"a" * (LIMIT + 1)), "LineTooLong"),
    logged("long-name", head(GREETING, b"a" * (LIMIT + 1) + b": x"), "LineTooLong"),
    logged("many-headers", head(GREETING, *[b"a: b"] * 128), "Too many headers"),
    logged("megabyte", head(b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1"), "LineTooLong"),
]


@pytest.mark.parametrize("data", WRONG)
async def test_wrong_head_gets_aiohttps_own_400_and_ends_the_connection(
    serve: Serve, data: bytes
) -> None:
    await assert_last_words(await serve(Echo), data)


@pytest.mark.logs("BadHttpMessage")
async def test_aiohttps_400_repeats_the_line_as_plain_text(serve: Serve) -> None:
    reply = await assert_last_words(await serve(Echo), head(GREETING, b"<script>: a"))
    assert b"<script>: a" in reply.body
    assert reply.header("X-Content-Type-Options") is None


@pytest.mark.logs("LineTooLong")
async def test_aiohttps_400_repeats_100_bytes_of_a_long_line(serve: Serve) -> None:
    reply = await assert_last_words(await serve(Echo), head(GREETING, b"X: " + b"a" * 9000))
    assert reply.body.count(b"a" * 100) == 1 and b"a" * 101 not in reply.body


@pytest.mark.logs("BadHttpMessage")
async def test_garbage_behind_connection_close_replaces_the_answer(serve: Serve) -> None:
    data = head(GREETING, b"Connection: close") + b"GET /echo/more HTTP/1.1\r\n\r\n"
    await assert_last_words(await serve(Echo), data)


# What passes.

FINE = {
    "longest-line": head(b"GET /echo/?" + b"a" * (LIMIT - 7) + b" HTTP/1.1"),
    "longest-value": head(GREETING, b"X: " + b"a" * LIMIT),
    "most-headers": head(GREETING, *[b"a: b"] * 127),
    "absolute-form": head(b"GET http://other.example/echo/ HTTP/1.1"),
    "absolute-form-of-any-scheme": head(b"GET ftp://other.example/echo/ HTTP/1.1"),
    "query": head(b"GET /echo/?a=b&%zz&<script> HTTP/1.1"),
    "empty-query": head(b"GET /echo/? HTTP/1.1"),
    "fragment": head(b"GET /echo/#frag HTTP/1.1"),
    "query-and-fragment": head(b"GET /echo/?a#b?c HTTP/1.1"),
    "blank-lines-first": b"\r\n\r\n" + head(GREETING),
    "two-blanks": head(b"GET  /echo/ HTTP/1.1"),
    "odd-host": b"GET /echo/ HTTP/1.1\r\nHost: a b<script>:99999\r\n\r\n",
    "empty-host": b"GET /echo/ HTTP/1.1\r\nHost:\r\n\r\n",
    "bytes-in-value": head(GREETING, b"X: \x80\xff"),
    "h2c": head(GREETING, b"Upgrade: h2c", b"Connection: Upgrade", b"HTTP2-Settings: AAA"),
    "unknown-connection-options": head(GREETING, b"Connection: <x>, host, content-length"),
}


@pytest.mark.parametrize("data", FINE.values(), ids=FINE)
async def test_odd_head_is_answered(serve: Serve, data: bytes) -> None:
    served = await serve(Echo)
    _, reply = await exchange(served, data)
    assert (reply.status, reply.body) == (200, WELCOME)
    await assert_still_serves(served)


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT a.example:443 HTTP/1.1",
        b"CONNECT /echo/000/abcdefgh/xhr HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET http://other.example HTTP/1.1",
        b"GET /ECHO/ HTTP/1.1",
        b"GET /%65cho%2F HTTP/1.1",
        b"GET //echo/ HTTP/1.1",
        b"GET /echo/../echo/info HTTP/1.1",
    ],
)
async def test_target_of_nobody_is_404(serve: Serve, line: bytes) -> None:
    served = await serve(Echo)
    _, reply = await exchange(served, head(line, b"Accept: text/html"))
    assert_refused(reply, NO_ROUTE)
    await assert_still_serves(served)


KNOWN = ["PROPFIND", "MKCOL", "REPORT", "M-SEARCH", "PURGE", "TRACE", "PATCH", "LINK", "SOURCE"]


@pytest.mark.parametrize("method", [*KNOWN, "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize("body", [b"", b"x" * 1000])
async def test_methods_that_a_session_does_not_know_are_405(
    serve: Serve, method: str, body: bytes
) -> None:
    served = await serve(Echo)
    wire = await served.wire()
    for url, allow in [
        ("xhr", "OPTIONS, POST"),
        ("xhr_send", "OPTIONS, POST"),
        ("eventsource", "GET"),
        ("websocket", "GET"),
    ]:
        path = f"/echo/000/abcdefgh/{url}"
        reply = await wire.request(method, path, body)
        assert (reply.status, reply.body, reply.header("Allow")) == (405, b"", allow)
    assert served.router.session_count == 0
    await assert_still_serves(served)


async def test_trace_repeats_nothing(serve: Serve) -> None:
    served = await serve(Echo)
    reply = await served.request("TRACE", "/info", headers={"Cookie": "secret=1"})
    assert (reply.status, reply.body) == (405, b"")
    assert not any("secret" in value for _, value in reply.headers)
