"""WebSocket handshakes that are wrong, odd, cut off, or followed by what nobody expects."""

import asyncio
import base64

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio import ConnectionInfo
from tests.conftest import SHORT, Serve, Served
from tests.hostile.websocket import RAW, Watched, both, message, opened, reply, still_serves
from tests.websocket_wire import HANDSHAKE, close_code, close_frame, frame, masked
from tests.wire import Reply, Wire

INVALID = b"The WebSocket handshake is not valid.\n"
NO_UPGRADE = b'Can "Upgrade" only to "WebSocket".\n'
NO_CONNECTION = b'"Connection" must be "Upgrade".\n'

KEY = HANDSHAKE["Sec-WebSocket-Key"]
OTHER_KEY = base64.b64encode(bytes(16)).decode()


def request_head(
    path: str, *lines: str, without: str = "", version: str = "1.1", method: str = "GET"
) -> bytes:
    """Make a handshake: the usual headers but `without`, and `lines` besides."""
    headers = [f"{name}: {value}" for name, value in HANDSHAKE.items() if name != without]
    start = [f"{method} /echo{path} HTTP/{version}", "Host: localhost"]
    return "\r\n".join([*start, *headers, *lines, "", ""]).encode()


async def sent(served: Served, data: bytes) -> tuple[Wire, Reply]:
    """Write `data` to a new connection; return it and the reply, of a 101 the head."""
    wire = await served.wire()
    wire.writer.write(data)
    reply = await wire.head()
    if reply.status != 101 and (length := reply.header("Content-Length")):
        reply.body = await wire.reader.readexactly(int(length))
    return wire, reply


UPGRADE, CONNECTION = "Upgrade", "Connection"
VERSION, WS_KEY = "Sec-WebSocket-Version", "Sec-WebSocket-Key"
REFUSED = [
    (UPGRADE, [], NO_UPGRADE),
    (UPGRADE, ["Upgrade:"], NO_UPGRADE),
    (UPGRADE, ["Upgrade: h2c"], NO_UPGRADE),
    (UPGRADE, ["Upgrade: websocket, h2c"], NO_UPGRADE),
    (CONNECTION, [], NO_CONNECTION),
    (CONNECTION, ["Connection:"], NO_CONNECTION),
    (CONNECTION, ["Connection: keep-alive"], NO_CONNECTION),
    (CONNECTION, ["Connection: upgraded"], NO_CONNECTION),
    (WS_KEY, [], INVALID),
    (WS_KEY, ["Sec-WebSocket-Key:"], INVALID),
    (WS_KEY, ["Sec-WebSocket-Key: abcd"], INVALID),
    (WS_KEY, ["Sec-WebSocket-Key: ===="], INVALID),
    (WS_KEY, ["Sec-WebSocket-Key: é"], INVALID),
    (WS_KEY, [f"Sec-WebSocket-Key: !!!!{OTHER_KEY}"], INVALID),
    (WS_KEY, [f"Sec-WebSocket-Key: {base64.b64encode(bytes(15)).decode()}"], INVALID),
    (WS_KEY, [f"Sec-WebSocket-Key: {base64.b64encode(bytes(17)).decode()}"], INVALID),
    (WS_KEY, [f"Sec-WebSocket-Key: {'A' * 6000}"], INVALID),
    ("", [f"Sec-WebSocket-Key: {KEY}"], INVALID),
    ("", [f"Sec-WebSocket-Key: {OTHER_KEY}"], INVALID),
    ("", [f"Sec-WebSocket-Extensions: permessage-deflate; a={'9' * 5000}"], INVALID),
]


@both
@pytest.mark.parametrize(("without", "lines", "text"), REFUSED)
async def test_wrong_handshake_is_400_and_opens_no_session(
    serve: Serve,
    path: str,
    without: str,
    lines: list[str],
    text: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Noted(Watched):
        pass

    caplog.set_level("INFO")
    served = await serve(Noted)
    wire, answer = await sent(served, request_head(path, *lines, without=without))
    assert (answer.status, answer.body) == (400, text)
    assert answer.header("Content-Type") == "text/plain; charset=UTF-8"
    assert await wire.is_closed()
    assert caplog.messages == [], "no session was opened, so none is logged"
    await still_serves(served, path)
    assert Noted.seen == ["open", "next", "close"]


@both
@pytest.mark.parametrize(
    "lines", [[], [""], ["7"], ["8"], ["12"], ["14"], ["013"], ["13, 8"], ["x"], ["13", "8"]]
)
async def test_other_versions_are_told_the_one_that_is_spoken(
    serve: Serve, path: str, lines: list[str]
) -> None:
    served = await serve(Watched)
    versions = [f"{VERSION}: {line}" for line in lines]
    wire, answer = await sent(served, request_head(path, *versions, without=VERSION))
    assert (answer.status, answer.body) == (400, INVALID)
    assert answer.header(VERSION) == "13"
    assert await wire.is_closed()
    assert served.router.session_count == 0


@both
@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("Content-Length: 7", masked(1, b"a")),
        ("Transfer-Encoding: chunked", b"7\r\n%b\r\n0\r\n\r\n" % masked(1, b"a")),
    ],
)
@pytest.mark.parametrize("pause", [False, True])
async def test_handshake_with_a_body_is_400_lest_it_be_taken_for_frames(
    serve: Serve, path: str, line: str, body: bytes, pause: bool
) -> None:
    served = await serve(Watched)
    wire = await served.wire()
    wire.writer.write(request_head(path, line))
    if pause:
        await asyncio.sleep(0.01)
    wire.writer.write(body)
    answer = await wire.reply()
    assert (answer.status, answer.body) == (400, INVALID)
    assert await wire.is_closed()
    assert served.router.session_count == 0


