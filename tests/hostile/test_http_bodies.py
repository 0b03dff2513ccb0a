"""Lengths that contradict each other, chunks that are none, and expectations."""

import async_timeout
import pytest

from tests.cases import case
from tests.conftest import Echo, Recorder, Serve
from tests.hostile.raw_http import (
    SESSION,
    assert_last_words_each,
    assert_still_serves,
    exchange,
    head,
    post,
)
from tests.hostile.refusals import BROKEN, MISSING, SLOW, TOO_LARGE, assert_refused
from tests.hostile.urls import URLS

CHUNKED = b"Transfer-Encoding: chunked"
END = b"0\r\n\r\n"
A = b'5\r\n["a"]\r\n'

WRONG = {
    "two-lengths": post(b"Content-Length: 5", b"Content-Length: 6") + b'["a"]',
    "same-length-twice": post(b"Content-Length: 5", b"Content-Length: 5") + b'["a"]',
    "list-of-lengths": post(b"Content-Length: 5, 5") + b'["a"]',
    "negative-length": post(b"Content-Length: -1"),
    "signed-length": post(b"Content-Length: +5") + b'["a"]',
    "hex-length": post(b"Content-Length: 0x5") + b'["a"]',
    "full-width-length": post("Content-Length: \uff15".encode()) + b'["a"]',
    "empty-length": post(b"Content-Length:"),
    "length-beyond-64-bits": post(b"Content-Length: " + b"9" * 30) + b'["a"]',
    "length-and-chunks": post(b"Content-Length: 5", CHUNKED) + A + END,
    "chunks-and-length": post(CHUNKED, b"Content-Length: 5") + A + END,
    "identity": post(b"Transfer-Encoding: identity") + b'["a"]',
    "chunked-not-last": post(b"Transfer-Encoding: chunked, identity") + A + END,
    "chunked-twice": post(CHUNKED, CHUNKED) + A + END,
    "chunked-like": post(b"Transfer-Encoding: xchunked") + A + END,
    "quoted-chunked": post(b'Transfer-Encoding: "chunked"') + A + END,
    "no-size": post(CHUNKED) + b'\r\n["a"]\r\n' + END,
    "no-hex-size": post(CHUNKED) + b'zz\r\n["a"]\r\n' + END,
    "negative-size": post(CHUNKED) + b'-5\r\n["a"]\r\n' + END,
    "0x-size": post(CHUNKED) + b'0x5\r\n["a"]\r\n' + END,
    "blank-before-size": post(CHUNKED) + b' 5\r\n["a"]\r\n' + END,
    "blank-behind-size": post(CHUNKED) + b'5 \r\n["a"]\r\n' + END,
    "size-beyond-64-bits": post(CHUNKED) + b"f" * 17 + b'\r\n["a"]\r\n' + END,
    "chunk-longer-than-said": post(CHUNKED) + b'4\r\n["a"]\r\n' + END,
    "LF-behind-size": post(CHUNKED) + b'5\n["a"]\r\n' + END,
    "LF-behind-extension": post(CHUNKED) + b'5;a\n["a"]\r\n' + END,
    "many-trailers": post(CHUNKED) + A + b"0\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
    "length-as-a-trailer": post(CHUNKED) + A + b"0\r\nContent-Length: 3\r\n\r\n",
    "bad-trailer": post(CHUNKED) + A + b"0\r\nX y\r\n\r\n",
}


EXCEPTIONS = "BadHttpMessage|Encoding"


@pytest.mark.logs(EXCEPTIONS)
async def test_length_that_cannot_be_told_gets_aiohttps_own_400_and_nothing_is_delivered(
    serve: Serve,
) -> None:
    wrong = [(name, data, EXCEPTIONS) for name, data in WRONG.items()]
    await assert_last_words_each(await serve(Echo), wrong)


FINE = {
    "chunks": post(CHUNKED) + b'2\r\n["\r\n3\r\na"]\r\n' + END,
    "chunked-in-capitals": post(b"transfer-encoding: CHUNKED") + A + END,
    "gzip-as-a-transfer-coding-is-ignored": post(b"Transfer-Encoding: gzip, chunked") + A + END,
    "leading-zeros": post(CHUNKED) + b'00000005\r\n["a"]\r\n000\r\n\r\n',
    "extensions": post(CHUNKED) + b'5;a=b;c="d;e"\r\n["a"]\r\n0;x\r\n\r\n',
    "long-extension": post(CHUNKED) + b"5;" + b"a" * 20_000 + b'\r\n["a"]\r\n' + END,
    "trailers": post(CHUNKED) + A + b"0\r\nX: y\r\nOrigin: evil\r\n\r\n",
    "leading-zeros-of-a-length": post(b"Content-Length: 0005") + b'["a"]',
    "one-byte-chunks": post(CHUNKED) + b"".join(b"1\r\n%c\r\n" % c for c in b'["a"]') + END,
}


async def test_odd_body_is_read(serve: Serve) -> None:
    served = await serve(Echo)
    assert await served.poll(SESSION) == b"o"
    for name, data in FINE.items():
        with case(name):
            wire, reply = await exchange(served, data + post(b"Content-Length: 5") + b'["b"]')
            assert reply.status == 204
            if b"chunked" in data.lower():
                assert await wire.is_closed(), "see below"
                assert await served.poll(SESSION) == b'a["a"]'
            else:
                assert (await wire.reply()).status == 204, "the next one begins where this one ends"
                assert await served.poll(SESSION) == b'a["a","b"]'
            await assert_still_serves(served)


TRAILERS = b"0\r\nX-First: 1\r\nX-Last: 2\r\n\r\n"


