"""The grammar of the direct lane: what it takes has one meaning; everything else is aiohttp's."""

import pytest

from sockjs_aio.server.direct.grammar import (
    MAX_FIELD,
    MAX_FIELDS,
    MAX_HEAD,
    MAX_LINE,
    DirectRequest,
    Fields,
    Reader,
    SessionTarget,
    Start,
    read_path,
    read_target,
)

TARGET = "/echo/000/abc_-9/xhr_send"
LINE = f"POST {TARGET} HTTP/1.1"
HOST = "Host: localhost:8080"

BROWSER = (
    "Host: chat.example.com",
    "Connection: keep-alive",
    "Content-Length: 7",
    'sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"',
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
    "Content-Type: text/plain",
    "Accept: */*",
    "Origin: https://example.com",
    "Sec-Fetch-Site: same-site",
    "Referer: https://example.com/a?b=c",
    "Accept-Encoding: gzip, deflate, br",
    "Cookie: a=b; c=d",
    "X-Forwarded-For: 10.0.0.1, 10.0.0.2",
    "x-request-id: 1f-2",
)


def whole(*fields: str, line: str = LINE, body: bytes = b"") -> bytes:
    return "\r\n".join([line, *fields, "", ""]).encode("latin-1") + body


def parse(data: bytes) -> DirectRequest | None:
    return Reader().read(data)


def with_length(*fields: str, length: str = "0", line: str = LINE) -> bytes:
    return whole(HOST, f"Content-Length: {length}", *fields, line=line)


def test_request_of_a_browser_is_read() -> None:
    start = Start("POST", TARGET, SessionTarget("/echo", "abc_-9", "xhr_send"))
    fields = Fields(len(BROWSER), 7, "https://example.com")
    data = whole(*BROWSER, body=b'["a:b"]')
    assert parse(data) == DirectRequest(start, "", fields, b'["a:b"]')


def test_query_is_apart() -> None:
    request = parse(with_length(line=f"POST {TARGET}?t=1?/2 HTTP/1.1"))
    assert request is not None
    assert (request.start.path, request.query) == (TARGET, "?t=1?/2")


def test_reader_that_remembers_the_last_head_reads_the_same() -> None:
    heads = [
        with_length(),
        with_length("Origin: https://a.example"),
        with_length("Origin: https://a.example", line=f"POST {TARGET}?t=1 HTTP/1.1"),
        with_length("Expect: 100-continue"),
        with_length(line=f"PUT {TARGET} HTTP/1.1"),
        with_length(line=f"POST {TARGET} HTTP/1.0"),
        whole(HOST, line="GET /echo/info HTTP/1.1"),
    ]
    reader = Reader()
    for first in heads:
        for second in heads:
            assert reader.read(first) == parse(first)
            assert reader.read(second) == parse(second)


def test_get_has_no_body() -> None:
    line = "GET /echo/info?t=1 HTTP/1.1"
    assert parse(whole(HOST, line=line)) == DirectRequest(
        Start("GET", "/echo/info", None), "?t=1", Fields(1, None, None), b""
    )
    assert parse(whole(HOST, "Content-Length: 0", line=line)) is None


def test_names_of_headers_may_have_any_case() -> None:
    assert parse(whole("hOST: a", "CONTENT-LENGTH: 0", "CONNECTION: Keep-Alive")) is not None


def test_smallest_request_is_read_only_when_it_is_whole() -> None:
    data = whole(HOST, "Content-Length: 5", body=b'["a"]')
    assert parse(data) is not None
    for size in range(len(data)):
        assert parse(data[:size]) is None, data[:size]
    assert parse(data + b"\r") is None
    assert parse(data + data) is None


@pytest.mark.parametrize(
    "line",
    [
        f"POST {TARGET} HTTP/1.0",
        f"POST {TARGET} HTTP/1.2",
        f"POST {TARGET} HTTP/2.0",
        f"POST {TARGET}",
        f"post {TARGET} HTTP/1.1",
        f"PUT {TARGET} HTTP/1.1",
        f"OPTIONS {TARGET} HTTP/1.1",
        f" POST {TARGET} HTTP/1.1",
        f"POST  {TARGET} HTTP/1.1",
        f"POST {TARGET} HTTP/1.1 ",
        f"POST {TARGET}  HTTP/1.1",
        f"POST\t{TARGET} HTTP/1.1",
        f"\r\nPOST {TARGET} HTTP/1.1",
        f"POST http://localhost{TARGET} HTTP/1.1",
        f"POST {TARGET}#a HTTP/1.1",
        f"POST {TARGET}\x00 HTTP/1.1",
        f"POST {TARGET}\xe4 HTTP/1.1",
        f"POST {TARGET}\x7f HTTP/1.1",
        "POST * HTTP/1.1",
        f"POST {TARGET}?{'a' * MAX_LINE} HTTP/1.1",
    ],
)
def test_other_first_lines_are_aiohttps(line: str) -> None:
    assert parse(whole(HOST, "Content-Length: 0", line=line)) is None


