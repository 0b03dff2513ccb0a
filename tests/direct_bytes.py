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


# Handshakes.

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
NEEDED = (
    "Host: localhost",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)
AS_CHROME = (
    "Host: localhost:8080",
    "Connection: Upgrade",
    "Pragma: no-cache",
    "Cache-Control: no-cache",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
    "Upgrade: websocket",
    "Origin: http://localhost:8080",
    "Sec-WebSocket-Version: 13",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-US,en;q=0.9",
    'Cookie: user=ann; theme="dark"; JSESSIONID=dummy',
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
)
AS_FIREFOX = (
    "Host: localhost",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Accept: */*",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Sec-WebSocket-Version: 13",
    "Origin: http://localhost:8000",
    "Sec-WebSocket-Extensions: permessage-deflate",
    f"Sec-WebSocket-Key: {KEY}",
    "Connection: keep-alive, Upgrade",
    "Sec-Fetch-Dest: websocket",
    "Sec-Fetch-Mode: websocket",
    "Sec-Fetch-Site: same-site",
    "Pragma: no-cache",
    "Cache-Control: no-cache",
    "Upgrade: websocket",
)
BEHIND_HAPROXY = (
    "host: chat.example.com",
    "user-agent: Mozilla/5.0",
    f"sec-websocket-key: {KEY}",
    "sec-websocket-version: 13",
    "origin: https://chat.example.com",
    "x-forwarded-for: 10.0.0.1",
    "x-forwarded-proto: https",
    "forwarded: for=10.0.0.1;proto=https",
    "x-own: as it comes",
    "upgrade: websocket",
    "connection: upgrade",
)

SOCKET = f"{PATH}/websocket"
RAW = "/echo/websocket"


def get(path: str, *fields: str) -> bytes:
    """Make a request without a body."""
    return "\r\n".join([f"GET {path} HTTP/1.1", *fields, "", ""]).encode("latin-1")


def browser_handshake(path: str) -> bytes:
    """Make a handshake as Chrome does."""
    return get(path, *AS_CHROME)


def asking(*fields: str, without: str = " ", path: str = SOCKET) -> bytes:
    """Make a handshake with these headers besides those that it needs, or instead of one."""
    return get(path, *[line for line in NEEDED if not line.startswith(without)], *fields)


def text(payload: bytes) -> bytes:
    """Make a short text frame, with a mask that changes nothing."""
    return bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload


LEAVING = b"\x88\x82" + bytes(4) + b"\x03\xe8"

HANDSHAKES = {
    "Chrome": browser_handshake(SOCKET),
    "Chrome, raw": browser_handshake(RAW),
    "Firefox": get(SOCKET, *AS_FIREFOX),
    "behind HAProxy": get(SOCKET, *BEHIND_HAPROXY),
    "what is needed": asking(),
    "raw": asking(path=RAW),
    "query": asking(path=f"{SOCKET}?t=1&a=%20b?&c"),
    "empty query": asking(path=f"{SOCKET}?"),
    "raw with a query": asking(path=f"{RAW}?room=1"),
    "any case": asking("uPGRADE: WebSocket", without="Upgrade"),
    "other ids": asking(path="/echo/a_-9/B_-8/websocket"),
    "page of no origin": asking("Origin: null"),
    "authorization": asking("Authorization: Bearer abc"),
    "a message behind it": asking() + text(b'"a"'),
    "messages behind it": asking() + text(b'["b","c"]') + text(b'"d"'),
    "a raw message behind it": asking(path=RAW) + text(b"plain"),
    "its end behind it": asking() + text(b'"e"') + LEAVING,
    "garbage behind it": asking() + b"GET / HTTP/1.1\r\n\r\n",
    "broken JSON behind it": asking() + text(b"["),
    "many cookies": asking("Cookie: " + "; ".join(f"name{at}=value" for at in range(200))),
    "odd cookies": asking('Cookie: a; =b; c=; d="e;f"; a=g; h i=j; \\k=\\102'),
    "unknown family": asking("X-Whatever: (a, b); c"),
}
"""What is answered without aiohttp."""

ODD_HANDSHAKES = {
    "subprotocol": asking("Sec-WebSocket-Protocol: v12.stomp"),
    "version 8": asking("Sec-WebSocket-Version: 8", without="Sec-WebSocket-Version"),
    "two versions": asking("Sec-WebSocket-Version: 13"),
    "no version": asking(without="Sec-WebSocket-Version"),
    "no key": asking(without="Sec-WebSocket-Key"),
    "two keys": asking(f"Sec-WebSocket-Key: {KEY}"),
    "short key": asking("Sec-WebSocket-Key: YQ==", without="Sec-WebSocket-Key"),
    "long key": asking(f"Sec-WebSocket-Key: A{KEY}", without="Sec-WebSocket-Key"),
    "no upgrade": asking(without="Upgrade"),
    "other upgrade": asking("Upgrade: h2c", without="Upgrade"),
    "two upgrades": asking("Upgrade: websocket"),
    "upgrade list": asking("Upgrade: websocket, h2c", without="Upgrade"),
    "no connection": asking(without="Connection"),
    "closing": asking("Connection: close", without="Connection"),
    "keeping": asking("Connection: keep-alive", without="Connection"),
    "closing and upgrading": asking("Connection: close, Upgrade", without="Connection"),
    "two connections": asking("Connection: keep-alive"),
    "no host": asking(without="Host"),
    "two hosts": asking("Host: other"),
    "odd host": asking("Host: a b", without="Host"),
    "length": asking("Content-Length: 5") + b"hello",
    "no length": asking("Content-Length: 0"),
    "chunked": asking("Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "expecting": asking("Expect: 100-continue"),
    "page": asking("Sec-Fetch-Dest: document"),
    "image": asking("Sec-Fetch-Dest: image"),
    "HTTP/2 settings": asking("HTTP2-Settings: AAA"),
    "unheard of": asking("Unheard-Of: a"),
    "long extensions": asking("Sec-WebSocket-Extensions: " + "a" * 1025),
    "two origins": asking("Origin: https://a", "Origin: https://b"),
    "no blank": asking("X-A:b"),
    "two blanks": asking("X-A:  b"),
    "blank at the end": asking("X-A: b "),
    "blank before the colon": asking("X-A : b"),
    "empty": asking("X-A:"),
    "tab": asking("X-A: a\tb"),
    "folded": asking("X-A: b\r\n c"),
    "bare LF": asking("X-A: b").replace(b"\r\n", b"\n"),
    "bare LF in a header": asking("X-A: b\nX-B: c"),
    "bare CR in a header": asking("X-A: b\rX-B: c"),
    "bare LF at the end": asking()[:-2] + b"\n",
    "NUL": asking("X-A: \0"),
    "not ASCII": asking("X-A: \xe4"),
    "POST": asking().replace(b"GET", b"POST"),
    "HEAD": asking().replace(b"GET", b"HEAD"),
    "OPTIONS": asking().replace(b"GET", b"OPTIONS"),
    "lower case": asking().replace(b"GET", b"get"),
    "HTTP/1.0": asking().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.2": asking().replace(b"HTTP/1.1", b"HTTP/1.2"),
    "absolute": asking().replace(b"GET /", b"GET http://localhost/"),
    "fragment": asking(path=f"{SOCKET}#a"),
    "blank lines": b"\r\n\r\n" + asking(),
    "slash at the end": asking(path=f"{SOCKET}/"),
    "raw with a slash": asking(path=f"{RAW}/"),
    "two slashes": asking(path="/echo//SESSION/websocket"),
    "dots": asking(path="/echo/../echo/000/SESSION/websocket"),
    "dot": asking(path="/echo/./000/SESSION/websocket"),
    "raw with dots": asking(path="/echo/../echo/websocket"),
    "dot in an id": asking(path="/echo/000/SES.ION/websocket"),
    "escaped id": asking(path="/echo/000/%73ESSION/websocket"),
    "escaped prefix": asking(path="/ech%6f/000/SESSION/websocket"),
    "escaped transport": asking(path=f"{PATH}/web%73ocket"),
    "one id": asking(path="/echo/SESSION/websocket"),
    "no such service": asking(path="/other/000/SESSION/websocket"),
    "no such raw service": asking(path="/other/websocket"),
    "at the root": asking(path="/websocket"),
    "below": asking(path="/echo/000/SESSION/a/websocket"),
    "other transport": asking(path=f"{PATH}/xhr"),
    "long id": asking(path=f"/echo/000/{'a' * 257}/websocket"),
    "long line": asking(path=f"{SOCKET}?{'a' * 1000}"),
    "large header": asking("X-A: " + "a" * 5000),
    "too large header": asking("X-A: " + "a" * 9000),
    "many headers": asking(*[f"X-{at}: a" for at in range(60)]),
    "too many headers": asking(*[f"X-{at}: a" for at in range(140)]),
    "much in all": asking(*[f"X-{at}: {'a' * 1000}" for at in range(9)]),
    "half a head": asking()[:-40],
    "all but the last byte": asking()[:-1],
    "poll": POLL,
    "info": b"GET /echo/info HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "greeting": b"GET /echo/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "garbage": b"\0\0\r\n\r\n",
}
"""What aiohttp gets."""
