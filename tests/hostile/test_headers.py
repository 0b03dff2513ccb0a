"""Header values made to get into the response, or to be taken for something else."""

from http.cookies import CookieError, Morsel

import pytest

from tests.cases import case
from tests.conftest import Echo, Recorder, Serve, Served
from tests.hostile.refusals import assert_aiohttp_refused
from tests.hostile.urls import OPENING, URLS, answered, started
from tests.log_check import logs
from tests.wire import Reply

STREAMS_AND_POLLS = [name for name in OPENING if name != "websocket"]
ALLOW = "Access-Control-Allow-"
INJECTED = ("set-cookie", "x-injected", "location", "content-encoding")


def assert_nothing_injected(reply: Reply, *, cookie: str | None = None) -> None:
    """Make sure that the only header in question is our cookie."""
    names = [name.lower() for name, _ in reply.headers]
    assert all(name not in names for name in INJECTED[1:])
    assert reply.header("Set-Cookie") == cookie


def lines(*fields: bytes, path: bytes = b"/echo/info", method: bytes = b"GET") -> bytes:
    """Make a request whose header lines are `fields`, byte for byte."""
    start = [method + b" " + path + b" HTTP/1.1", b"Host: localhost"]
    return b"\r\n".join([*start, *fields, b"", b""])


# JSESSIONID.

COOKIES = {
    # value echoed, or dummy
    "plain": ("JSESSIONID=abc.node1", "abc.node1"),
    "first-of-two": ("JSESSIONID=one; JSESSIONID=two", "one"),
    "first-that-is-plain": ('JSESSIONID="one"; JSESSIONID=two', "two"),
    "among-others": ("a=b;JSESSIONID=one;c=d", "one"),
    "blanks": ("a=b;   JSESSIONID=one   ; c=d", "one"),
    "7-KB": ("JSESSIONID=" + "x" * 7000, "x" * 7000),
    "equals-signs": ("JSESSIONID=a=b==", "a=b=="),
    "octal-CR-LF": ('JSESSIONID="\\015\\012Set-Cookie: x=1"', "dummy"),
    "octal-CR-LF-unquoted": ("JSESSIONID=\\015\\012x", "dummy"),
    "quotes": ('JSESSIONID="abc"', "dummy"),
    "half-a-quote": ('JSESSIONID="abc', "dummy"),
    "backslash": ("JSESSIONID=a\\b", "dummy"),
    "semicolon-in-quotes": ('JSESSIONID="a;Secure"', "dummy"),
    "attributes": ("JSESSIONID=a; Path=/evil; Domain=evil.example", "a"),
    "comma": ("JSESSIONID=a,b", "dummy"),
    "blank": ("JSESSIONID=a b", "dummy"),
    "tab": ("JSESSIONID=a\tb", "dummy"),
    "empty": ("JSESSIONID=", "dummy"),
    "no-value": ("JSESSIONID", "dummy"),
    "not-ASCII": ("JSESSIONID=\u00e4", "dummy"),
    "prefixed-name": ("XJSESSIONID=abc", "dummy"),
    "prefixed-name-with-hyphen": ("__Host-JSESSIONID=abc", "dummy"),
    "longer-name": ("JSESSIONIDX=abc", "dummy"),
    "name-in-lower-case": ("jsessionid=abc", "dummy"),
    "name-in-a-value": ("a=JSESSIONID=abc", "dummy"),
    "name-in-a-quoted-value": ('a="; JSESSIONID=abc"', "dummy"),
    "separators": (";" * 7000, "dummy"),
    "blanks-alone": ("; " * 3500, "dummy"),
    "element": ("JSESSIONID=<script>", "<script>"),
}


@pytest.mark.parametrize("transport", [name for name in URLS if name != "websocket"])
async def test_cookie_comes_back_only_if_it_is_plain(serve: Serve, transport: str) -> None:
    served = await serve(Echo, settings={"jsessionid": True})
    for name, (cookie, value) in COOKIES.items():
        if transport.endswith("_send"):
            assert await served.poll(f"/000/{name}") == b"o"
        wire, reply = await started(served, f"/000/{name}", transport, Cookie=cookie)
        assert reply.status in (200, 204), name
        assert_nothing_injected(reply, cookie=f"JSESSIONID={value}; Path=/")
        wire.close()


def cookies_refuse_controls() -> bool:
    """Tell whether Python leaves no control characters in cookies, as 3.14.8 does."""
    try:
        Morsel[str]().set("a", "\n", "\n")
    except CookieError:
        return True
    return False


