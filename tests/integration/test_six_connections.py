"""How many tabs with a stream a browser can have open: docs/deployment.md, "Six connections"."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, TimeoutError

from sockjs_aio import SockJSRouter
from tests.certificate import make_certificate
from tests.conftest import Echo
from tests.integration.browser import Client, make_page_app, serving
from tests.integration.haproxy import Haproxy
from tests.integration.test_trailers import Local, nothing

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def tabs_with_a_stream(context: Any, origin: str) -> list[Page]:
    """Open six tabs whose sockets receive over a stream."""
    tabs = []
    for _ in range(6):
        tabs.append(await context.new_page())
        await tabs[-1].goto(f"{origin}/client.html")
        assert await Client(tabs[-1]).open(f"{origin}/echo", "xhr-streaming") == "xhr-streaming"
    return tabs


def make_app() -> Any:
    app = make_page_app()
    app.router.add_get("/readyz", nothing)
    return app


async def test_seventh_tab_does_not_load_over_http_1_1(browser: Browser) -> None:
    app = make_app()
    SockJSRouter(Echo, "/echo").attach(app)
    async with serving(app) as port:
        context = await browser.new_context()
        origin = f"http://127.0.0.1:{port}"
        tabs = await tabs_with_a_stream(context, origin)
        seventh = await context.new_page()
        with pytest.raises(TimeoutError):
            await seventh.goto(f"{origin}/client.html?not=cached", timeout=1000)
        await seventh.close()
        await tabs[0].close()
        await (await context.new_page()).goto(f"{origin}/client.html?not=cached")
        await context.close()


async def test_no_tab_can_send_while_six_streams_are_open_over_http_1_1(browser: Browser) -> None:
    received: list[str | bytes] = []

    class Noted(Echo):
        async def on_message(self, message: str | bytes) -> None:
            received.append(message)
            await super().on_message(message)

    app = make_app()
    SockJSRouter(Noted, "/echo").attach(app)
    async with serving(app) as port:
        context = await browser.new_context()
        origin = f"http://127.0.0.1:{port}"
        tabs = await tabs_with_a_stream(context, origin)
        echo = asyncio.create_task(Client(tabs[0]).echo(["a"]))
        seventh = await context.new_page()
        with pytest.raises(TimeoutError):
            await seventh.goto(f"{origin}/client.html?not=cached", timeout=1000)
        assert received == []
        await seventh.close()
        await tabs[5].close()
        assert await echo == ["a"]
        await context.close()


@pytest.mark.haproxy
async def test_seventh_tab_works_over_http_2(
    browser: Browser, program: str, tmp_path: Path
) -> None:
    app = make_app()
    SockJSRouter(Echo, "/echo").attach(app)
    async with serving(app) as port:
        certificate = make_certificate(tmp_path)
        haproxy = Haproxy(program, tmp_path, [Local(port)], certificate=certificate)  # type: ignore[list-item]
        context = await browser.new_context(ignore_https_errors=True)
        origin = f"https://localhost:{haproxy.port}"
        await tabs_with_a_stream(context, origin)
        seventh = await context.new_page()
        await seventh.goto(f"{origin}/client.html?not=cached")
        client = Client(seventh)
        assert await client.open(f"{origin}/echo", "xhr-streaming") == "xhr-streaming"
        assert await client.echo(["a"]) == ["a"]
        await context.close()
        haproxy.stop()
