"""The Python client, against sockjs-node, the reference server."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sockjs_aio.client import ClientOptions, connect
from tests.client.test_connections import every_transport
from tests.ports import free_port
from tests.require import require
from tests.target import Target

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / ".venv/npm/node_modules"


@pytest.fixture
async def node_server() -> AsyncIterator[str]:
    """The URL of its echo service."""
    node = shutil.which("node")
    require(node and (PACKAGES / "sockjs").exists(), "sockjs-node")
    port = free_port()
    program = str(ROOT / "benchmarks/servers/node_server.js")
    process = await asyncio.create_subprocess_exec(
        *(str(node), program, "--port", str(port)), env={"NODE_PATH": str(PACKAGES)}
    )
    target = Target(port, "/echo")
    await target.until_listening()
    yield target.url()
    await target.hang_up()
    process.kill()
    await process.wait()


@every_transport
async def test_messages_come_back_from_sockjs_node(node_server: str, name: str) -> None:
    sent = ["", "ä€😀", "\u2028\u200c<b>\\\"'\r\n\0", *map(str, range(200)), "a" * 200_000]
    async with connect(node_server, transports=name) as socket:
        assert socket.transport == name
        for message in sent:
            await socket.send(message)
        assert [await socket.receive() for _ in sent] == sent


async def test_first_transport_is_taken(node_server: str) -> None:
    async with connect(
        node_server + "?token=x", options=ClientOptions(transport_timeout=20)
    ) as socket:
        assert socket.transport == "websocket"
        await socket.send("a")
        assert await socket.receive() == "a"
