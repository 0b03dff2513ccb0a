"""A real browser for tests: chromium, sockjs-client, and servers for it to talk to."""

import asyncio
import contextlib
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import async_timeout
from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.conftest import require

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
SOCKJS_CLIENT = (
    Path(__file__).parents[2] / ".venv/npm/node_modules/sockjs-client/dist/sockjs.min.js"
)
PAGES = Path(__file__).parent / "pages"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


expect.set_options(timeout=20_000)  # a busy machine draws pages slowly

# A JSONP poll cannot be cut short: when the page closes its socket, sockjs-client forgets the
# callback, which the server's next frame still calls.
LATE_JSONP = re.compile(r"_jp\.\w+ is not a function")


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """Run chromium; skip the test if it or sockjs-client is missing."""
    require(CHROMIUM, "chromium")
    require(SOCKJS_CLIENT.is_file(), "npm's sockjs-client")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS, env={**os.environ, "LANG": "C.UTF-8"}
        )
        yield browser
        await browser.close()


@asynccontextmanager
async def serving(app: web.Application, port: int = 0) -> AsyncIterator[int]:
    """Serve `app` on `port`, or on a free one, and yield that."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def visiting(browser: Browser, url: str, **context_options: Any) -> AsyncIterator[Page]:
    """Open `url` as a visitor who shares nothing with others; errors of the page are raised."""
    errors: list[str] = []
    context = await browser.new_context(**context_options)
    page = await context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(url)
    yield page
    # A page that navigates just then may keep Playwright waiting; the browser's end closes it.
    with contextlib.suppress(asyncio.TimeoutError):
        async with async_timeout.timeout(10):
            await context.close()
    assert [error for error in errors if not LATE_JSONP.match(error)] == []


def make_page_app() -> web.Application:
    """Make the server of the page that `Client` drives."""
    app = web.Application()

    async def sockjs_client(request: web.Request) -> web.FileResponse:
        return web.FileResponse(SOCKJS_CLIENT)

    app.router.add_get("/sockjs.min.js", sockjs_client)
    app.router.add_static("/", PAGES)
    return app


class Client:
    """The socket of a page at ``client.html``, which does the work: see ``client.js`` there."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of ``client.js`` and wait for its result."""
        async with async_timeout.timeout(30):
            return await self.page.evaluate(f"values => {function}(...values)", list(arguments))

    async def open(self, url: str, transport: str | None = None) -> str:
        """Connect to the service at `url`; return the name of the transport that did."""
        result: str = await self.call("connect", url, transport)
        return result

    async def echo(self, messages: list[str]) -> list[str]:
        """Send `messages`, and return what came back when it is as many."""
        # As JSON text, whose escapes carry lone surrogates, and which is fast.
        received: list[str] = json.loads(await self.call("echo", json.dumps(messages)))
        return received

    async def closed(self) -> tuple[int, str]:
        """Wait until the socket is closed; return code and reason."""
        code, reason = await self.call("closed")
        return code, reason
