"""Requests as bytes, of which HTTP lets some be sent and others not."""

from collections.abc import Iterable

import async_timeout

from tests.cases import case
from tests.conftest import Served
from tests.hostile.refusals import assert_aiohttp_refused
from tests.log_check import logs
from tests.wire import Reply, Wire

SEND = b"/echo/000/abcdefgh/xhr_send"
SESSION = "/000/abcdefgh"


def head(line: bytes, *fields: bytes) -> bytes:
    """Make a request's head: its first line, ``Host``, and `fields`."""
    return b"\r\n".join([line, b"Host: localhost", *fields, b"", b""])


def post(*fields: bytes) -> bytes:
    """Make the head of an xhr_send."""
    return head(b"POST " + SEND + b" HTTP/1.1", *fields)


async def exchange(served: Served, data: bytes) -> tuple[Wire, Reply]:
    """Write `data` to a new connection; return it and the first reply."""
    wire = await served.wire()
    wire.writer.write(data)
    async with async_timeout.timeout(5):
        return wire, await wire.reply()


async def assert_still_serves(served: Served) -> None:
    """Make sure that `SESSION` is there or can be opened, and works over the next connection."""
    if not served.router.session_count:
        assert await served.poll(SESSION) == b"o"
    assert await served.post(SESSION, '["next"]') == 204
    assert await served.poll(SESSION) == b'a["next"]'


async def assert_last_words(served: Served, data: bytes) -> Reply:
    """Make sure that aiohttp refuses `data`, ends the connection, and serves the next one."""
    wire, reply = await exchange(served, data)
    assert_aiohttp_refused(reply)
    async with async_timeout.timeout(5):
        assert await wire.is_closed()
    await assert_still_serves(served)
    return reply


async def assert_last_words_each(served: Served, wrong: Iterable[tuple[str, bytes, str]]) -> None:
    """Do the same with many requests, of each of which aiohttp logs a pattern; if empty, nothing.

    Args:
        served: The server.
        wrong: The name of each, its bytes, and the pattern.
    """
    for number, (name, data, pattern) in enumerate(wrong):
        with case(name), logs(pattern):
            session = f"/000/session{number}"
            assert await served.poll(session) == b"o"
            wire, reply = await exchange(served, data.replace(SESSION.encode(), session.encode()))
            assert_aiohttp_refused(reply)
            async with async_timeout.timeout(5):
                assert await wire.is_closed()
            wire.close()
            assert await served.post(session, '["next"]') == 204
            assert await served.poll(session) == b'a["next"]'
