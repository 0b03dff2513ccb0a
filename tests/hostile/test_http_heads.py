"""Request heads that are wrong, odd or large.  What aiohttp answers is pinned here."""

import pytest

from tests.cases import case
from tests.conftest import Echo, Serve
from tests.hostile.raw_http import (
    assert_last_words,
    assert_last_words_each,
    assert_still_serves,
    exchange,
    head,
)
from tests.hostile.refusals import NO_ROUTE, assert_refused

GREETING = b"GET /echo/ HTTP/1.1"
WELCOME = b"Welcome to SockJS!\n"
LIMIT = 8190  # aiohttp's, of a line, and of a header

# What comes first on a connection and has no method is logged at DEBUG only.
WRONG = [
    ("unknown-method", head(b"FROB /echo/000/a/xhr HTTP/1.1"), ""),
    ("method-in-lower-case", head(b"post /echo/000/a/xhr HTTP/1.1"), ""),
    ("no-method", head(b"/echo/ HTTP/1.1"), ""),
    ("method-alone", b"GET\r\n\r\n", ""),
    ("NULs", b"\0\0\0\0\r\n\r\n", ""),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 40, ""),
    ("HTTP-2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "BadHttpMessage"),
    ("HTTP-1.2", head(b"GET /echo/ HTTP/1.2"), "BadStatusLine"),
    ("HTTP-3.7", head(b"GET /echo/ HTTP/3.7"), "BadStatusLine"),
    ("HTTP-x", head(b"GET /echo/ HTTP/x"), "BadStatusLine"),
    ("other-protocol", head(b"GET /echo/ ICY/1.1"), "BadStatusLine|BadHttpMessage"),
    ("no-host", b"GET /echo/ HTTP/1.1\r\n\r\n", "Missing 'Host'"),
    ("two-hosts", head(GREETING, b"Host: b"), "Duplicate 'Host'"),
    ("same-host-twice", head(GREETING, b"Host: localhost"), "Duplicate 'Host'"),
    # targets
    ("authority", head(b"GET a.example:80 HTTP/1.1"), "InvalidURLError"),
    ("asterisk", head(b"GET * HTTP/1.1"), "InvalidURLError"),
    ("relative", head(b"GET echo/ HTTP/1.1"), "InvalidURLError"),
    ("absolute-without-host", head(b"GET http:///echo/ HTTP/1.1"), "InvalidURLError"),
    ("NUL-in-target", head(b"GET /echo/\0 HTTP/1.1"), "InvalidURLError"),
    ("not-ASCII-target", head(b"GET /echo/\xff HTTP/1.1"), "InvalidURLError"),
    ("not-ASCII-query", head(b"GET /echo/?\xc3\xa4 HTTP/1.1"), "InvalidURLError"),
    ("tab-in-target", head(b"GET /echo/\t HTTP/1.1"), "InvalidURLError|BadStatusLine"),
    # line ends
    ("LF-alone", b"GET /echo/ HTTP/1.1\nHost: a\n\n", "BadStatusLine"),
    ("LF-at-the-end", b"GET /echo/ HTTP/1.1\r\nHost: a\r\n\n", "BadHttpMessage"),
    ("LF-between", b"GET /echo/ HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "BadHttpMessage"),
    ("CR-alone", b"GET /echo/ HTTP/1.1\rHost: a\r\r", "BadHttpMessage|BadStatusLine"),
    # headers
    ("obs-fold", head(GREETING, b"X: a", b" b"), "BadHttpMessage"),
    ("obs-fold-tab", head(GREETING, b"X: a", b"\tb"), "BadHttpMessage"),
    ("blank-before-colon", head(GREETING, b"X : a"), "BadHttpMessage"),
    ("blank-line-start", head(GREETING, b" X: a"), "BadHttpMessage"),
    ("no-name", head(GREETING, b": a"), "BadHttpMessage"),
    ("no-colon", head(GREETING, b"Xyz"), "BadHttpMessage"),
    ("NUL-in-value", head(GREETING, b"X: a\0b"), "BadHttpMessage"),
    ("control-in-name", head(GREETING, b"X\x01: a"), "BadHttpMessage"),
    ("brackets-in-name", head(GREETING, b"<script>: a"), "BadHttpMessage"),
    # sizes
    ("long-line", head(b"GET /echo/?" + b"a" * (LIMIT - 6) + b" HTTP/1.1"), "LineTooLong"),
    ("long-value", head(GREETING, b"X: " + b"a" * (LIMIT + 1)), "LineTooLong"),
    ("long-name", head(GREETING, b"a" * (LIMIT + 1) + b": x"), "LineTooLong"),
    ("many-headers", head(GREETING, *[b"a: b"] * 128), "Too many headers"),
    ("megabyte", head(b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1"), "LineTooLong"),
]


@pytest.mark.logs("|".join(pattern for _, _, pattern in WRONG if pattern))
async def test_wrong_head_gets_aiohttps_own_400_and_ends_the_connection(serve: Serve) -> None:
    await assert_last_words_each(await serve(Echo), WRONG)


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


async def test_odd_head_is_answered(serve: Serve) -> None:
    served = await serve(Echo)
    for name, data in FINE.items():
        with case(name):
            _, reply = await exchange(served, data)
            assert (reply.status, reply.body) == (200, WELCOME)
            await assert_still_serves(served)


OF_NOBODY = [
    b"CONNECT a.example:443 HTTP/1.1",
    b"CONNECT /echo/000/abcdefgh/xhr HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"GET http://other.example HTTP/1.1",
    b"GET /ECHO/ HTTP/1.1",
    b"GET /%65cho%2F HTTP/1.1",
    b"GET //echo/ HTTP/1.1",
    b"GET /echo/../echo/info HTTP/1.1",
]


async def test_target_of_nobody_is_404(serve: Serve) -> None:
    served = await serve(Echo)
    for line in OF_NOBODY:
        with case(line):
            _, reply = await exchange(served, head(line, b"Accept: text/html"))
            assert_refused(reply, NO_ROUTE)
            await assert_still_serves(served)


KNOWN = ["PROPFIND", "MKCOL", "REPORT", "M-SEARCH", "PURGE", "TRACE", "PATCH", "LINK", "SOURCE"]


async def test_methods_that_a_session_does_not_know_are_405(serve: Serve) -> None:
    served = await serve(Echo)
    for method in [*KNOWN, "HEAD", "PUT", "DELETE"]:
        for body in (b"", b"x" * 1000):
            wire = await served.wire()
            for url, allow in [
                ("xhr", "OPTIONS, POST"),
                ("xhr_send", "OPTIONS, POST"),
                ("eventsource", "GET"),
                ("websocket", "GET"),
            ]:
                with case((method, url, len(body))):
                    reply = await wire.request(method, f"/echo/000/abcdefgh/{url}", body)
                    assert (reply.status, reply.body, reply.header("Allow")) == (405, b"", allow)
            assert served.router.session_count == 0
            wire.close()
    await assert_still_serves(served)


async def test_trace_repeats_nothing(serve: Serve) -> None:
    served = await serve(Echo)
    reply = await served.request("TRACE", "/info", headers={"Cookie": "secret=1"})
    assert (reply.status, reply.body) == (405, b"")
    assert not any("secret" in value for _, value in reply.headers)
