"""The browser's own WebSocket at the raw endpoint, without sockjs-client."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser

from sockjs_aio import ConnectionInfo, SockJSRouter
from tests.conftest import Echo, Recorder
from tests.integration.browser import make_page_app, serving, visiting

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

CONNECT = """([url, protocols, code, reason]) => new Promise((resolve) => {
    const socket = new WebSocket(url, protocols);
    socket.onopen = () => socket.close(code, reason);
    socket.onclose = (event) =>
        resolve([socket.protocol, event.code, event.reason, event.wasClean]);
})"""

OPEN = """([url, options]) => new Promise((resolve) => {
    const socket = new SockJS(url, null, options);
    socket.onopen = () => resolve(`open ${socket.transport}`);
    socket.onclose = (event) => resolve(`closed ${event.code} ${event.reason}`);
})"""


async def in_browser(
    browser: Browser, connection: Any, settings: dict[str, Any], *arguments: Any
) -> list[Any]:
    """Have a page connect and close; return its subprotocol and what its close event says."""
    app = web.Application()
    SockJSRouter(connection, "/echo", settings).attach(app)
    async with (
        serving(make_page_app()) as page_port,
        serving(app) as port,
        visiting(browser, f"http://127.0.0.1:{page_port}/client.html") as page,
    ):
        url = f"ws://127.0.0.1:{port}/echo/websocket"
        result: list[Any] = await page.evaluate(CONNECT, [url, *arguments])
        return result


@pytest.mark.parametrize(
    ("protocols", "agreed"),
    [
        (["v12.stomp", "v11.stomp", "v10.stomp"], "v12.stomp"),  # as @stomp/stompjs
        (["v10.stomp", "v11.stomp"], "v11.stomp"),
        ([], ""),
        (["graphql-transport-ws"], None),  # as graphql-ws
        (["mqtt"], None),  # as mqtt.js
    ],
)
async def test_page_gets_the_subprotocol_that_it_offers_or_no_session(
    browser: Browser, protocols: list[str], agreed: str | None
) -> None:
    class Noted(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            self.seen.append(info.protocol)

    settings = {"protocols": ["v11.stomp", "v12.stomp"]}
    result = await in_browser(browser, Noted, settings, protocols, 1000, "")
    if agreed is None:
        assert result == ["", 1006, "", False]
        assert Noted.seen == []
    else:
        assert result == [agreed, 1000, "", True]
        assert Noted.seen == [agreed or None, "close"]


async def test_page_waits_for_a_slow_authorize_if_it_is_told_to(browser: Browser) -> None:
    asked = []

    async def authorize(request: web.Request) -> bool:
        asked.append(request.path)
        await asyncio.sleep(2)
        return True

    app = web.Application()
    SockJSRouter(Echo, "/echo", authorize=authorize).attach(app)
    async with (
        serving(make_page_app()) as page_port,
        serving(app) as port,
        visiting(browser, f"http://127.0.0.1:{page_port}/client.html") as page,
    ):
        url = f"http://127.0.0.1:{port}/echo"
        assert await page.evaluate(OPEN, [url, {"timeout": 20_000}]) == "open websocket"
    assert len(asked) == 1


async def test_page_that_closes_a_raw_websocket_gets_its_reason_back(browser: Browser) -> None:
    assert await in_browser(browser, Echo, {}, [], 3001, "bye") == ["", 3001, "bye", True]
