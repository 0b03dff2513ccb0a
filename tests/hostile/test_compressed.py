"""Bodies with Content-Encoding: limits hold for what comes out; unpacking ends there."""

import importlib.util
import sys
import zlib

import async_timeout
import pytest

from tests import clients
from tests.conftest import Serve, Served
from tests.hostile.payloads import SESSION, WAYS, Ending, Way, session_lives_on
from tests.hostile.refusals import (
    BROKEN,
    MISSING,
    NOT_FOUND,
    TOO_LARGE,
    UNKNOWN_SESSION,
    UNREADABLE,
    assert_aiohttp_refused,
    assert_refused,
)
from tests.wire import Reply, Wire

ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
FORMATS = {"gzip": 31, "deflate": 15, "raw deflate": -15}
ENCODINGS = list(FORMATS)
if sys.version_info >= (3, 14):  # aiohttp unpacks zstd then, with nothing else installed
    from compression import zstd

    ENCODINGS.append("zstd")
encodings = pytest.mark.parametrize("encoding", ENCODINGS)


def packed(data: bytes, encoding: str, *, times: int = 1) -> bytes:
    """Compress `data`, as if it came `times` times."""
    if sys.version_info >= (3, 14) and encoding == "zstd":
        return zstd.ZstdCompressor().compress(data * times, zstd.ZstdCompressor.FLUSH_BLOCK)
    packer = zlib.compressobj(9, wbits=FORMATS[encoding])
    first = packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)
    more = packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + more * (times - 1)


def whole(data: bytes, encoding: str) -> bytes:
    """Compress `data`, with all that belongs to the end."""
    if sys.version_info >= (3, 14) and encoding == "zstd":
        return zstd.compress(data)
    packer = zlib.compressobj(9, wbits=FORMATS[encoding])
    return packer.compress(data) + packer.flush()


def header(encoding: str) -> dict[str, str]:
    return {"Content-Encoding": encoding.removeprefix("raw ")}


async def sent(served: Served, path: str, body: bytes, **headers: str) -> tuple[Wire, Reply]:
    """Post `body` as the beginning of one that never ends."""
    wire = await served.wire()
    headers = {"Transfer-Encoding": "chunked", **headers}
    wire.send("POST", served.prefix + path, headers=headers)
    wire.writer.write(b"%x\r\n%b\r\n" % (len(body), body))
    return wire, await wire.reply()


@ways
@encodings
async def test_bomb_is_413_and_the_session_lives_on(serve: Serve, way: Way, encoding: str) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted)
    assert await served.poll(SESSION) == b"o"
    bomb = packed(b'["' + b" " * (1 << 20), encoding, times=50)
    assert len(bomb) < 1 << 17
    headers = header(encoding)
    reply = await served.request("POST", SESSION + way.url, bomb, headers=headers)
    assert_refused(reply, TOO_LARGE)
    await session_lives_on(served, Noted)


@encodings
async def test_bomb_in_a_bomb_is_unpacked_once(serve: Serve, encoding: str) -> None:
    served = await serve()
    assert await served.poll(SESSION) == b"o"
    inner = whole(b" " * (50 << 20), encoding)
    for name in (header(encoding)["Content-Encoding"], "gzip, gzip", "gzip, deflate"):
        bomb = inner if "," in name else whole(inner, encoding)
        headers = {"Content-Encoding": name}
        reply = await served.request("POST", SESSION + "/xhr_send", bomb, headers=headers)
        assert reply.status in (400, 500)
        assert_refused(reply, BROKEN if reply.status == 500 else UNREADABLE)
    assert await served.post(SESSION, '["next"]') == 204


# aiohttp reads on for 10 seconds after a response, and would unpack all of that.
UNREAD = [
    ("/000/abcdefgh/xhr_send", TOO_LARGE),
    ("/000/abcdefgh/jsonp_send", TOO_LARGE),
    ("/000/abcdefgh/xhr", TOO_LARGE),
    ("/000/abcdefgh/xhr_streaming", TOO_LARGE),
    ("/000/nobody/xhr_send", UNKNOWN_SESSION),
    ("/000/nobody/jsonp_send", UNKNOWN_SESSION),
    ("/000/" + "a" * 300 + "/xhr_send", NOT_FOUND),
]


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if "deflate" not in name])
@pytest.mark.parametrize(("path", "text"), UNREAD, ids=[path[:20] for path, _ in UNREAD])
async def test_bomb_that_goes_on_is_not_unpacked_further(
    serve: Serve, path: str, text: bytes, encoding: str
) -> None:
    served = await serve()
    assert await served.poll(SESSION) == b"o"
    bomb = packed(b" " * (1 << 20), encoding, times=50)
    wire, reply = await sent(served, path, bomb, **header(encoding))
    assert_refused(reply, text)
    async with async_timeout.timeout(5):
        assert await wire.is_closed()
    assert await served.post(SESSION, '["next"]') == 204


