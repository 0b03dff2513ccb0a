"""A page in a frame with the attribute `sandbox`, in a real browser."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser

from sockjs_aio import SockJSRouter
from tests.conftest import Echo
from tests.integration.browser import Client, make_page_app, serving, visiting

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TRANSPORTS = [
    *("raw", "websocket", "xhr-streaming", "eventsource", "xhr-polling", "jsonp-polling"),
    *("iframe-eventsource", "iframe-htmlfile", "iframe-xhr-polling"),
]


@asynccontextmanager
async def in_sandbox(
    browser: Browser, sandbox: str, connection: Any = Echo, **settings: Any
) -> AsyncIterator[tuple[Client, str]]:
    """Open a page in a frame with the attribute; yield it and the URL of a service."""

    async def outer(request: web.Request) -> web.Response:
        frame = f'<iframe name="inner" sandbox="{sandbox}" src="/client.html"></iframe>'
        return web.Response(text=frame, content_type="text/html")

    pages, service = make_page_app(), web.Application()
    pages.router.add_get("/outer.html", outer)
    async with serving(pages) as page_port:
        settings["sockjs_url"] = f"http://127.0.0.1:{page_port}/sockjs.min.js"
        SockJSRouter(connection, "/echo", settings).attach(service)
        async with (
            serving(service) as port,
            visiting(browser, f"http://127.0.0.1:{page_port}/outer.html") as page,
        ):
            frame: Any = page.frame("inner")
            await frame.wait_for_load_state()
            yield Client(frame), f"http://127.0.0.1:{port}/echo"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_all_transports_work_in_a_sandbox(browser: Browser, transport: str) -> None:
    sandbox = "allow-scripts allow-same-origin allow-forms"  # forms are how jsonp sends
    async with in_sandbox(browser, sandbox) as (client, url):
        assert await client.open(url, transport) == transport
        assert await client.echo(["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize("transport", ["raw", "websocket"])  # sockjs-client tries no others
async def test_page_without_an_origin_may_be_in_a_sandbox(browser: Browser, transport: str) -> None:
    async with in_sandbox(browser, "allow-scripts", origins=["null"]) as (client, url):
        assert await client.open(url, transport) == transport
        assert await client.echo(["a"]) == ["a"]
