"""Servers that answer anything but what they should: the client says what, and ends."""

import asyncio

import pytest

from sockjs_aio.client import ClientOptions, ConnectError, ConnectionClosedError, connect
from tests.client.scripted import CUT_OFF, INFO, response, scripted, stream, websocket_frame

PATIENT = ClientOptions(transport_timeout=20)
"""For tests of which transport is taken: this machine may be busy."""

OPEN = {
    "xhr": response(b"o\n"),
    "xhr_streaming": stream(b"h" * 2048 + b"\n", b"o\n"),
    "eventsource": stream(b"\r\n", b"data: o\r\n\r\n"),
    "htmlfile": stream(b"<script>head</script>\r\n\r\n", b'<script>\np("o");\n</script>\r\n'),
    "jsonp": response(b'/**/_jp.sockjs("o");\r\n'),
    "websocket": websocket_frame(b"o"),
}

BROKEN_FRAMES = [
    b"x",
    b"<html>502 Bad Gateway</html>",
    b"a",
    b"a[",
    b'a["a"',
    b"a[1",
    b"a[NaN]",
    b'a{"a": 1}',
    b'a["a"] ["b"]',
    b"a" + b"[" * 5000,
    b"a[" + b"9" * 5000 + b"]",
    b"m1,",
    b"c",
    b"c[]",
    b"c[3000]",
    b'c["3000","a"]',
    b"c[3000,1]",
    b'c[3000,"a"',
    b'c[99999999,"a"]',
    b'c[-1,"a"]',
    b"\xff\xfe",
    b'a["\xff"]',
]


def followed_by(name: str, frame: bytes) -> bytes | list[bytes]:
    """Return answers that open a session, and then send `frame`."""
    if name == "xhr":
        return [OPEN[name], response(frame + b"\n")]
    if name == "xhr_streaming":
        return OPEN[name] + b"%x\r\n%b\n\r\n" % (len(frame) + 1, frame)
    event = b"data: %b\r\n\r\n" % frame
    return OPEN[name] + b"%x\r\n%b\r\n" % (len(event), event)


@pytest.mark.parametrize("name", ["xhr", "xhr_streaming", "eventsource"])
async def test_broken_frames_are_named(name: str) -> None:
    for frame in BROKEN_FRAMES:
        async with scripted(**{name: followed_by(name, frame)}) as server:
            async with connect(server.url, transports=name) as socket:
                with pytest.raises(ConnectionClosedError, match="the server sent") as error:
                    await socket.receive()
            assert error.value.code == 1002, frame


async def test_broken_frames_on_a_websocket_are_named() -> None:
    for frame in BROKEN_FRAMES:
        if len(frame) > 125 or b"\xff" in frame:
            continue
        data = OPEN["websocket"] + websocket_frame(frame)
        async with scripted(websocket=data) as server:
            async with connect(server.url, transports="websocket") as socket:
                with pytest.raises(ConnectionClosedError, match="the server sent") as error:
                    await socket.receive()
            assert error.value.code == 1002, frame


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (websocket_frame(b"\xff"), 1007),
        (websocket_frame(b"a", 0xF1), 1002),  # reserved bits
        (websocket_frame(b"a", 0x8F), 1002),  # an opcode that there is not
        (b"\x81\x7f" + b"\xff" * 8, 1009),
        (websocket_frame(b'a["a"]', 0x82), 1003),  # bytes
        (websocket_frame(b"\x03\xe8", 0x88), 1000),
        (websocket_frame(b"", 0x88), 1005),
    ],
)
async def test_websockets_ends_have_their_codes(data: bytes, code: int) -> None:
    options = ClientOptions(close_timeout=0.1)
    async with scripted(websocket=OPEN["websocket"] + data) as server:
        async with connect(server.url, transports="websocket", options=options) as socket:
            with pytest.raises(ConnectionClosedError) as error:
                await socket.receive()
        assert error.value.code == code, error.value


