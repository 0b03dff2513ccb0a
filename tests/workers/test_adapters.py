"""Services with the API of sockjs-tornado or aio-libs' sockjs on workers: as any other service."""

import asyncio

import pytest

from tests.adapters import PREFIXES
from tests.nodes.processes import ALL
from tests.workers.conftest import RunCommand

adapters = pytest.mark.parametrize("prefix", PREFIXES, ids=lambda prefix: prefix[1:])


@adapters
async def test_messages_pass_whichever_worker_has_the_session_and_its_end_is_told(
    command: RunCommand, prefix: str
) -> None:
    running = await command(workers=3)
    running.prefix = prefix
    # of all workers, as good as surely
    members = [await kind.open(running) for kind in ALL for _ in range(6)]
    for client in members:
        for number in range(3):
            await client.send(str(number))
        assert await client.messages(3) == ["0", "1", "2"], client.name
    stopping = asyncio.ensure_future(running.stop())
    for client in members:
        while (frame := await client.frame()) == b"h":
            pass
        assert frame == b'c[1012,"Service restart"]', client.name
        await client.leave()
    assert await stopping == 0
    assert not running.has_failed, running.said
