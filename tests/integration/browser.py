"""A real browser for tests: chromium, sockjs-client, and servers for it to talk to."""

import asyncio
import contextlib
import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import async_timeout
from aiohttp import web
from playwright.async_api import Browser, Error, Page, async_playwright, expect

from tests.conftest import require

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
LAUNCHER = Path(__file__).with_name("chromium.sh")
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

_idle: dict[Browser, dict[str, list[Page]]] = {}
"""Pages that somebody has left, of each browser that runs, by the options of their contexts."""


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """Run chromium; skip the test if it or sockjs-client is missing."""
    require(CHROMIUM, "chromium")
    require(SOCKJS_CLIENT.is_file(), "npm's sockjs-client")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=LAUNCHER,
            args=ARGUMENTS,
            env={**os.environ, "LANG": "C.UTF-8", "CHROMIUM": str(CHROMIUM)},
        )
        _idle[browser] = defaultdict(list)
        yield browser
        del _idle[browser]
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
    """Open `url` as a visitor who shares nothing with others; errors of the page are raised.

    A page takes a second of CPU time to make, and a tenth of that to go elsewhere.  So the next
    visitor gets it, without what it has stored.
    """
    idle = _idle[browser][repr(context_options)]
    page = idle.pop() if idle else await _new_page(browser, context_options)
    errors: list[str] = []

    def note(error: Error) -> None:
        errors.append(str(error))

    page.on("pageerror", note)
    await page.goto(url)
    yield page
    has_forgotten = False
    # A page that navigates just then may keep Playwright waiting; the browser's end closes it.
    with contextlib.suppress(asyncio.TimeoutError):
        async with async_timeout.timeout(10):
            has_forgotten = await _forget(page)
            if not has_forgotten:
                await page.context.close()
    page.remove_listener("pageerror", note)
    assert [error for error in errors if not LATE_JSONP.match(error)] == []
    if has_forgotten:
        idle.append(page)


async def _new_page(browser: Browser, context_options: dict[str, Any]) -> Page:
    return await (await browser.new_context(**context_options)).new_page()


async def _forget(page: Page) -> bool:
    """Leave the page as if nobody had visited it; tell whether that was possible."""
    if len(page.context.pages) > 1:
        return False
    try:
        await page.evaluate("sessionStorage.clear(); localStorage.clear()")
        await page.goto("about:blank")
        await page.context.clear_cookies()
    except Error:  # such as one that leaves by itself
        return False
    return True


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
