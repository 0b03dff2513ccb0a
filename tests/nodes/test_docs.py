"""What docs/nodes.md shows and says."""

import ast
import inspect
import re
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import Nodes
from sockjs_aio.cluster.nodes import batched_lookup, claim_keeper, nodes, owners
from sockjs_aio.cluster.relay import signed_header
from tests.brokers.redis_server import RedisServer
from tests.conftest import Serve
from tests.nodes.conftest import Reach, RunNodes
from tests.nodes.processes import SECRET
from tests.nodes.test_without_redis import opened
from tests.ports import free_port
from tests.target import Target
from tests.test_docs import ROOT, blocks

PAGE = ROOT / "docs/nodes.md"
TEXT = PAGE.read_text()


def test_every_option_is_documented_with_its_default() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| (.*?)\|", TEXT, re.M))
    parameters = inspect.signature(Nodes).parameters
    defaults = {name: x.default for name, x in parameters.items() if name != "redis"}
    assert list(table) == list(defaults)
    for name, text in table.items():
        if defaults[name] is inspect.Parameter.empty:
            assert not text.strip()
        else:
            assert ast.literal_eval(text.strip(" `")) == defaults[name]


def test_limits_are_those_that_are_documented() -> None:
    text = re.sub(r"\s+", " ", TEXT)
    assert f"for {owners.MEMORY:.0f} seconds, for up to {owners.MAX_REMEMBERED:,} sessions" in text
    assert (
        f"{claim_keeper.BATCH} in a command" in text and batched_lookup.BATCH == claim_keeper.BATCH
    )
    assert f"good for {signed_header.VALIDITY:.0f} seconds" in text
    assert nodes.LOOKS == 5 and "five times as often" in text


@pytest.mark.redis
async def test_the_example_runs(redis_server: RedisServer, serve: Serve) -> None:
    (example,) = [block for block in blocks(PAGE, "python") if "def make_app" in block]
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(example, namespace)
    ports = [free_port(), free_port()]
    runners = []
    for port in ports:
        url = f"http://127.0.0.1:{port}"
        runner = web.AppRunner(namespace["make_app"](redis_server.url, url, SECRET))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        runners.append(runner)
    targets = [Target(port, "/orders") for port in ports]
    await opened(targets[0], "/0/example")  # these are the first nodes of this Redis
    assert await targets[1].post("/0/example", '["shoes"]') == 204
    assert await targets[1].poll("/0/example") == b'a["shoes"]'
    for target, runner in zip(targets, runners, strict=True):
        await target.hang_up()
        await runner.cleanup()


@pytest.mark.redis
async def test_the_permissions_that_are_documented_suffice(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    (rules,) = re.findall(r"needs\n? *`(~sockjs:\*.*?)`", TEXT)
    own_redis.cli("acl", "setuser", "node", "on", ">word", "-@all", *rules.split())
    url = own_redis.url.replace("//", "//node:word@")
    first, second = run_nodes(2, {"disconnect_delay": 0.5}, redis=url, lease=2.5, expiry=2)
    assert await reach(first).poll("/0/a") == b"o"
    assert await reach(second).post("/0/a", '["x"]') == 204
    await first.until("claims", 0)
    await first.end()
    assert await reach(second).poll("/0/b") == b"o"
    assert "NOPERM" not in first.said + second.said
    assert "Redis" not in first.said + second.said
