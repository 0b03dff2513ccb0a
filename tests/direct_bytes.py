"""Requests as bytes: those that the direct lane answers, and those that it leaves to aiohttp.

SESSION stands for a session's id.
"""

from tests.twins import post

PATH = "/echo/000/SESSION"
POLL = post(f"{PATH}/xhr")
STREAM = post(f"{PATH}/xhr_streaming")
SEND = post(f"{PATH}/xhr_send", b'["a"]')

HEAD = f"POST {PATH}/xhr_send HTTP/1.1\r\nHost: localhost\r\n"


def send(*fields: str, body: bytes = b'["b"]') -> bytes:
    """Make an xhr_send with these headers and no others but Host."""
    return (HEAD + "".join(f"{field}\r\n" for field in fields) + "\r\n").encode("latin-1") + body


AS_A_BROWSER = (
    "Connection: keep-alive",
    'sec-ch-ua: "Chromium";v="130"',
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
    "Content-Type: text/plain",
    "Accept: */*",
    "Origin: https://a.example",
    "Sec-Fetch-Site: cross-site",
    "Sec-Fetch-Mode: cors",
    "Referer: https://a.example/page",
    "Accept-Encoding: gzip, deflate, br",
    "Accept-Language: en-US,en;q=0.9",
    "X-Forwarded-For: 10.0.0.1, 10.0.0.2",
)

PLAIN = {
    "poll": POLL,
    "stream": STREAM,
    "send": SEND,
    "send two": post(f"{PATH}/xhr_send", b'["c", "d"]'),
    "send nothing": post(f"{PATH}/xhr_send", b"[]"),
    "poll with a query": post(f"{PATH}/xhr?t=1700000000000"),
    "poll with an origin": post(f"{PATH}/xhr", b"", "Origin: https://a.example"),
    "send with an origin": post(f"{PATH}/xhr_send", b'["e"]', "Origin: null", "Cookie: a=b"),
    "stream with an origin": post(f"{PATH}/xhr_streaming", b"", "Origin: https://a.example"),
    "events": f"GET {PATH}/eventsource HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
    "poll of a browser": post(f"{PATH}/xhr?t=1", b"", *AS_A_BROWSER),
    "send of a browser": post(f"{PATH}/xhr_send?t=2", b'["g"]', *AS_A_BROWSER),
    "stream of a browser": post(f"{PATH}/xhr_streaming?t=3", b"", *AS_A_BROWSER),
    "poll with a body": post(f"{PATH}/xhr", b"x" * 100),
}
"""What the lane answers."""

ODD = {
    "empty body": post(f"{PATH}/xhr_send"),
    "broken body": post(f"{PATH}/xhr_send", b'["a'),
    "not UTF-8": post(f"{PATH}/xhr_send", b'["\xff"]'),
    "no array": post(f"{PATH}/xhr_send", b'{"a": 1}'),
    "unknown session": post("/echo/000/nobody/xhr_send", b'["a"]'),
    "other prefix": post("/other/000/SESSION/xhr_send", b'["a"]'),
    "other server id": post("/echo/777/SESSION/xhr_send", b'["z"]'),
    "escaped id": post("/echo/000/%73ESSION/xhr", b""),
    "dots": post("/echo/../echo/000/SESSION/xhr", b""),
    "GET": f"GET {PATH}/xhr HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
    "info": b"GET /echo/info HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "greeting": b"GET /echo/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HEAD": b"HEAD /echo/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "preflight": f"OPTIONS {PATH}/xhr HTTP/1.1\r\nHost: a\r\nOrigin: https://b\r\n\r\n".encode(),
    "PUT": f"PUT {PATH}/xhr_send HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode(),
    "HTTP/1.0": SEND.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.0, kept": send("Connection: keep-alive", "Content-Length: 5").replace(b"1.1", b"1.0"),
    "lower case": SEND.replace(b"POST", b"post"),
    "absolute": SEND.replace(b"POST /", b"POST http://localhost/"),
    "closing": send("Content-Length: 5", "Connection: close"),
    "chunked": send("Transfer-Encoding: chunked", body=b'5\r\n["f"]\r\n0\r\n\r\n'),
    "chunked and length": send(
        "Content-Length: 5", "Transfer-Encoding: chunked", body=b'5\r\n["f"]\r\n0\r\n\r\n'
    ),
    "length and chunked": send(
        "Transfer-Encoding: chunked", "Content-Length: 15", body=b'5\r\n["f"]\r\n0\r\n\r\n'
    ),
    "obscure chunked": send(
        "Transfer-Encoding : chunked", "Content-Length: 15", body=b'5\r\n["f"]\r\n0\r\n\r\n'
    ),
    "two lengths": send("Content-Length: 5", "Content-Length: 5"),
    "two different lengths": send("Content-Length: 5", "Content-Length: 4"),
    "list of lengths": send("Content-Length: 5, 5"),
    "long length": send("Content-Length: 0005"),
    "signed length": send("Content-Length: +5"),
    "short length": send("Content-Length: 3"),
    "length without blank": send("Content-Length:5"),
    "length with tab": send("Content-Length:\t5"),
    "length with blank before colon": send("Content-Length : 5"),
    "folded": send("Content-Length: 5", "X-A: b\r\n c"),
    "folded length": send("Content-Length:\r\n 5"),
    "bare LF": send("Content-Length: 5").replace(b"\r\n", b"\n"),
    "bare LF in a header": send("X-A: b\nContent-Length: 5"),
    "bare CR in a header": send("X-A: b\rContent-Length: 5"),
    "NUL": send("Content-Length: 5", "X-A: \0"),
    "not ASCII": send("Content-Length: 5", "X-A: \xe4"),
    "expecting": send("Content-Length: 5", "Expect: 100-continue"),
    "upgrading": send("Content-Length: 5", "Upgrade: websocket", "Connection: Upgrade"),
    "compressed": send("Content-Length: 5", "Content-Encoding: gzip"),
    "two hosts": send("Content-Length: 5", "Host: other"),
    "odd host": SEND.replace(b"localhost", b"a b"),
    "no host": SEND.replace(b"Host: localhost\r\n", b""),
    "two origins": send("Content-Length: 5", "Origin: https://a", "Origin: https://b"),
    "asking headers": send("Content-Length: 5", "Access-Control-Request-Headers: x-a"),
    "request in a body": post(f"{PATH}/xhr_send", SEND),
    "request behind a GET": b"GET /echo/info HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
    + b"%d\r\n\r\n" % len(SEND)
    + SEND,
    "blank lines": b"\r\n\r\n" + SEND,
    "garbage": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "half a head": HEAD.encode(),
    "many headers": send("Content-Length: 5", *[f"X-{number}: a" for number in range(60)]),
    "too many headers": send("Content-Length: 5", *[f"X-{number}: a" for number in range(140)]),
    "large header": send("Content-Length: 5", "X-A: " + "a" * 6000),
    "too large header": send("Content-Length: 5", "X-A: " + "a" * 9000),
}
"""What it leaves to aiohttp."""

ALL = PLAIN | ODD