async def test_nothing_follows_chunks_on_a_connection(serve: Serve) -> None:
    """The next request may be somebody else's, behind a proxy, and would get the last trailer."""

    class Noted(Recorder):
        pass

    served = await serve(Noted, settings={"response_limit": 1})
    next_one = head(b"POST /echo/000/next/xhr HTTP/1.1", b"Content-Length: 0")
    urls = [f"000/{name}/{name}" for name in ("xhr", "xhr_streaming", "xhr_send", "jsonp_send")]
    for url in [*urls, "info"]:
        with case(url):
            first = head(b"POST /echo/%b HTTP/1.1" % url.encode(), CHUNKED)
            wire = await served.wire()
            wire.writer.write(first + A + TRAILERS + next_one)
            assert (await wire.reader.read()).count(b"HTTP/1.1 ") == 1
            assert all(x.session.id != "next" for x in Noted.connections)


async def test_body_behind_the_end_is_the_next_request(serve: Serve) -> None:
    served = await serve(Echo)
    assert await served.poll(SESSION) == b"o"
    smuggled = post(b"Content-Length: 5") + b'["b"]'
    data = post(b"Content-Length: %d" % len(smuggled)) + smuggled
    _, reply = await exchange(served, data)
    assert_refused(reply, BROKEN)
    await assert_still_serves(served)


async def test_announced_length_beyond_the_limit_is_413_at_once(serve: Serve) -> None:
    served = await serve(Echo)
    assert await served.poll(SESSION) == b"o"
    for transport in ["xhr_send", "jsonp_send", "xhr", "xhr_streaming"]:
        for length in [b"1048577", b"9999999999", b"4611686018427387904"]:
            with case((transport, length)):
                line = f"POST /echo{SESSION}/{transport} HTTP/1.1".encode()
                _, reply = await exchange(served, head(line, b"Content-Length: " + length))
                assert_refused(reply, TOO_LARGE)
                await assert_still_serves(served)


async def test_endless_chunks_are_413(serve: Serve) -> None:
    served = await serve(Echo)
    assert await served.poll(SESSION) == b"o"
    data = post(CHUNKED) + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 20
    _, reply = await exchange(served, data)
    assert_refused(reply, TOO_LARGE)
    await assert_still_serves(served)


async def test_no_length_is_no_body(serve: Serve) -> None:
    served = await serve(Echo)
    assert await served.poll(SESSION) == b"o"
    _, reply = await exchange(served, post())
    assert_refused(reply, MISSING)
    await assert_still_serves(served)


async def test_chunk_that_turns_out_bad_behind_the_head_is_408_after_receive_timeout(
    serve: Serve,
) -> None:
    """aiohttp does not tell the handler that waits for the body."""
    served = await serve(Echo, settings={"receive_timeout": 0.2}, lingering_time=0.2)
    assert await served.poll(SESSION) == b"o"
    wire = await served.wire()
    wire.writer.write(post(CHUNKED, b"Expect: 100-continue"))
    async with async_timeout.timeout(5):
        assert (await wire.head()).status == 100
        wire.writer.write(b"zz\r\n")
        assert_refused(await wire.reply(), SLOW)
        assert await wire.is_closed()
    await assert_still_serves(served)


# Expect.


async def test_100_continue_comes_before_the_204(serve: Serve) -> None:
    served = await serve(Echo)
    assert await served.poll(SESSION) == b"o"
    wire = await served.wire()
    for _ in range(2):
        wire.writer.write(post(b"Content-Length: 5", b"Expect: 100-continue"))
        interim = await wire.head()
        assert (interim.status, interim.headers) == (100, [])
        wire.writer.write(b'["a"]')
        reply = await wire.head()
        assert (reply.status, reply.header("Content-Type")) == (204, "text/plain; charset=UTF-8")
    assert await served.poll(SESSION) == b'a["a","a"]'


async def test_100_continue_on_every_url_that_may_have_a_body(serve: Serve) -> None:
    served = await serve(Echo)
    for transport in [name for name in URLS if name != "websocket"]:
        session = f"/000/{transport}"
        if transport.endswith("_send"):
            assert await served.poll(session) == b"o"
        method, url = URLS[transport]
        wire = await served.wire()
        line = f"{method} /echo{session}{url} HTTP/1.1".encode()
        wire.writer.write(head(line, b"Content-Length: 5", b"Expect: 100-continue"))
        with case(transport):
            async with async_timeout.timeout(5):
                assert (await wire.head()).status == 100
                wire.writer.write(b'["a"]')
                assert (await wire.head()).status in (200, 204)


async def test_other_expectations_are_417_on_every_url_and_not_repeated(serve: Serve) -> None:
    served = await serve(Echo)
    for method, url in URLS.values():
        for expected in ["dance", "<script>", "100-continue, x", "\u00e4"]:
            with case((url, expected)):
                body = b"" if method == "POST" else None
                headers = {"Expect": expected}
                reply = await served.request(method, SESSION + url, body, headers=headers)
                assert (reply.status, reply.body) == (417, b"417: Expectation Failed")
                assert reply.header("Content-Type") == "text/plain; charset=utf-8"
                assert served.router.session_count == 0
                assert (await served.request("GET", "/")).status == 200


async def test_aiohttp_repeats_unknown_expectations_on_urls_of_nobody(serve: Serve) -> None:
    served = await serve(Echo)
    reply = await served.request("GET", "/nothing/here", headers={"Expect": "<script>"})
    assert (reply.status, reply.body) == (417, b"Unknown Expect: <script>")
    assert reply.header("Content-Type") == "text/plain; charset=utf-8"