@pytest.mark.parametrize(
    "field",
    [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Content-Encoding: gzip",
        "Expect: 100-continue",
        "Upgrade: websocket",
        "Connection: close",
        "Connection: Upgrade",
        "Connection: keep-alive, Upgrade",
        "Keep-Alive: timeout=5",
        "TE: trailers",
        "Trailer: a",
        "HTTP2-Settings: AAA",
        "Sec-WebSocket-Key: a",
        "Access-Control-Request-Headers: a",
        "Range: bytes=0-1",
        "Unheard-Of: a",
        # what is there already
        "Content-Length: 0",
        "content-length: 0",
        "Host: localhost:8080",
        # blanks and line ends
        " X-A: b",
        "X-A : b",
        "X-A:b",
        "X-A:  b",
        "X-A: b ",
        "X-A:",
        "X-A: ",
        "X-A: b\r\n c",
        "X-A: b\nContent-Length: 5",
        "X-A: b\rContent-Length: 5",
        "X-A: b\tc",
        "X-A",
        ": b",
        "",
        # characters
        "X-A: \x00",
        "X-A: \x7f",
        "X-A: \x85",
        "X-A: \xe4",
        "X-\xe4: a",
        "X-A\x00: a",
        "X-A_B: a",
        "X-: a",
        "X-A: " + "b" * MAX_FIELD,
    ],
)
def test_other_headers_are_aiohttps(field: str) -> None:
    assert parse(with_length("X-B: a")) is not None
    assert parse(with_length(field)) is None
    assert parse(whole(field, HOST, "Content-Length: 0")) is None


@pytest.mark.parametrize("name", ["Origin", "Cookie", "X-A", "User-Agent"])
def test_header_that_comes_twice_is_aiohttps(name: str) -> None:
    assert parse(with_length(f"{name}: a")) is not None
    assert parse(with_length(f"{name}: a", f"{name.upper()}: a")) is None


@pytest.mark.parametrize(
    "length", ["", "-0", "+0", "00", "0x0", "0,0", "0 ", "1", "a", "\u00b2", "100000000", "0.0"]
)
def test_other_lengths_are_aiohttps(length: str) -> None:
    assert parse(with_length(length="0")) is not None
    assert parse(with_length(length=length)) is None


def test_post_without_a_length_is_aiohttps() -> None:
    assert parse(whole(HOST)) is None


@pytest.mark.parametrize("host", ["localhost", "a.example:80", "127.0.0.1:8080", "[::1]:8080"])
def test_hosts_are_read(host: str) -> None:
    assert parse(whole(f"Host: {host}", "Content-Length: 0")) is not None


@pytest.mark.parametrize(
    "host", ["a b", "a/b", "a@b", "a,b", "a:b", "a:123456", "<a>", "[a", "%61"]
)
def test_odd_hosts_are_aiohttps(host: str) -> None:
    assert parse(whole(f"Host: {host}", "Content-Length: 0")) is None


def test_host_must_be_there() -> None:
    assert parse(whole("Content-Length: 0")) is None


def test_number_and_size_of_headers_are_limited() -> None:
    most = [f"X-{number}: a" for number in range(MAX_FIELDS - 2)]
    assert parse(with_length(*most)) is not None
    assert parse(with_length(*most, "X-A: a")) is None
    large = [f"X-{number}: {'a' * 1000}" for number in range(MAX_HEAD // 1000 + 1)]
    assert parse(with_length(*large[:-2])) is not None
    assert parse(with_length(*large)) is None


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/echo/000/abc/xhr", ("/echo", "abc", "xhr")),
        ("/000/abc/xhr_streaming", ("", "abc", "xhr_streaming")),
        ("/a/b~c/000/a-B_9/xhr_send", ("/a/b~c", "a-B_9", "xhr_send")),
    ],
)
def test_urls_of_sessions_are_read(path: str, parts: tuple[str, str, str]) -> None:
    assert read_path(path) == SessionTarget(*parts)


@pytest.mark.parametrize(
    "path",
    [
        "/000/xhr",
        "/echo//abc/xhr",
        "//000/abc/xhr",
        "/echo/000/abc/xhr/",
        "/echo/000/abc/",
        "/echo/0.0/abc/xhr",
        "/echo/000/a.c/xhr",
        "/echo/000/a%41/xhr",
        "/%65cho/000/abc/xhr",
        "/echo/000/abc;a=b/xhr",
        "/echo/000/abc/xhr?a",
        "/echo/000/abc/xhr\n",
        f"/echo/000/{'a' * 257}/xhr",
    ],
)
def test_other_urls_are_aiohttps(path: str) -> None:
    assert read_path(path) is None


@pytest.mark.parametrize("query", ["", "?t=1"])
def test_target_of_a_request_is_known_once_its_first_line_has_come(query: str) -> None:
    line = f"POST {TARGET}{query} HTTP/1.1"
    data = whole(*BROWSER, line=line, body=b'["a","]') + b"more"
    target = SessionTarget("/echo", "abc_-9", "xhr_send")
    ends = [end for end in range(len(data) + 1) if read_target(data[:end]) is not None]
    assert ends == list(range(len(line) + 2, len(data) + 1))
    assert {read_target(data[:end]) for end in ends} == {target}


@pytest.mark.parametrize(
    "line",
    [
        f"POST {TARGET} HTTP/1.0",
        f"POST {TARGET}",
        f"PUT {TARGET} HTTP/1.1",
        f"POST  {TARGET} HTTP/1.1",
        f" POST {TARGET} HTTP/1.1",
        f"POST {TARGET}#a HTTP/1.1",
        "POST /echo/000/%61bc/xhr_send HTTP/1.1",
        "GET /echo/info HTTP/1.1",
        "HTTP/1.1",
        "",
        "?",
        "POST " + "/a" * MAX_LINE + TARGET + " HTTP/1.1",
    ],
)
def test_other_lines_have_no_target(line: str) -> None:
    assert read_target(whole(HOST, line=line)) is None