COOKIES_REFUSE_CONTROLS = cookies_refuse_controls()


@pytest.mark.parametrize("transport", OPENING)
async def test_hooks_read_cookies_as_aiohttp_does_with_octal_escapes_undone(
    serve: Serve, transport: str
) -> None:
    class Noted(Recorder):
        async def on_open(self, info: object) -> None:
            self.seen.append(self.info.cookies.get("a", "left out"))

    served = await serve(Noted)
    cookie = 'a="\\015\\012Set-Cookie: x=1"; b='
    _, reply = await started(served, "/000/abcdefgh", transport, Cookie=cookie)
    assert reply.status in (101, 200)
    assert_nothing_injected(reply)
    await Noted.until("left out" if COOKIES_REFUSE_CONTROLS else "\r\nSet-Cookie: x=1")


@pytest.mark.parametrize("transport", STREAMS_AND_POLLS)
async def test_cookies_in_several_headers(serve: Serve, transport: str) -> None:
    served = await serve(Echo, settings={"jsessionid": True})
    method, url = URLS[transport]
    wire = await served.wire()
    fields = [b"Cookie: a=b", b"Cookie: JSESSIONID=one", b"Content-Length: 0"]
    path = f"/echo/000/abcdefgh{url}".encode()
    wire.writer.write(lines(*fields, path=path, method=method.encode()))
    reply = await wire.head()
    assert reply.status == 200
    assert (reply.header("Set-Cookie") or "") in (
        "JSESSIONID=dummy; Path=/",
        "JSESSIONID=one; Path=/",
    )


# CORS.

ODD_ORIGINS = {
    "latin-1": b"http://\xe4.example",
    "UTF-8": "http://\u00e4.example".encode(),
    "line-separator": "http://a.example\u2028x".encode(),
    "C1": b"http://a.example\xc2\x85Set-Cookie: x=1",
    "tab": b"http://a.example\tx",
}
ODD_BYTES = [b"x\xff", b"x\x80y", "x\u2028y".encode(), b"a\tb"]


async def test_origin_that_is_not_plain_is_not_echoed(serve: Serve) -> None:
    served = await serve(Echo)
    for name, origin in ODD_ORIGINS.items():
        with case(name):
            wire = await served.wire()
            wire.writer.write(lines(b"Origin: " + origin))
            reply = await wire.reply()
            assert reply.status == 200
            assert reply.header(ALLOW + "Origin") == "*"
            assert reply.header(ALLOW + "Credentials") is None
            assert_nothing_injected(reply)


async def test_requested_headers_that_are_not_plain_are_not_echoed(serve: Serve) -> None:
    served = await serve(Echo)
    for asked in ODD_BYTES:
        with case(asked):
            wire = await served.wire()
            fields = [b"Origin: http://a.example", b"Access-Control-Request-Headers: " + asked]
            wire.writer.write(lines(*fields, method=b"OPTIONS", path=b"/echo/000/abc/xhr"))
            reply = await wire.reply()
            assert reply.status == 204
            assert reply.header(ALLOW + "Headers") is None
            assert reply.header(ALLOW + "Origin") == "http://a.example"
            assert_nothing_injected(reply)


async def test_plain_origin_is_echoed_whole(serve: Serve) -> None:
    served = await serve(Echo)
    origins = ["null", "http://a.example", "<script>", "*", "a, b", "x" * 8000]
    for transport in ["xhr", "xhr_streaming", "eventsource", "xhr_send"]:
        for number, origin in enumerate(origins):
            session = f"/000/{transport}-{number}"
            with case((transport, origin[:20])):
                if transport.endswith("_send"):
                    assert await served.poll(session) == b"o"
                _, reply = await started(served, session, transport, Origin=origin)
                assert reply.header(ALLOW + "Origin") == origin
                assert reply.header(ALLOW + "Credentials") == "true"
                assert reply.header("Vary") == "Origin"


@pytest.mark.parametrize("transport", URLS)
async def test_null_is_an_origin_like_others(serve: Serve, transport: str) -> None:
    settings = {"origins": ["https://good.example"], "allow_jsonp_and_frames": True}
    for allowed in (False, True):
        if allowed:
            settings["origins"] = ["https://good.example", "null"]
        served = await serve(Echo, settings=settings)
        if transport.endswith("_send"):
            good = {"Origin": "https://good.example"}
            assert await served.poll("/000/abcdefgh", headers=good) == b"o"
        reply = await answered(served, "/000/abcdefgh", transport, Origin="null")
        assert reply.status in ((101, 200, 204) if allowed else (403,))
        if not allowed:
            assert reply.body == b"This origin is not allowed.\n"
            assert reply.header(ALLOW + "Origin") is None