@both
async def test_http_1_0_has_no_websockets(serve: Serve, path: str) -> None:
    wire, answer = await sent(await serve(Watched), request_head(path, version="1.0"))
    assert (answer.status, answer.body) == (400, INVALID)
    assert await wire.is_closed()


@both
@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "OPTIONS"])
async def test_handshakes_with_other_methods_are_405(serve: Serve, path: str, method: str) -> None:
    served = await serve(Watched)
    _, answer = await sent(served, request_head(path, method=method))
    assert (answer.status, answer.header("Allow"), answer.body) == (405, "GET", b"")
    assert served.router.session_count == 0


@both
async def test_other_origins_are_refused_before_the_upgrade(serve: Serve, path: str) -> None:
    served = await serve(Watched, settings={"origins": ["https://good.example"]})
    for origin in ("https://evil.example", "null", "https://good.example.evil.example", ""):
        _, answer = await sent(served, request_head(path, f"Origin: {origin}"))
        if origin:
            assert (answer.status, answer.body) == (403, b"This origin is not allowed.\n")
        else:
            assert answer.status == 101, "an empty one is none: no page's request has it"
    _, answer = await sent(served, request_head(path, "Origin: https://good.example"))
    assert answer.status == 101


@both
@pytest.mark.parametrize(
    ("without", "lines"),
    [
        (CONNECTION, ["Connection: keep-alive, Upgrade"]),
        (CONNECTION, ["Connection: keep-alive", "Connection: Upgrade"]),
        (UPGRADE, ["Upgrade: WebSocket"]),
        ("", ["Upgrade: websocket"]),
        ("", ["Content-Length: 0"]),
        ("", ["Sec-WebSocket-Extensions: ;;;,,,"]),
        ("", ["Sec-WebSocket-Extensions: permessage-deflate", "Sec-WebSocket-Extensions: x"]),
        ("", ["Sec-WebSocket-Extensions: é; permessage-deflate"]),
    ],
)
async def test_odd_handshakes_are_agreed_to_without_what_we_do_not_speak(
    serve: Serve, path: str, without: str, lines: list[str]
) -> None:
    wire, answer = await sent(await serve(Watched), request_head(path, *lines, without=without))
    assert answer.status == 101
    assert answer.header("Sec-WebSocket-Protocol") is None
    assert answer.header("Sec-WebSocket-Extensions") is None
    if path != RAW:
        assert await frame(wire) == (1, b"o")
    wire.writer.write(message(path, "a"))
    assert await frame(wire) == reply(path, "a")


@both
async def test_messages_in_the_packet_of_the_handshake_are_handled_after_on_open(
    serve: Serve, path: str
) -> None:
    class Slow(Watched):
        async def on_open(self, info: ConnectionInfo) -> None:
            await asyncio.sleep(0.05)
            await super().on_open(info)

    data = message(path, "a") + message(path, "b") + close_frame(4000)
    wire, answer = await sent(await serve(Slow), request_head(path) + data)
    assert answer.status == 101
    assert await close_code(wire) == 4000
    await Slow.until("close")
    assert Slow.seen == ["open", "a", "b", "close"]


