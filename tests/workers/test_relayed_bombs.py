"""Compressed bodies that a relay hands on: it unpacks no more than the owner would."""

import asyncio
import contextlib
from pathlib import Path

import async_timeout
import pytest

from sockjs_aio.cluster.workers.placement import worker_at
from tests.brokers.conftest import own_redis, redis_server  # noqa: F401
from tests.hostile.test_compressed import header, packed
from tests.nodes.conftest import Reach, RunNodes, reach, run_nodes  # noqa: F401
from tests.target import Target
from tests.wire import Reply
from tests.workers.conftest import RunTeam
from tests.workers.test_forward import Said

pytestmark = pytest.mark.not_over("handing-over")  # it is about relayed requests

LIMIT = 256 << 10
SLACK = 2 << 20
"""Bytes that aiohttp unpacks before anybody has asked for them, and that are on their way."""

BOMB = packed(b" " * (1 << 20), "gzip", times=200)
ENDS = ["xhr_send", "jsonp_send", "xhr", "xhr_streaming"]


async def sent(target: Target, path: str) -> Reply:
    """Send a bomb that never ends, and see the connection end with the answer."""
    wire = await target.wire()
    headers = {"Transfer-Encoding": "chunked", **header("gzip")}
    wire.send("POST", target.prefix + path, headers=headers)
    wire.writer.write(b"%x\r\n%b\r\n" % (len(BOMB), BOMB))
    async with async_timeout.timeout(20):
        reply = await wire.reply()
        assert await wire.is_closed()
    return reply


class Patient:
    """A process that takes whatever comes, and answers when nothing more does."""

    def __init__(self) -> None:
        self.taken = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            while data := await asyncio.wait_for(reader.read(1 << 16), 0.5):
                self.taken += len(data)
        writer.write(b"HTTP/1.1 413 Too large\r\nContent-Length: 19\r\n\r\nPayload too large.\n")
        writer.close()


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
async def test_a_worker_unpacks_no_more_than_the_owner_would_take(
    team: RunTeam, tmp_path: Path, end: str
) -> None:
    """And gives others their turn meanwhile."""
    process = Patient()
    server = await asyncio.start_unix_server(process.serve, str(tmp_path / "patient"))
    (record,) = await team(1, settings={"max_message_size": LIMIT})
    record.locator.placement = Said(worker_at(str(tmp_path / "patient")))
    steps: list[int] = []

    async def watch() -> None:
        before = 0
        while True:
            await asyncio.sleep(0)
            steps.append(process.taken - before)
            before = process.taken

    watching = asyncio.create_task(watch())
    reply = await sent(record, f"/0/a/{end}")
    watching.cancel()
    assert (reply.status, reply.body) == (413, b"Payload too large.\n")
    assert process.taken < LIMIT + SLACK
    assert max(steps) <= SLACK
    server.close()


@pytest.mark.redis
async def test_a_node_unpacks_no_more_than_the_owner_would_take(
    run_nodes: RunNodes,  # noqa: F811
    reach: Reach,  # noqa: F811
) -> None:
    owner, other = run_nodes(2, {"max_message_size": LIMIT, "disconnect_delay": 30})
    assert await reach(owner).poll("/0/a") == b"o"
    for end in ENDS:
        reply = await sent(reach(other), f"/0/a/{end}")
        assert (reply.status, reply.body) == (413, b"Payload too large.\n"), end
    assert 0 < (await other.stats())["largest body"] < LIMIT + SLACK
    assert await reach(other).post("/0/a", '["next"]') == 204
    assert await reach(owner).poll("/0/a") == b'a["next"]'
