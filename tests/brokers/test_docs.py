"""What docs/scaling.md shows and says about brokers."""

import ast
import asyncio
import inspect
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio.brokers import checks
from sockjs_aio.brokers.redis import RedisBroker, backoff, commands
from sockjs_aio.core.presence import hints_of
from sockjs_aio.protocol import names
from tests.brokers.redis_server import RedisServer
from tests.brokers.test_scripted import Ear
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
    assert f"1 to {names.MAX_NAME} bytes of UTF-8" in TEXT
    assert f"1 to {checks.MAX_MEMBER:,} bytes" in TEXT
    assert f"after {backoff.FIRST_DELAY} s" in TEXT
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
            while (text := await client.receive_str()) == "I am here":
                pass  # Redis may get it later than what redis-cli sends
            assert text == "bye"
    async with nodes[0].get("/health") as response:
        assert (await response.json())["broker"] == "connected"


@pytest.mark.virtual_time
@pytest.mark.not_over("uvloop")
async def test_the_example_of_presence_keeps_a_list_right(aiohttp_client: Any) -> None:
    (example,) = [block for block in blocks(PAGE, "python") if "presence_linger" in block]
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(example, namespace)
    app = web.Application()
    namespace["router"].attach(app)
    client = await aiohttp_client(app)

    async def until_present(page: Any, expected: set[str]) -> None:
        present: set[str] = set()
        while present != expected:
            change = json.loads(await page.receive_str())
            present = set(change.get("present", present))
            present = present.union(change.get("joined", ())).difference(change.get("left", ()))

    async with client.ws_connect("/room/websocket?name=ann") as ann:
        async with client.ws_connect("/room/websocket?name=bob") as bob:
            await until_present(ann, {"ann", "bob"})
            await until_present(bob, {"ann", "bob"})
        left = json.loads(await ann.receive_str())
        assert left == {"joined": [], "left": ["bob"]}


async def use_all(url: str) -> None:
    """Do all that a broker does, with sessions that come and go."""
    async with RedisBroker(url, member_expiry=0.3, on_unavailable="raise") as broker:
        ear = Ear()
        broker.subscribe("news", ear)
        for name in ("ann", "bob"):
            broker.join("news", name)
        await broker.ready("news")
        assert await broker.members("news") == {"ann", "bob"}
        broker.leave("news", "bob")
        broker.subscribe(hints_of("news"), ear)
        await broker.send(hints_of("news"), "", None)
        broker.unsubscribe(hints_of("news"), ear)
        await broker.publish("news", "here")
        await RedisBroker(url, on_unavailable="raise").publish("news", "there")
        await ear.until("here", "there")
        await asyncio.sleep(0.7)  # members are refreshed, and the link asks whether it is one
        assert await RedisBroker(url, on_unavailable="raise").members("news") == {"ann"}
        broker.leave("news", "ann")
        broker.unsubscribe("news", ear)
        assert await broker.members("news") == set()
        assert (broker.state, broker.gaps, broker.dropped) == ("connected", 0, 0)


@pytest.mark.redis
async def test_the_permissions_that_are_documented_suffice_and_all_are_needed(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    (rules,) = [block.split() for block in blocks(PAGE, "text") if block[0] == "~"]
    own_redis.cli("ACL", "SETUSER", "broker", "on", ">word", *rules)
    own_redis.cli("CONFIG", "RESETSTAT")
    await use_all(own_redis.url.replace("//", "//broker:word@"))
    assert "sockjs_aio.broker" not in {
        x.name for x in caplog.records if x.levelno >= logging.WARNING
    }
    refused = own_redis.cli("ACL", "LOG")
    assert set(re.findall(r"^object\n(.*)$", refused, re.M)) <= {"client|setinfo", "client"}
    used = set(
        re.findall(r"^cmdstat_(\w+):calls=[1-9]", own_redis.cli("INFO", "commandstats"), re.M)
    )
    assert {rule[1:] for rule in rules if rule.startswith("+")} <= used


@pytest.mark.redis
async def test_the_permissions_of_a_program_that_only_publishes_suffice(
    own_redis: RedisServer, redis_server: RedisServer
) -> None:
    (rules,) = re.findall(r"`(&sockjs:\* -@all \+publish)`", TEXT)
    own_redis.cli("ACL", "SETUSER", "worker", "on", ">word", *rules.split())
    url = own_redis.url.replace("//", "//worker:word@")
    await RedisBroker(url, on_unavailable="raise").publish("news", "x")
    async with RedisBroker(url, on_unavailable="raise") as broker:
        await broker.publish("news", "x")


@pytest.mark.redis
async def test_database_and_name_need_the_permissions_that_are_documented(
    own_redis: RedisServer,
) -> None:
    (rules,) = [block.split() for block in blocks(PAGE, "text") if block[0] == "~"]
    rules += re.findall(r"`(\+select|\+client\|setname)`", TEXT)
    own_redis.cli("ACL", "SETUSER", "broker", "on", ">word", *rules)
    await use_all(own_redis.url.replace("//", "//broker:word@") + "/2?client_name=shop")