@pytest.mark.parametrize(
    ("name", "answers", "message"),
    [
        ("xhr", [response(b"")], "without a frame"),
        ("xhr", [response(b"o")], "ends within a frame"),
        ("xhr", [response(b"o\n"), response(b"", "204 No Content")], "204 No Content"),
        ("xhr", [response(b"o\n"), response(b"", "302 Found", "Location: /\r\n")], "302 Found"),
        ("xhr", [response(b"o\n"), response(b"", "799 What")], "with 799"),
        ("xhr", [response(b"o\n"), b"\0\0\0\r\n\r\n"], "xhr|Bad|Expected|Invalid"),
        ("xhr", [response(b"o\n"), response(b"o\n")], "lost the session"),
        ("xhr", [response(b"o\n"), response(b"a" * 5000)], "more than 4000 bytes"),
        ("jsonp", [response(b'other("o");')], "does not call"),
        ("jsonp", [response(b"_jp.sockjs(o);")], "not a string"),
        ("jsonp", [response(b"_jp.sockjs(1);")], "not a string"),
        ("htmlfile", [stream(b"<script></script>", b"<script>q()</script>")], "a script"),
        ("htmlfile", [stream(b"<script></script>", b"<script>p(q)</script>")], "a script|string"),
        ("xhr_streaming", [stream(b"hh\no\n") + b"zz\r\n"], "."),
        ("xhr_streaming", [stream(b"hh\no\n", b"a[") + b"0\r\n\r\n"], "ends within a frame"),
        (
            "xhr",
            [response(b"o\n"), response(b"\0not gzip", head="Content-Encoding: gzip\r\n")],
            ".",
        ),
    ],
)
async def test_wrong_answers_are_named(name: str, answers: list[bytes], message: str) -> None:
    options = ClientOptions(max_frame_size=4000, open_timeout=2)
    async with scripted(**{name: answers}) as server:
        with pytest.raises((ConnectionClosedError, ConnectError), match=message):
            async with connect(server.url, transports=name, options=options) as socket:
                await socket.receive()


@pytest.mark.parametrize(
    ("answer", "message", "is_temporary"),
    [
        (response(b"", "404 Not Found"), "404 Not Found", False),
        (response(b"", "503 Service Unavailable"), "503 Service Unavailable", True),
        (response(b"<html>"), "not that of a SockJS server: '<html>'", False),
        (response(b"[1]"), "not that of a SockJS server", False),
        (response(b"[" * 60000), "not that of a SockJS server", False),
        (response(b" " * 100000), "not that of a SockJS server", False),
        (response(b'{"base_url": 1}'), "not that of a SockJS server", False),
        (response(b'{"base_url": "ftp://a"}'), "base_url cannot be used", False),
        (b"\0\0\0\r\n\r\n", "info", True),
    ],
)
async def test_wrong_info_is_named(answer: bytes, message: str, is_temporary: bool) -> None:
    async with scripted(info=answer) as server:
        with pytest.raises(ConnectError, match=message) as error:
            await connect(server.url + "?token=secret")
        assert "secret" not in str(error.value)
        assert error.value.is_temporary is is_temporary


@pytest.mark.virtual_time
@pytest.mark.not_over("uvloop")
@pytest.mark.parametrize(
    ("further", "message"),
    [
        ([response(b'a["3"]\n')], "1006 a response was cut off"),
        ([response(b"h\n")], "1006 a response was cut off"),
        ([response(b"")], "1006 a response was cut off"),
        ([b""], "1006 a response was cut off"),
        ([stream(b"") + CUT_OFF, response(b'a["3"]\n')], "1006 a response was cut off"),
        ([response(b'c[1002,"Connection interrupted"]\n')], "1002 Connection interrupted"),
        ([response(b"", "404 Not Found")], "1006 .*404"),
    ],
)
@pytest.mark.parametrize("name", ["xhr", "xhr_streaming"])
async def test_nothing_is_received_after_a_response_that_was_cut_off(
    name: str, further: list[bytes], message: str
) -> None:
    cut = stream(b'a["2",') + CUT_OFF
    answers = [response(b"o\n"), response(b'a["1"]\n'), cut, *further]
    async with (
        scripted(**{name: answers}) as server,
        connect(server.url, transports=name) as socket,
    ):
        assert await socket.receive() == "1"
        with pytest.raises(ConnectionClosedError, match=message):
            await socket.receive()


@pytest.mark.virtual_time
@pytest.mark.not_over("uvloop")
@pytest.mark.parametrize(
    ("further", "message"),
    [
        (b'/**/_jp.sockjs("c[1002,\\"Connection interrupted\\"]");', "1002 Connection interrupted"),
        (b'/**/_jp.sockjs("h");', "1006 a response was cut off"),
        (b"", "1006 a response was cut off"),
    ],
)
async def test_jsonp_response_that_was_cut_off_ends_the_connection(
    further: bytes, message: str
) -> None:
    cut = stream(b"/**/_jp.sockjs(") + CUT_OFF
    answers = [response(b'/**/_jp.sockjs("o");'), cut, response(further)]
    async with (
        scripted(jsonp=answers) as server,
        connect(server.url, transports="jsonp") as socket,
    ):
        with pytest.raises(ConnectionClosedError, match=message):
            await socket.receive()


