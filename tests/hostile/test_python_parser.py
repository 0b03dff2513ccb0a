"""aiohttp's parser in Python, which serves where its extension in C cannot be built."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import async_timeout
import pytest

from tests.hostile.refusals import UNREADABLE, assert_refused
from tests.hostile.urls import URLS
from tests.ports import free_port
from tests.process import PATIENCE, ROOT
from tests.target import Target

SESSION = "/000/session"


class Server(Target):
    """The application in its own process."""

    process: asyncio.subprocess.Process

    async def end(self) -> str:
        """End it; return what it has written to its log."""
        self.process.terminate()
        async with async_timeout.timeout(PATIENCE):
            _, log = await self.process.communicate()
        return log.decode()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    served = Server(free_port(), "/echo")
    served.process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.run_app_service", str(served.port), "0", "0", "1", "0"),
        cwd=ROOT,
        env={**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"},
        stderr=asyncio.subprocess.PIPE,
    )
    await served.until_listening()
    yield served
    await served.hang_up()
    if served.process.returncode is None:
        served.process.kill()
        await served.process.communicate()


BROKEN = {
    "no size": (b"", b"zz\r\n"),
    "no size of the second chunk": (b"1\r\n[\r\n", b"zz\r\n"),
    "line feed alone": (b"", b"1\n"),
    "longer than it said": (b"1\r\n[", b"]]]]"),
    "bad trailer": (b"1\r\n[\r\n0\r\n", b"a trailer\r\n\r\n"),
}


async def test_chunks_that_turn_out_bad_behind_the_head_are_400(server: Server) -> None:
    for transport in ("xhr_send", "jsonp_send", "xhr", "xhr_streaming"):
        for number, (first, rest) in enumerate(BROKEN.values()):
            session = f"{SESSION}-{transport}-{number}"
            assert await server.poll(session) == b"o"
            wire = await server.wire()
            path = server.prefix + session + URLS[transport][1]
            expects = {"Expect": "100-continue"}  # tells when somebody reads
            wire.send("POST", path, headers={"Transfer-Encoding": "chunked", **expects})
            async with async_timeout.timeout(PATIENCE):
                assert (await wire.head()).status == 100
                wire.writer.write(first)
                await asyncio.sleep(0.05)
                wire.writer.write(rest)
                assert_refused(await wire.reply(), UNREADABLE)
                assert await wire.is_closed()
    assert "Traceback" not in await server.end()


async def test_chunks_that_nobody_reads_are_logged_by_the_parser_in_python(server: Server) -> None:
    """aiohttp reads what the handler has left, and takes the failure for an error of its own."""
    paths = ("/elsewhere", f"{server.prefix}{SESSION}/xhr_send", f"{server.prefix}/info")
    for path, status in zip(paths, (404, 404, 405), strict=True):
        wire = await server.wire()
        wire.send("POST", path, headers={"Transfer-Encoding": "chunked"})
        reply = await wire.reply()
        assert reply.status == status
        wire.writer.write(b"zz\r\n")
        assert await wire.is_closed()
    assert await server.poll(SESSION) == b"o"
    log = await server.end()
    assert log.count("Unhandled exception") == len(paths)
