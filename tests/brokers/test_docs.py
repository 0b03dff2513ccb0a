"""What docs/scaling.md shows and says about brokers."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from sockjs_aio.brokers import base, commands, link
from sockjs_aio.brokers.redis import RedisBroker
from tests.brokers.redis_server import RedisServer
from tests.test_docs import blocks

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/scaling.md"
TEXT = PAGE.read_text()


def test_every_option_is_documented_with_its_default() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \| ", TEXT, re.M))
    parameters = inspect.signature(RedisBroker).parameters
    defaults = {name: x.default for name, x in parameters.items() if name != "url"}
    assert {name: ast.literal_eval(text) for name, text in table.items()} == defaults
    assert list(table) == list(defaults)


def test_limits_are_those_that_are_documented() -> None:
    assert f"1 to {base.MAX_NAME} bytes of UTF-8" in TEXT
    assert f"1 to {base.MAX_MEMBER:,} bytes" in TEXT
    assert f"after {link.FIRST_DELAY} s" in TEXT
    assert RedisBroker("redis://x")._queue_limit > commands.BATCH_SIZE


@pytest.mark.redis
async def test_the_example_runs(redis_server: RedisServer, aiohttp_client: Any) -> None:
    (example,) = [block for block in blocks(PAGE, "python") if "def make_app" in block]
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(example, namespace)
    nodes = [await aiohttp_client(namespace["make_app"](redis_server.url)) for _ in range(2)]
    async with (
        nodes[0].ws_connect("/orders/websocket") as one,
        nodes[1].ws_connect("/orders/websocket") as two,
    ):
        for client in (one, two):  # hooks run after subscribe has returned
            await client.send_str("I am here")
            assert await client.receive_str() == "I am here"
        (command,) = [block for block in blocks(PAGE, "sh") if "redis-cli" in block]
        _, *arguments = command.split()
        assert redis_server.cli(*arguments) == "2"
        for client in (one, two):
            while await client.receive_str() != "ready":
                pass
        await one.send_str("bye")
        for client in (one, two):
            assert await client.receive_str() == "bye"
    async with nodes[0].get("/health") as response:
        assert (await response.json())["broker"] == "connected"