async def test_headers_of_an_answer_that_was_cut_off_are_not_shown() -> None:
    # aiohttp has seen the whole head in one of them, and puts it into the text of its error
    head = b"HTTP/1.1 200 OK\r\nSet-Cookie: token=secret\r\n"
    for answer in (head + b"X", head + b"Transfer-Encoding: chunked\r\n\r\n"):
        answers = [OPEN["xhr"], answer + CUT_OFF]
        async with scripted(xhr=answers) as server, connect(server.url, transports="xhr") as socket:
            with pytest.raises(ConnectionClosedError) as error:
                await socket.receive()
        assert "secret" not in str(error.value)


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        ("404 Not Found", 1006, "does not know the session"),
        ("413 Content Too Large", 1009, "bytes are too many"),
        ("500 Internal Server Error", 1006, "500 Internal Server Error"),
    ],
)
async def test_refused_sends_end_the_connection(status: str, code: int, message: str) -> None:
    async with scripted(
        xhr_streaming=OPEN["xhr_streaming"], xhr_send=response(b"", status)
    ) as server:
        async with connect(server.url, transports="xhr_streaming") as socket:
            await socket.send("a")
            with pytest.raises(ConnectionClosedError, match=message) as error:
                await socket.receive()
        assert error.value.code == code
        assert server.requests.count("xhr_send") == 1


async def test_server_that_says_why_is_believed_rather_than_the_404_of_a_send() -> None:
    unknown = response(b"", "404 Not Found")
    async with (
        scripted(xhr=[OPEN["xhr"], b""], xhr_send=unknown) as server,
        connect(server.url, transports="xhr") as socket,
    ):
        await socket.send("a")
        while "xhr_send" not in server.requests:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)  # the 404 is there before the frame
        for writer in server.writers:
            writer.write(response(b'c[4001,"expired"]\n'))
        with pytest.raises(ConnectionClosedError, match="4001 expired"):
            await socket.receive()


async def test_old_servers_frames_of_one_message_are_known() -> None:
    async with (
        scripted(xhr=[OPEN["xhr"], response(b'm"old"\n'), response(b'c[1000,""]\n')]) as server,
        connect(server.url, transports="xhr") as socket,
    ):
        assert [message async for message in socket] == ["old"]


async def test_info_without_websockets_is_believed() -> None:
    info = INFO.replace(b"true", b"false")
    async with scripted(info=response(info), xhr_streaming=OPEN["xhr_streaming"]) as server:
        async with connect(server.url, options=PATIENT) as socket:
            assert socket.transport == "xhr_streaming"
        assert server.requests == ["info", "xhr_streaming"]


@pytest.mark.virtual_time
async def test_transports_that_fail_are_followed_by_the_next() -> None:
    refused = response(b"", "404 Not Found")
    silent = b""
    async with scripted(
        websocket=refused, xhr_streaming=silent, eventsource=OPEN["xhr"], xhr=OPEN["xhr"]
    ) as server:
        async with connect(server.url) as socket:
            assert socket.transport == "xhr"
        tried = [name for name in server.requests if name != "xhr"]
        assert tried == ["info", "websocket", "xhr_streaming", "eventsource", "htmlfile"]


async def test_all_failures_are_named() -> None:
    async with scripted(websocket=response(b"", "403 Forbidden"), xhr=response(b"x\n")) as server:
        with pytest.raises(ConnectError) as error:
            await connect(server.url, transports=["websocket", "xhr_streaming", "xhr"])
    assert "websocket: the server answered the handshake with 403 Forbidden" in str(error.value)
    assert "xhr_streaming: the server answered the xhr_streaming request with 404" in str(
        error.value
    )
    assert "xhr: the server sent something that is not a SockJS frame: 'x'" in str(error.value)


async def test_close_frame_instead_of_the_open_frame_is_raised() -> None:
    async with scripted(xhr=response(b'c[2010,"Another connection still open"]\n')) as server:
        with pytest.raises(ConnectionClosedError, match="2010 Another connection still open"):
            await connect(server.url, transports="xhr")