@pytest.mark.parametrize("path", ["/000/abcdefgh/xhr_send", "/info", "/000/abcdefgh/xhr"])
async def test_bomb_from_another_origin_is_not_unpacked(serve: Serve, path: str) -> None:
    served = await serve(settings={"origins": ["https://good.example"]})
    bomb = packed(b" " * (1 << 20), "gzip", times=50)
    headers = {**header("gzip"), "Origin": "https://evil.example"}
    wire, reply = await sent(served, path, bomb, **headers)
    assert reply.status == (405 if path == "/info" else 403)
    async with async_timeout.timeout(5):
        assert await wire.is_closed()


async def test_others_are_served_while_bombs_come(serve: Serve) -> None:
    served = await serve()
    assert await served.poll(SESSION) == b"o"
    client = await clients.WebSocket.open(served)
    bomb = packed(b" " * (1 << 20), "gzip", times=50)
    for number in range(10):
        wires = [
            (await sent(served, SESSION + "/xhr_send", bomb, **header("gzip")))[0] for _ in range(5)
        ]
        await client.send(f"{number}")
        assert await client.messages(1) == [f"{number}"]
        for wire in wires:
            wire.close()
    await client.leave()


# What is no bomb.


@ways
@encodings
async def test_compressed_payload_is_a_payload(serve: Serve, way: Way, encoding: str) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted)
    assert await served.poll(SESSION) == b"o"
    body = whole(b"d=%5B%22a%22%5D" if way.is_form else b'["a"]', encoding)
    headers = {**header(encoding), "Content-Type": way.content_type}
    reply = await served.request("POST", SESSION + way.url, body, headers=headers)
    assert reply.status in (200, 204)
    await session_lives_on(served, Noted, "a")


@ways
@pytest.mark.parametrize("encoding", ["identity", "nonsense", "compress", "", "x-gzip", "\u00e4"])
async def test_unknown_encodings_are_taken_for_none(serve: Serve, way: Way, encoding: str) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted)
    assert await served.poll(SESSION) == b"o"
    headers = {"Content-Encoding": encoding}
    assert (await way.post(served, b'["a"]', **headers)).status in (200, 204)
    await session_lives_on(served, Noted, "a")


@ways
@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if " " not in name])
async def test_broken_compression_is_400_and_the_session_lives_on(
    serve: Serve, way: Way, encoding: str
) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted)
    assert await served.poll(SESSION) == b"o"
    headers = {"Content-Encoding": encoding, "Content-Type": way.content_type}
    reply = await served.request("POST", SESSION + way.url, b"\xff" * 100, headers=headers)
    assert_refused(reply, UNREADABLE)
    await session_lives_on(served, Noted)


async def test_truncated_gzip_is_what_came_of_it(serve: Serve) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted)
    assert await served.poll(SESSION) == b"o"
    body = whole(b'["a"]', "gzip")
    headers = {"Content-Encoding": "gzip"}
    reply = await served.request("POST", SESSION + "/xhr_send", body[:5], headers=headers)
    assert_refused(reply, MISSING)
    reply = await served.request("POST", SESSION + "/xhr_send", body[:13], headers=headers)
    assert reply.status == 500
    await session_lives_on(served, Noted)


@pytest.mark.logs("ContentEncodingError")
async def test_truncated_deflate_gets_aiohttps_own_400(serve: Serve) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted)
    assert await served.poll(SESSION) == b"o"
    body = whole(b'["a"]', "deflate")[:-5]
    headers = {"Content-Encoding": "deflate"}
    assert_aiohttp_refused(
        await served.request("POST", SESSION + "/xhr_send", body, headers=headers)
    )
    await session_lives_on(served, Noted)


PACKERS = {"br": ["brotli", "brotlicffi"], "zstd": ["backports.zstd", "compression.zstd"]}


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@ways
@pytest.mark.logs("ContentEncodingError")
@pytest.mark.parametrize(
    "encoding", [name for name in PACKERS if not any(map(is_installed, PACKERS[name]))]
)
async def test_encodings_that_aiohttp_misses_a_package_for_get_its_own_400(
    serve: Serve, way: Way, encoding: str
) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted)
    assert await served.poll(SESSION) == b"o"
    reply = await way.post(served, b'["a"]', **{"Content-Encoding": encoding})
    assert_aiohttp_refused(reply)
    await session_lives_on(served, Noted)
