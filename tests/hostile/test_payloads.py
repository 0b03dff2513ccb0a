"""Payloads that are no array of strings, on every transport that sends."""

import json

import async_timeout
import pytest

from tests import clients
from tests.cases import case
from tests.conftest import Echo, Serve
from tests.hostile.payloads import (
    BROKEN_JSON,
    NOT_UTF_8,
    PLAIN,
    SESSION,
    WAYS,
    XHR_SEND,
    Ending,
    Way,
    session_lives_on,
)
from tests.hostile.refusals import BROKEN, MISSING, TOO_LARGE, assert_refused
from tests.hostile.websocket import RAW, SOCKJS, Watched, opened, still_serves
from tests.websocket_wire import close_code, frame, masked

ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
LARGE = {"max_message_size": 1 << 24}


@ways
async def test_bad_payload_is_refused_whole_and_the_session_lives_on(
    serve: Serve, way: Way
) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted, settings=LARGE)
    for number, (name, payload) in enumerate([*BROKEN_JSON.items(), *NOT_UTF_8.items()]):
        with case(name):
            Noted.forget()
            session = f"/000/session{number}"
            assert await served.poll(session) == b"o"
            async with async_timeout.timeout(10):
                assert_refused(await way.post(served, payload, session), BROKEN)
            await session_lives_on(served, Noted, session=session)


async def test_bad_payload_ends_a_websocket_without_another_frame(serve: Serve) -> None:
    class Noted(Watched):
        pass

    served = await serve(Noted, settings=LARGE)
    for name, payload in BROKEN_JSON.items():
        with case(name):
            await served.until_empty()
            Noted.forget()
            wire = await opened(served, SOCKJS)
            wire.writer.write(masked(1, payload))
            async with async_timeout.timeout(10):
                assert await wire.is_closed()
            wire.close()
            assert await Noted.end() == (1007, "error")
            assert Noted.seen == ["open", "close"]
            await still_serves(served, SOCKJS)


@pytest.mark.parametrize("path", [SOCKJS, RAW])
async def test_text_that_is_not_utf_8_closes_a_websocket_with_1007(serve: Serve, path: str) -> None:
    class Noted(Watched):
        pass

    served = await serve(Noted)
    for name, payload in NOT_UTF_8.items():
        with case(name):
            await served.until_empty()
            Noted.forget()
            wire = await opened(served, path)
            wire.writer.write(masked(1, payload))
            assert await close_code(wire) == 1007
            wire.close()
            assert await Noted.end() == (1007, "error")
            assert Noted.seen == ["open", "close"]
            await still_serves(served, path)


async def test_raw_websocket_takes_whatever_is_text_as_it_is(serve: Serve) -> None:
    served = await serve(Echo, settings=LARGE)
    wire = await opened(served, RAW)
    for name, payload in BROKEN_JSON.items():
        with case(name):
            wire.writer.write(masked(1, payload))
            async with async_timeout.timeout(10):
                assert await frame(wire) == (1, payload)
    wire.close()


@ways
async def test_empty_payload_is_missing_and_the_session_lives_on(serve: Serve, way: Way) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted)
    assert await served.poll(SESSION) == b"o"
    assert_refused(await way.post(served, b""), MISSING)
    await session_lives_on(served, Noted)


MILLION = b"[" + b'"",' * 999_999 + b'""]'


@ways
@pytest.mark.parametrize("settings", [{}, LARGE], ids=["by-size", "by-number"])
async def test_million_empty_strings_are_413_and_the_session_lives_on(
    serve: Serve, way: Way, settings: dict[str, int]
) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted, settings=settings)
    assert await served.poll(SESSION) == b"o"
    async with async_timeout.timeout(20):
        assert_refused(await way.post(served, MILLION), TOO_LARGE)
    await session_lives_on(served, Noted)


@pytest.mark.parametrize("settings", [{}, LARGE], ids=["by-size", "by-number"])
async def test_million_empty_strings_close_a_websocket_with_1009(
    serve: Serve, settings: dict[str, int]
) -> None:
    class Noted(Watched):
        pass

    served = await serve(Noted, settings=settings)
    wire = await opened(served, SOCKJS)
    wire.writer.write(masked(1, MILLION))
    async with async_timeout.timeout(20):
        assert await close_code(wire) == 1009
    assert await Noted.end() == (1009, "error")
    assert Noted.seen == ["open", "close"]
    wire.close()
    await still_serves(served, SOCKJS)


