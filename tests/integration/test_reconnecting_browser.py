"""ReconnectingSockJS in a real browser, whose server, network and tab go away and come back."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import async_timeout
import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page

from sockjs_aio import SockJSConnection, SockJSRouter
from tests.integration.browser import launched, make_page_app, serving, visiting
from tests.integration.reconnecting_server import Server, running
from tests.integration.test_browser import SOCKJS_TRANSPORTS
from tests.ports import free_port

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

QUICK = {"minDelay": 200, "maxDelay": 400, "restartDelay": 200}
GIVEN_UP_BY_NOW = {"minDelay": 10, "maxDelay": 20}
SILENCE = 3000
CONNECTING, OPEN, _, CLOSED = range(4)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with launched() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page_url() -> AsyncIterator[str]:
    """The server that has the page."""
    async with serving(make_page_app()) as port:
        yield f"http://127.0.0.1:{port}"


@pytest_asyncio.fixture(loop_scope="module")
async def server(page_url: str) -> AsyncIterator[Server]:
    async with running(f"{page_url}/sockjs.min.js") as server:
        yield server


class Client:
    """The socket of a page at ``reconnecting.html``; see ``reconnecting.js`` there."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def call(self, function: str, *arguments: Any) -> Any:
        async with async_timeout.timeout(40):
            return await self.page.evaluate(f"values => {function}(...values)", list(arguments))

    async def open(self, url: Any, transport: str | None = None, **options: Any) -> None:
        """Open a socket, and wait until it is open."""
        options = {"transports": transport, **QUICK, **options}
        await self.call("start", url, {k: v for k, v in options.items() if v is not None})
        event = await self.take("open")
        assert event["isReconnect"] is False
        assert transport in (None, event["transport"])

    async def take(self, kind: str) -> dict[str, Any]:
        """Wait for the next event of a kind."""
        event: dict[str, Any] = await self.call("take", kind)
        return event

    async def comes_back(self) -> None:
        assert (await self.take("open"))["isReconnect"] is True
        assert await self.call("echo", "again") == "again"

    async def seen(self) -> list[str]:
        kinds: list[str] = await self.page.evaluate("seen.map((event) => event.type)")
        return [kind for kind in kinds if kind != "heartbeat"]


@asynccontextmanager
async def visited(browser: Browser, page_url: str, script_url: str) -> AsyncIterator[Client]:
    """Open the page, and load the script from the service at `script_url`."""
    async with visiting(browser, f"{page_url}/reconnecting.html") as page:
        await page.add_script_tag(url=f"{script_url}/reconnecting-sockjs.js")
        yield Client(page)


@pytest_asyncio.fixture(loop_scope="module")
async def client(browser: Browser, page_url: str, server: Server) -> AsyncIterator[Client]:
    async with visited(browser, page_url, server.url) as client:
        yield client


# The server goes away.


@pytest.mark.parametrize("transport", SOCKJS_TRANSPORTS)
async def test_page_comes_back_after_a_restart_and_after_a_kill(
    server: Server, client: Client, transport: str
) -> None:
    await client.open(server.url, transport, silence=SILENCE)
    assert await client.call("echo", "hi") == "hi"
    await server.end(signal.SIGTERM)
    loss = await client.take("reconnecting")
    assert (loss["code"], loss["reason"], loss["state"]) == (1012, "Service restart", CONNECTING)
    await server.start()
    await client.comes_back()
    await server.end(signal.SIGKILL)
    loss = await client.take("reconnecting")
    assert (loss["wasClean"], loss["state"]) == (False, CONNECTING)
    await server.start()
    await client.comes_back()
    assert "close" not in await client.seen()


@pytest.mark.parametrize("transport", SOCKJS_TRANSPORTS)
async def test_page_notices_that_nothing_comes_any_more(
    server: Server, client: Client, transport: str
) -> None:
    await client.open(server.url, transport, silence=SILENCE)
    server.send(signal.SIGSTOP)  # its kernel keeps the connections
    loss = await client.take("reconnecting")
    assert (loss["code"], loss["reason"]) == (1006, "Nothing was heard from the server")
    server.send(signal.SIGCONT)
    await client.comes_back()


async def test_heartbeats_alone_keep_a_connection(server: Server, client: Client) -> None:
    await client.open(server.url, silence=1500)
    for _ in range(6):  # one each half second
        await client.take("heartbeat")
    assert await client.call("echo", "still there") == "still there"
    assert await client.seen() == []


# The network, and the tab.


@pytest.mark.parametrize("transport", SOCKJS_TRANSPORTS)
async def test_page_comes_back_with_the_network(
    server: Server, client: Client, transport: str
) -> None:
    # waits so long that only the event can end them
    await client.open(server.url, transport, minDelay=2**20, maxDelay=2**20)
    await client.page.evaluate("Math.random = () => 0.99")
    await client.page.context.set_offline(True)
    loss = await client.take("reconnecting")
    assert (loss["code"], loss["reason"]) == (1006, "The browser is offline")
    await client.page.evaluate("Math.random = () => 0.0001")
    await client.page.context.set_offline(False)
    await client.comes_back()


async def test_page_tries_at_once_when_it_is_looked_at(server: Server, client: Client) -> None:
    await client.open(server.url, minDelay=2**30, maxDelay=2**30, restartDelay=2**30)
    await server.end(signal.SIGTERM)
    assert (await client.take("reconnecting"))["delay"] < 2**30
    await server.start()
    await client.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await client.comes_back()


@asynccontextmanager
async def frozen(page: Page) -> AsyncIterator[None]:
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
    yield
    await devtools.send("Page.setWebLifecycleState", {"state": "active"})
    await devtools.detach()


@pytest.mark.parametrize("transport", SOCKJS_TRANSPORTS)
async def test_frozen_tab_comes_back_when_it_thaws(
    server: Server, client: Client, transport: str
) -> None:
    await client.open(server.url, transport, silence=SILENCE)
    async with frozen(client.page):
        await server.end(signal.SIGKILL)
        await server.start()
    await client.take("reconnecting")
    await client.comes_back()


async def test_tab_that_was_frozen_for_long_keeps_its_connection(
    server: Server, client: Client
) -> None:
    await client.open(server.url, "websocket", silence=2000)
    async with frozen(client.page):
        await asyncio.sleep(5)  # far longer than the silence; heartbeats wait in the browser
    assert await client.call("echo", "still there") == "still there"
    assert await client.seen() == []
