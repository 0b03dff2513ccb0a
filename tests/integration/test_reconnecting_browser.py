"""ReconnectingSockJS in a real browser, whose server, network and tab go away and come back."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.integration.browser import make_page_app, serving
from tests.integration.frozen_tab import Tab, tab
from tests.integration.reconnecting_page import Client, visited
from tests.integration.reconnecting_server import Server, running
from tests.integration.test_browser import SOCKJS_TRANSPORTS

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SILENCE = 3000
CONNECTING = 0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page_url() -> AsyncIterator[str]:
    """The server that has the page."""
    async with serving(make_page_app()) as port:
        yield f"http://127.0.0.1:{port}"


@pytest_asyncio.fixture(loop_scope="session")
async def server(page_url: str) -> AsyncIterator[Server]:
    async with running(f"{page_url}/sockjs.min.js") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def client(browser: Browser, page_url: str, server: Server) -> AsyncIterator[Client]:
    async with visited(browser, page_url, server.url) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def pages(
    browser: Browser, page_url: str, server: Server
) -> AsyncIterator[dict[str, Client]]:
    """A page for each transport."""
    async with contextlib.AsyncExitStack() as stack:
        yield {
            transport: await stack.enter_async_context(visited(browser, page_url, server.url))
            for transport in SOCKJS_TRANSPORTS
        }


# The server goes away.


async def test_pages_come_back_after_a_restart_and_after_a_kill(
    server: Server, pages: dict[str, Client]
) -> None:
    for transport, client in pages.items():
        await client.open(server.url, transport, silence=SILENCE)
        assert await client.call("echo", "hi") == "hi"
    await server.end(signal.SIGTERM)
    for transport, client in pages.items():
        loss = await client.take("reconnecting")
        told = (loss["code"], loss["reason"], loss["state"])
        assert told == (1012, "Service restart", CONNECTING), transport
    await server.start()
    for client in pages.values():
        await client.comes_back()
    await server.end(signal.SIGKILL)
    for transport, client in pages.items():
        loss = await client.take("reconnecting")
        assert (loss["wasClean"], loss["state"]) == (False, CONNECTING), transport
    await server.start()
    for transport, client in pages.items():
        await client.comes_back()
        assert "close" not in await client.seen(), transport


async def test_pages_notice_that_nothing_comes_any_more(
    server: Server, pages: dict[str, Client]
) -> None:
    for transport, client in pages.items():
        await client.open(server.url, transport, silence=SILENCE)
    server.send(signal.SIGSTOP)  # its kernel keeps the connections
    for transport, client in pages.items():
        loss = await client.take("reconnecting")
        told = (loss["code"], loss["reason"])
        assert told == (1006, "Nothing was heard from the server"), transport
    server.send(signal.SIGCONT)
    for client in pages.values():
        await client.comes_back()


async def test_heartbeats_alone_keep_a_connection(server: Server, client: Client) -> None:
    await client.open(server.url, silence=1500)
    for _ in range(6):  # one each half second
        await client.take("heartbeat")
    assert await client.call("echo", "still there") == "still there"
    assert await client.seen() == []


# The network, and the tab.


async def test_pages_come_back_with_the_network(server: Server, pages: dict[str, Client]) -> None:
    for transport, client in pages.items():
        # waits so long that only the event can end them
        await client.open(server.url, transport, minDelay=2**20, maxDelay=2**20)
        assert isinstance(client.page, Page)
        await client.page.evaluate("Math.random = () => 0.99")
        await client.page.context.set_offline(True)
        loss = await client.take("reconnecting")
        assert (loss["code"], loss["reason"]) == (1006, "The browser is offline"), transport
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
async def tabs(
    browser: Browser, page_url: str, server: Server, transports: list[str], silence: int
) -> AsyncIterator[list[tuple[Client, Tab]]]:
    """Open a tab for each transport."""
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for transport in transports:
            hidden = tab(browser, f"{page_url}/reconnecting.html")
            page = await stack.enter_async_context(hidden)
            client = Client(page)
            await client.call("load", f"{server.url}/reconnecting-sockjs.mjs")
            await client.open(server.url, transport, silence=silence)
            opened.append((client, page))
        yield opened


async def test_frozen_tabs_come_back_when_they_thaw(
    browser: Browser, page_url: str, server: Server
) -> None:
    async with tabs(browser, page_url, server, SOCKJS_TRANSPORTS, SILENCE) as opened:
        for _, page in opened:
            await page.freeze()
        await server.end(signal.SIGKILL)
        await server.start()
        for client, page in opened:
            await page.thaw()
            await client.take("reconnecting")
            await client.comes_back()


async def test_tabs_that_were_frozen_for_long_keep_their_connections(
    browser: Browser, page_url: str, server: Server
) -> None:
    transports = ["websocket", "xhr-streaming", "eventsource"]
    async with tabs(browser, page_url, server, transports, 2000) as opened:
        for _, page in opened:
            await page.freeze()
        await asyncio.sleep(3)  # heartbeats wait in the browser
        for client, page in opened:
            await page.thaw()
            assert await client.call("echo", "still there") == "still there"
            assert await client.seen() == []
