"""Bodies that are announced: who is told to go on, and who is not."""

import asyncio
from pathlib import Path

import pytest

from tests.certificate import contexts, make_certificate
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


@pytest.mark.programs
@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize("expectation", [b"", b"Expect: 100-continue\r\n"])
async def test_client_that_leaves_before_its_body_leaves_nothing_in_the_log(
    serve: Serve, tmp_path: Path, expectation: bytes, is_tls: bool
) -> None:
    served = await serve(tls=contexts(make_certificate(tmp_path)) if is_tls else None)
    assert await served.poll("/000/a") == b"o"
    head = b"POST /echo/000/a/xhr_send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
    for turns in range(12):
        for how in ("close", "abort", "end_sending"):
            wire = await served.wire()
            wire.writer.write(head + expectation + b'\r\n["')
            for _ in range(turns):
                await asyncio.sleep(0)
            getattr(wire, how)()
            await asyncio.sleep(0.001)
            wire.abort()
    assert (await served.request("GET", "/info")).status == 200