CONTROLS = [b"\r", b"\n", b"\0", b"\x01", b"\x1b", b"\x7f", b"\n ", b"\r\n "]


@pytest.mark.logs("BadHttpMessage|InvalidHeader|BadStatusLine")
@pytest.mark.parametrize(
    "name", [b"Origin", b"Cookie", b"Access-Control-Request-Headers", b"X-Forwarded-For"]
)
async def test_control_characters_in_headers_get_aiohttps_own_400(
    serve: Serve, name: bytes
) -> None:
    served = await serve(Echo, settings={"jsessionid": True})
    for number, control in enumerate(CONTROLS):
        session = f"/000/abcdefg{number}"
        with case(control), logs("BadHttpMessage|InvalidHeader|BadStatusLine"):
            wire = await served.wire()
            field = name + b": JSESSIONID=a" + control + b"x"
            path = f"/echo{session}/eventsource".encode()
            wire.writer.write(lines(field, method=b"GET", path=path))
            reply = await wire.reply()
            assert_aiohttp_refused(reply)
            assert_nothing_injected(reply)
            assert await wire.is_closed()
            assert await served.poll(session) == b"o"


# Addresses.

JUNK = ["", ",", "<script>", "1.2.3.4\t", "999.1.1.1", "::1%eth0", "[::1]:80", "a" * 8000, "\u00e4"]


@pytest.mark.parametrize("transport", OPENING)
async def test_forwarded_addresses_count_for_nothing_by_themselves(
    serve: Serve, transport: str
) -> None:
    class Noted(Recorder):
        async def on_open(self, info: object) -> None:
            self.seen.append(self.info.ip)

    # all of them have the room of one address
    settings = {"max_sessions_per_ip": len(JUNK), "verify_ip": True}
    served = await serve(Noted, settings=settings)
    for number, junk in enumerate(JUNK, 1):
        with case(junk[:10]):
            headers = {"X-Forwarded-For": junk, "X-Real-IP": junk, "Forwarded": f"for={junk}"}
            _, reply = await started(served, f"/000/abcdefg{number}", transport, **headers)
            assert reply.status in (101, 200)
            await Noted.until("127.0.0.1", number)
    for junk in JUNK:
        with case(junk[:10]):
            headers = {"X-Forwarded-For": junk, "X-Real-IP": junk, "Forwarded": f"for={junk}"}
            refused = await answered(served, "/000/other", transport, **headers)
            assert (refused.status, refused.header("Retry-After")) == (429, "5")


ODD_HEADERS = {
    "referer": ("Referer", "http://[::1"),
    "referer-with-brackets": ("Referer", "http://]["),
    "fetch-site": ("Sec-Fetch-Site", "<script>"),
    "if-none-match": ("If-None-Match", '"' * 8000),
    "if-none-match-unfinished": ("If-None-Match", 'W/"'),
    "if-modified-since": ("If-Modified-Since", "\u00e4"),
    "range": ("Range", "bytes=0-0,-1,999999999999999999999-"),
    "accept": ("Accept", "text/html;q=" + "9" * 5000),
    "accept-encoding": ("Accept-Encoding", "gzip;q=x, \u00e4"),
    "method-override": ("X-HTTP-Method-Override", "DELETE"),
    "host-override": ("X-Forwarded-Host", "evil.example"),
    "authorization": ("Authorization", "Basic \u00e4"),
}


@pytest.mark.parametrize("origins", ["*", ["https://good.example"]], ids=["any", "restricted"])
async def test_headers_that_cannot_be_parsed_do_no_harm(serve: Serve, origins: object) -> None:
    settings = {"origins": origins, "allow_jsonp_and_frames": True}
    served = await serve(Echo, settings=settings)
    for odd, (name, value) in ODD_HEADERS.items():
        with case(odd):
            await assert_harmless(served, odd, name, value)


async def assert_harmless(served: Served, odd: str, name: str, value: str) -> None:
    """Make sure that no URL says or does anything new because of a header."""
    statuses = set()
    for transport in URLS:
        path = f"/000/{odd}-{transport}"
        reply = await answered(served, path, transport, **{name: value})
        statuses.add(reply.status)
        assert value.encode() not in reply.body
        assert_nothing_injected(reply)
    for path in ("", "/info", "/iframe.html"):
        reply = await served.request("GET", path, headers={name: value})
        statuses.add(reply.status)
        assert_nothing_injected(reply)
    assert statuses <= {101, 200, 204, 403, 404}