@both
@pytest.mark.parametrize(
    "garbage", [b"\0" * 10, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0"]
)
async def test_garbage_in_the_packet_of_the_handshake_is_1002(
    serve: Serve, path: str, garbage: bytes
) -> None:
    class Noted(Watched):
        pass

    served = await serve(Noted)
    wire, answer = await sent(served, request_head(path) + garbage)
    assert answer.status == 101
    assert await close_code(wire) == 1002
    assert await wire.is_closed()
    wire.close()
    assert await Noted.end() == (1002, "error")
    await still_serves(served, path)


@both
async def test_garbage_behind_a_refused_handshake_is_not_answered(serve: Serve, path: str) -> None:
    served = await serve(Watched)
    data = request_head(path, without=WS_KEY) + masked(1, b'"a"') + request_head(path)
    wire, answer = await sent(served, data)
    assert answer.status == 400
    assert await wire.is_closed()


async def refuse(*_: object) -> None:
    raise web.HTTPForbidden


@both
@pytest.mark.parametrize("is_apart", [False, True], ids=["together", "apart"])
@pytest.mark.parametrize("by", ["origins", "authorize"])
async def test_frames_behind_a_refused_handshake_are_not_read_as_a_request(
    serve: Serve, path: str, by: str, is_apart: bool, caplog: pytest.LogCaptureFixture
) -> None:
    @web.middleware
    async def wait(request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.sleep(0.05 if is_apart else 0)  # the frames come meanwhile
        return await handler(request)

    served = await serve(
        Watched,
        settings={"origins": ["http://other.example"]} if by == "origins" else {},
        authorize=refuse if by == "authorize" else None,
        app=web.Application(middlewares=[wait]),
    )
    wire = await served.wire()
    wire.writer.write(request_head(path, "Origin: http://a.example"))
    if is_apart:
        await asyncio.sleep(0.01)
    wire.writer.write(masked(1, b'"a"') + bytes(100))
    answer = await wire.reply()
    assert (answer.status, answer.header("Connection")) == (403, "close")
    assert await wire.is_closed()
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("path", ["/info", "/", "/iframe.html"])
async def test_frames_behind_a_handshake_at_a_page_are_not_read_as_a_request(
    serve: Serve, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    wire, answer = await sent(await serve(Watched), request_head(path) + masked(1, b'"a"'))
    assert (answer.status, answer.header("Connection")) == (200, "close")
    assert await wire.is_closed()
    assert "Traceback" not in caplog.text


@pytest.mark.logs("Error handling request")
async def test_aiohttp_reads_frames_behind_a_handshake_at_other_urls_as_a_request(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve(Watched)
    wire, answer = await sent(served, request_head("/other") + masked(1, b'"a"'))
    assert answer.status == 404
    assert (await wire.reply()).status == 400
    assert await wire.is_closed()
    assert "BadHttpMethod" in caplog.text


STAGES = [
    "in the head",
    "while authorizing",
    "while opening",
    "idle",
    "in a frame",
    "in a message",
    "while a message is handled",
    "after its close frame",
    "after the server's close frame",
]


@both
@pytest.mark.parametrize("cancellation", [True, False])
@pytest.mark.parametrize("stage", STAGES)
async def test_reset_at_any_time_ends_the_session_once(
    serve: Serve, path: str, stage: str, cancellation: bool
) -> None:
    gate, here = asyncio.Event(), asyncio.Event()

    async def hold(name: str) -> None:
        if name == stage:
            here.set()
            await gate.wait()

    class Noted(Watched):
        async def on_open(self, info: ConnectionInfo) -> None:
            await super().on_open(info)
            await hold("while opening")

        async def on_message(self, message: str | bytes) -> None:
            await hold("while a message is handled")
            if message == "close":
                self.close(3001, "x")

    async def authorize(request: web.Request) -> bool:
        await hold("while authorizing")
        return True

    served = await serve(
        Noted, authorize=authorize, settings=SHORT, handler_cancellation=cancellation
    )
    wire = await served.wire()
    head = request_head(path)
    wire.writer.write(head[:50] if stage == "in the head" else head)
    if STAGES.index(stage) > STAGES.index("while authorizing"):
        assert (await wire.head()).status == 101
        await Noted.until("open")
        frames = {
            "in a frame": message(path, "cut")[:-3],
            "in a message": masked(1, b"[", fin=0),
            "while a message is handled": message(path, "a"),
            "after its close frame": close_frame(4000),
            "after the server's close frame": message(path, "close"),
        }
        wire.writer.write(frames.get(stage, b""))
    if "close frame" in stage:
        await close_code(wire)
    elif "while" in stage:
        await here.wait()
    else:
        await asyncio.sleep(0.02)
    wire.abort()
    await asyncio.sleep(0.02)
    gate.set()
    await served.until_empty()
    if STAGES.index(stage) < STAGES.index("while opening"):
        assert Noted.seen == []
        return
    assert Noted.seen == ["open", "close"]
    (info,) = Noted.ends
    ends = {"after its close frame": "client", "after the server's close frame": "server"}
    assert info.initiator == ends.get(stage, "network")
    await opened(served, path)
    await Noted.until("open", 2)
