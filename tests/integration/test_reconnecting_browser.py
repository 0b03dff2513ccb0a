"""ReconnectingSockJS in a real browser, whose server, network and tab go away and come back."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.integration.browser import launched, make_page_app, serving
from tests.integration.frozen_tab import Tab, tab
from tests.integration.reconnecting_page import Client, visited
from tests.integration.reconnecting_server import Server, running
from tests.integration.test_browser import SOCKJS_TRANSPORTS

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

SILENCE = 3000
CONNECTING = 0


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
    assert isinstance(client.page, Page)
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


@pytest_asyncio.fixture(loop_scope="module")
async def tab_client(browser: Browser, page_url: str, server: Server) -> AsyncIterator[Client]:
    async with tab(browser, f"{page_url}/reconnecting.html") as hidden:
        client = Client(hidden)
        await client.call("load", f"{server.url}/reconnecting-sockjs.mjs")
        yield client


@pytest.mark.parametrize("transport", SOCKJS_TRANSPORTS)
async def test_frozen_tab_comes_back_when_it_thaws(
    server: Server, tab_client: Client, transport: str
) -> None:
    assert isinstance(tab_client.page, Tab)
    await tab_client.open(server.url, transport, silence=SILENCE)
    await tab_client.page.freeze()
    await server.end(signal.SIGKILL)
    await server.start()
    await tab_client.page.thaw()
    await tab_client.take("reconnecting")
    await tab_client.comes_back()


@pytest.mark.parametrize("transport", ["websocket", "xhr-streaming", "eventsource"])
async def test_tab_that_was_frozen_for_long_keeps_its_connection(
    server: Server, tab_client: Client, transport: str
) -> None:
    assert isinstance(tab_client.page, Tab)
    await tab_client.open(server.url, transport, silence=2000)
    await tab_client.page.freeze()
    await asyncio.sleep(3)  # heartbeats wait in the browser
    await tab_client.page.thaw()
    assert await tab_client.call("echo", "still there") == "still there"
    assert await tab_client.seen() == []
