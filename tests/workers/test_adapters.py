"""Services with the API of sockjs-tornado or aio-libs' sockjs on workers: as any other service."""

import asyncio

import pytest

from tests.adapters import adapters
from tests.clients import Client
from tests.nodes.processes import ALL
from tests.workers.conftest import RunCommand

Kind = type[Client]


@adapters
@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
async def test_messages_pass_whichever_worker_has_the_session_and_its_end_is_told(
    command: RunCommand, prefix: str, kind: Kind
) -> None:
    running = await command(workers=3)
    running.prefix = prefix
    members = [await kind.open(running) for _ in range(6)]  # of all workers, as good as surely
    for client in members:
        for number in range(3):
            await client.send(str(number))
        assert await client.messages(3) == ["0", "1", "2"]
    stopping = asyncio.ensure_future(running.stop())
    for client in members:
        while (frame := await client.frame()) == b"h":
            pass
        assert frame == b'c[1012,"Service restart"]'
        await client.leave()
    assert await stopping == 0
    assert not running.has_failed, running.said
