"""A page with a ReconnectingSockJS, for tests, and a service that closes as it is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import async_timeout
from aiohttp import web
from playwright.async_api import Browser, Page

from sockjs_aio import SockJSConnection, SockJSRouter
from tests.integration.browser import serving, visiting
from tests.integration.frozen_tab import Tab

QUICK = {"minDelay": 200, "maxDelay": 400, "restartDelay": 200}


class Client:
    """The socket of a page at ``reconnecting.html``; see ``reconnecting.js`` there."""

    def __init__(self, page: Page | Tab) -> None:
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


class Talker(SockJSConnection):
    """Closes with the code that it is told; otherwise echoes."""

    async def on_message(self, message: str | bytes) -> None:
        if str(message).startswith("close "):
            self.close(int(str(message)[6:]), "as told")
        else:
            self.send(message)


@asynccontextmanager
async def serving_talker(
    page_url: str, port: int = 0, **more: Any
) -> AsyncIterator[tuple[str, SockJSRouter]]:
    """Serve `Talker` in this process."""
    app = web.Application()
    router = SockJSRouter(Talker, "/talk", sockjs_url=f"{page_url}/sockjs.min.js", **more)
    router.attach(app)
    async with serving(app, port) as port:
        yield f"http://127.0.0.1:{port}/talk", router


@asynccontextmanager
async def talking(
    browser: Browser, page_url: str, **settings: Any
) -> AsyncIterator[tuple[Client, str]]:
    """Serve `Talker`, open the page, and yield it with the URL of the service."""
    async with (
        serving_talker(page_url, **settings) as (url, _),
        visited(browser, page_url, url) as client,
    ):
        yield client, url


@asynccontextmanager
async def visited_by_itself(browser: Browser, page_url: str) -> AsyncIterator[Client]:
    """Open the page, which has the script, but no service."""
    async with serving_talker(page_url) as (url, _):
        visit = visited(browser, page_url, url)
        client = await visit.__aenter__()
    yield client
    await visit.__aexit__(None, None, None)