async def test_others_are_served_between_bombs(serve: Serve) -> None:
    served = await serve(Echo)
    assert await served.poll(SESSION) == b"o"
    client = await clients.WebSocket.open(served)
    bombs = [BROKEN_JSON[name] for name in ("arrays", "digits", "flat-arrays", "flat-objects")]
    wires = [await served.wire() for _ in range(5)]
    for number in range(5):
        for wire, bomb in zip(wires, bombs * 2, strict=False):
            wire.send("POST", served.prefix + SESSION + "/xhr_send", bomb)
        await client.send(f"{number}")
        assert await client.messages(1) == [f"{number}"]
        for wire in wires:
            assert_refused(await wire.reply(), BROKEN)
    await client.leave()


# What looks odd and is fine.

ODD = {
    "escaped-NUL": (b'["a\\u0000b"]', ["a\0b"]),
    "lone-surrogates": (
        b'["\\ud800","\\udc00\\uD800","x\\udfff"]',
        ["\ud800", "\udc00\ud800", "x\udfff"],
    ),
    "surrogate-pair": (b'["\\ud83d\\ude00"]', ["\U0001f600"]),
    "surrogate-beside-its-pair": (b'["\\ud83d\\ud83d\\ude00\\ude00"]', ["\ud83d\U0001f600\ude00"]),
    "repeated-escapes": (b'["\\u0041\\u0041\\\\u0041\\\\\\u0041"]', ["AA\\u0041\\A"]),
    "solidus": (b'["\\/\\/<\\/script>"]', ["//</script>"]),
    "BOM-inside": (b'["\\ufeff\xef\xbb\xbf"]', ["\ufeff\ufeff"]),
    "noncharacters": ('["\ufffe\uffff\U0010ffff"]'.encode(), ["\ufffe\uffff\U0010ffff"]),
    "blanks-around": (b' \r\n\t[ "a" , "b" ]\r\n', ["a", "b"]),
    "DEL-and-C1": ('["\x7f\x80\x9f"]'.encode(), ["\x7f\x80\x9f"]),
}


@ways
async def test_odd_payload_is_echoed_over_http(serve: Serve, way: Way) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted)
    for number, (name, (payload, messages)) in enumerate(ODD.items()):
        with case(name):
            Noted.forget()
            session = f"/000/session{number}"
            assert await served.poll(session) == b"o"
            assert (await way.post(served, payload, session)).status in (200, 204)
            await session_lives_on(served, Noted, *messages, session=session)


@pytest.mark.parametrize("kind", clients.SOCKJS, ids=lambda kind: kind.name)
async def test_odd_payload_is_echoed_on_each_transport(
    serve: Serve, kind: type[clients.Client]
) -> None:
    client = await kind.open(await serve(Echo))
    for name, (payload, messages) in ODD.items():
        with case(name):
            assert await client.send_payload(payload) in (200, 204)
            assert await client.messages(len(messages)) == messages
    await client.leave()


# Content types.

ODD_TYPES = [
    "",
    ";",
    "/",
    "text/plain; charset=utf-16",
    "text/plain; charset=nonsense",
    'text/plain; charset="',
    "text/plain; charset*=utf-16''%41",
    "text/plain;1*",
    "text/plain;" + "(" * 8000,
    'text/plain; x="' + '"' * 8000,
    "text/plain;" + "x;" * 4000,
    "application/json",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "application/x-www-form-urlencoded-not",
    "\u00e4/\u00f6",
    "text/plain, application/x-www-form-urlencoded",
]


@pytest.mark.parametrize("way", [XHR_SEND, PLAIN], ids=lambda way: way.name)
async def test_content_type_and_charset_change_nothing(serve: Serve, way: Way) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted)
    payload = json.dumps(["\u00e4&d=+%41"], ensure_ascii=False).encode()
    for number, content_type in enumerate(ODD_TYPES):
        with case(content_type[:40]):
            Noted.forget()
            session = f"/000/session{number}"
            assert await served.poll(session) == b"o"
            headers = {"Content-Type": content_type}
            async with async_timeout.timeout(5):
                assert (await way.post(served, payload, session, **headers)).status in (200, 204)
                assert_refused(await way.post(served, b"broken", session, **headers), BROKEN)
            await session_lives_on(served, Noted, "\u00e4&d=+%41", session=session)
