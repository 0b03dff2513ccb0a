"""Bodies that are announced: who is told to go on, and who is not."""

import pytest

from tests.conftest import Serve

HEAD = (
    b"POST /echo/000/a/xhr_send HTTP/1.%d\r\nHost: localhost\r\n"
    b"Content-Length: 4\r\nExpect: %b\r\n\r\n"
)


@pytest.mark.parametrize("expected", [b"100-continue", b"100-Continue"])
async def test_body_is_asked_for(serve: Serve, expected: bytes) -> None:
    served = await serve()
    assert await served.poll("/000/a") == b"o"
    wire = await served.wire()
    wire.writer.write(HEAD % (1, expected))
    assert (await wire.head()).status == 100
    wire.writer.write(b'["a"')
    assert (await wire.reply()).body == b"Broken JSON encoding."


async def test_http_1_0_knows_no_expectations(serve: Serve) -> None:
    served = await serve(lingering_time=0.1)
    wire = await served.wire()
    wire.writer.write(HEAD % (0, b"100-continue"))
    assert (await wire.reply()).status == 404


@pytest.mark.parametrize("expected", [b"dance", b"100-continue, dance", b"100\xc9\x9c", b"\xff"])
async def test_other_expectations_are_refused_without_repeating_them(
    serve: Serve, expected: bytes
) -> None:
    served = await serve(lingering_time=0.1)
    wire = await served.wire()
    wire.writer.write(HEAD % (1, expected))
    reply = await wire.reply()
    assert (reply.status, reply.body) == (417, b"417: Expectation Failed")
    assert (await served.request("GET", "/info")).status == 200
