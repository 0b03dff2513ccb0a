"""Sections "XhrPolling" and "JsonpPolling" of the protocol."""

import asyncio

import pytest

from sockjs_aio import ConnectionInfo
from tests.conftest import Echo, Recorder, Serve
from tests.transports.test_pages import NOT_CACHED


async def test_xhr_to_the_byte(serve: Serve) -> None:
    served = await serve(Echo)
    reply = await served.request("POST", "/0/1/xhr", b"", headers={"Origin": "http://a.example"})
    assert (reply.status, reply.body) == (200, b"o\n")
    assert reply.header("Content-Type") == "application/javascript; charset=UTF-8"
    assert reply.header("Cache-Control") == NOT_CACHED
    assert reply.header("Access-Control-Allow-Origin") == "http://a.example"
    assert reply.header("Access-Control-Allow-Credentials") == "true"
    assert await served.post("/0/1", '["a","b"]') == 204
    reply = await served.request("POST", "/0/1/xhr?t=1", b"whatever")
    assert reply.body == b'a["a","b"]\n'


async def test_jsonp_to_the_byte(serve: Serve) -> None:
    served = await serve(Echo)
    reply = await served.request("GET", "/0/1/jsonp?c=_jp.aXyZ12")
    assert (reply.status, reply.body) == (200, b'/**/_jp.aXyZ12("o");\r\n')
    assert reply.header("Content-Type") == "application/javascript; charset=UTF-8"
    assert reply.header("Cache-Control") == NOT_CACHED
    assert reply.header("X-Content-Type-Options") == "nosniff"
    assert await served.post("/0/1", '["</script>\\u2028%"]') == 204
    reply = await served.request("GET", "/0/1/jsonp?callback=x")
    assert reply.body == b'/**/x("a[\\"\\u003c/script>\\\\u2028%\\"]");\r\n'


@pytest.mark.parametrize("transport", ["jsonp", "htmlfile"])
@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", '"callback" parameter required'),
        ("?c=", '"callback" parameter required'),
        ("?c=%20", 'invalid "callback" parameter'),
        ("?c=a(b", 'invalid "callback" parameter'),
        ("?c=a%0A", 'invalid "callback" parameter'),
        ("?c=%C3%A9", 'invalid "callback" parameter'),
        ("?c=%EF%BC%A1", 'invalid "callback" parameter'),
        ("?c=" + "x" * 129, 'invalid "callback" parameter'),
    ],
)
async def test_unusable_callbacks_open_no_session(
    serve: Serve, transport: str, query: str, text: str
) -> None:
    served = await serve(Echo)
    reply = await served.request("GET", f"/0/1/{transport}{query}")
    assert (reply.status, reply.body.decode()) == (500, text)
    assert reply.header("Content-Type") == "text/plain; charset=UTF-8"
    assert served.router.session_count == 0


async def test_second_poll_gets_2010_and_the_first_goes_on(serve: Serve) -> None:
    served = await serve(Echo)
    assert await served.poll("/0/1") == b"o"
    first = asyncio.ensure_future(served.poll("/0/1"))
    await asyncio.sleep(0.05)
    assert await served.poll("/0/1") == b'c[2010,"Another connection still open"]'
    await served.post("/0/1", '["a"]')
    assert await first == b'a["a"]'


@pytest.mark.virtual_time
@pytest.mark.parametrize("cancellation", [True, False])
async def test_aborted_poll_is_1002_and_never_2010(serve: Serve, cancellation: bool) -> None:
    served = await serve(Echo, handler_cancellation=cancellation)
    for number in range(20):
        session = f"/0/{number}"
        assert await served.poll(session) == b"o"
        wire = await served.wire()
        wire.send("POST", f"/echo{session}/xhr", b"")
        await asyncio.sleep(0.002)
        wire.abort()
        await asyncio.sleep(0)
        assert await served.post(session, '["a"]') == 204  # nobody has told the client so far
        assert await served.poll(session) == b'c[1002,"Connection interrupted"]'
    assert await served.post(session, '["a"]') == 404


async def test_immediate_next_poll_never_meets_2010(serve: Serve) -> None:
    class Relay(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.send(message)

    served = await serve(Relay)
    wire, other = await served.wire(), await served.wire()
    assert (await wire.request("POST", "/echo/0/1/xhr", b"")).body == b"o\n"
    for number in range(300):
        wire.send("POST", "/echo/0/1/xhr", b"")
        assert (await other.request("POST", "/echo/0/1/xhr_send", f'["{number}"]')).status == 204
        assert (await wire.reply()).body == b'a["%d"]\n' % number
    wire.close()
    other.close()


async def test_waiting_poll_is_told_of_close_before_the_next_one(serve: Serve) -> None:
    class Closing(Recorder):
        pass

    served = await serve(Closing)
    assert await served.poll("/0/1") == b"o"
    first = asyncio.ensure_future(served.poll("/0/1"))
    await asyncio.sleep(0.02)
    Closing.connections[0].close(3001, "x")
    assert await served.poll("/0/1") == b'c[3001,"x"]'
    assert await first == b'c[3001,"x"]'
    assert await served.poll("/0/1") == b'c[3001,"x"]'


async def test_http_1_0_polls(serve: Serve) -> None:
    served = await serve(Echo)
    assert await served.poll("/0/1", version="1.0") == b"o"
    wire = await served.wire()
    headers = {"Connection": "keep-alive"}
    for number in range(3):
        await served.post("/0/1", f'["{number}"]')
        reply = await wire.request("POST", "/echo/0/1/xhr", b"", version="1.0", headers=headers)
        assert reply.body == b'a["%d"]\n' % number
    wire.close()


async def test_pipelined_polls_are_answered_in_order(serve: Serve) -> None:
    served = await serve(Echo)
    wire = await served.wire()
    wire.send("POST", "/echo/0/1/xhr", b"")
    wire.send("POST", "/echo/0/1/xhr_send", b'["a"]')
    wire.send("POST", "/echo/0/1/xhr", b"")
    assert [(await wire.reply()).body for _ in range(3)] == [b"o\n", b"", b'a["a"]\n']
    wire.close()


@pytest.mark.parametrize(
    "session_id", ["__proto__", "constructor", "%20", "a%20b", "~!$&'()*+,;=:@"]
)
async def test_odd_ids_are_ordinary(serve: Serve, session_id: str) -> None:
    served = await serve(Echo)
    assert await served.poll(f"/{session_id}/{session_id}") == b"o"
    assert await served.post(f"/other/{session_id}", '["a"]') == 204
    assert await served.poll(f"/{session_id}/{session_id}") == b'a["a"]'


async def test_poll_aborted_while_authorizing_leaves_nothing(serve: Serve) -> None:
    gate = asyncio.Event()

    async def authorize(request: object) -> bool:
        await gate.wait()
        return True

    class Noted(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await super().on_open(info)

    settings = {"disconnect_delay": 0.1, "session_check_interval": 0.02}
    served = await serve(Noted, settings=settings, authorize=authorize)
    wire = await served.wire()
    wire.send("POST", "/echo/0/1/xhr", b"")
    await asyncio.sleep(0.02)
    wire.abort()
    await asyncio.sleep(0.02)
    gate.set()
    assert served.router.session_count == 0
    assert Noted.seen == []
