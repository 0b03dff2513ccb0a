"""The chat on several nodes, each a process: people in browsers meet over a real Redis."""

import signal
from collections.abc import AsyncIterator

import async_timeout
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.brokers.redis_server import RedisServer
from tests.forks import AsyncFork
from tests.integration.conftest import browser as browser
from tests.integration.test_chat import joined, say, until_serving
from tests.ports import free_port
from tests.process import COMPLAINTS

pytestmark = [
    *(pytest.mark.redis, pytest.mark.browser, pytest.mark.timeout(180)),
    pytest.mark.asyncio(loop_scope="session"),
]

Nodes = dict[int, AsyncFork]


@pytest_asyncio.fixture(loop_scope="session")
async def nodes(own_redis: RedisServer) -> AsyncIterator[Nodes]:
    processes = {}
    for _ in range(3):
        port = free_port()
        arguments = ["-m", "examples.chat", "--port", str(port), "--redis", own_redis.url]
        processes[port] = await AsyncFork.start(*arguments)
    for port in processes:
        await until_serving(port)
    yield processes
    for process in processes.values():
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with async_timeout.timeout(10):
            errors = (await process.stderr.read()).decode()
            await process.wait()
        assert not any(word in errors for word in COMPLAINTS), errors


async def test_people_on_three_nodes_meet(browser: Browser, nodes: Nodes) -> None:
    one, two, three = nodes
    async with (
        joined(browser, one, "Ada") as ada,
        joined(browser, two, "Grace", "xhr-polling") as grace,
        joined(browser, three, "Linus", "xhr-streaming") as linus,
    ):
        people = {"Ada": ada, "Grace": grace, "Linus": linus}
        for page in people.values():
            await expect(page.locator("#count")).to_have_text("3")
        for name, page in people.items():
            await say(page, f"I am {name}")
            for other in people.values():
                await expect(other.locator(".text").last).to_have_text(f"I am {name}")
        # who comes later sees what was said on the other nodes
        async with joined(browser, two, "Edsger") as edsger:
            texts = [f"I am {name}" for name in people]
            await expect(edsger.locator(".text")).to_have_text(texts)
            await expect(linus.locator("#count")).to_have_text("4")
        await expect(linus.locator(".notice").last).to_have_text("Edsger left", timeout=20_000)
        # nobody says that this one's people have left
        nodes[one].kill()
        for page in (grace, linus):
            await expect(page.locator("#count")).to_have_text("2", timeout=20_000)
            await expect(page.locator(".notice").last).to_have_text("Ada left")
        await say(grace, "She did not say goodbye")
        await expect(linus.locator(".text").last).to_have_text("She did not say goodbye")


async def test_chat_goes_on_by_itself_while_redis_is_away(
    browser: Browser, nodes: Nodes, own_redis: RedisServer
) -> None:
    one, two, _ = nodes
    async with (
        joined(browser, one, "Ada") as ada,
        joined(browser, one, "Alan") as alan,
        joined(browser, two, "Grace") as grace,
    ):
        await expect(ada.locator("#count")).to_have_text("3")
        own_redis.kill()
        await say(ada, "Is anybody here?")
        await expect(alan.locator(".text").last).to_have_text("Is anybody here?")
        async with joined(browser, one, "Edsger") as edsger:
            await expect(alan.locator("#count")).to_have_text("4")
            await expect(edsger.locator("#count")).to_have_text("4")
            own_redis.start()
            await expect(grace.locator("#count")).to_have_text("4", timeout=20_000)
        await expect(grace.locator(".notice").last).to_have_text("Edsger left", timeout=20_000)
        await say(grace, "I am back")
        await expect(alan.locator(".text")).to_have_text(["Is anybody here?", "I am back"])
