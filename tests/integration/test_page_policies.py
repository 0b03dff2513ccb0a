"""Content-Security-Policy: pages that have one, and what docs/settings.md says that they need."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from playwright.async_api import Browser, Error

from sockjs_aio import SockJSRouter
from tests.conftest import Echo
from tests.integration.browser import Client, make_page_app, serving, visiting
from tests.ports import free_port

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

OWN = "script-src 'self'"
CONNECT = "connect-src {service}"
FRAME = "frame-src {service}"


@asynccontextmanager
async def serving_with(app: web.Application, policy: str, port: int = 0) -> AsyncIterator[int]:
    """Serve `app`, with a policy on all its answers."""

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Content-Security-Policy"] = policy

    app.on_response_prepare.append(add)
    async with serving(app, port) as port:
        yield port


@asynccontextmanager
async def opened(browser: Browser, *directives: str) -> AsyncIterator[tuple[Client, str]]:
    """Open a page whose policy has the `directives`, and its service, which has a policy too."""
    port, page_port = free_port(), free_port()
    origins = {"service": f"http://127.0.0.1:{port}", "socket": f"ws://127.0.0.1:{port}"}
    page_policy = "; ".join(directives).format_map(origins)
    page_url = f"http://127.0.0.1:{page_port}"
    service = web.Application()
    SockJSRouter(Echo, "/echo", {"sockjs_url": f"{page_url}/sockjs.min.js"}).attach(service)
    service_policy = f"script-src {page_url} 'unsafe-inline'; connect-src 'self'; frame-src 'self'"
    async with (
        serving_with(make_page_app(), f"default-src 'none'; {page_policy}", page_port),
        serving_with(service, f"default-src 'none'; {service_policy}", port),
        visiting(browser, f"{page_url}/client.html") as page,
    ):
        yield Client(page), f"{origins['service']}/echo"


@pytest.mark.parametrize(
    ("transport", "directives"),
    [
        ("websocket", [OWN, "connect-src {service} {socket}"]),
        ("xhr-streaming", [OWN, CONNECT]),
        ("eventsource", [OWN, CONNECT]),
        ("xhr-polling", [OWN, CONNECT]),
        ("iframe-eventsource", [OWN, CONNECT, FRAME]),
        ("iframe-htmlfile", [OWN, CONNECT, FRAME]),
        ("iframe-xhr-polling", [OWN, CONNECT, FRAME]),
        ("jsonp-polling", [OWN + " {service}", CONNECT, FRAME, "form-action {service}"]),
    ],
)
async def test_page_with_a_policy_needs_these_directives(
    browser: Browser, transport: str, directives: list[str]
) -> None:
    async with opened(browser, *directives) as (client, url):
        assert await client.open(url, transport) == transport
        assert await client.echo(["a"]) == ["a"]


@pytest.mark.parametrize("transport", ["iframe-eventsource", "iframe-xhr-polling"])
async def test_iframe_transports_fail_without_frame_src(browser: Browser, transport: str) -> None:
    async with opened(browser, OWN, CONNECT) as (client, url):
        with pytest.raises(Error, match="closed: 2000"):
            await client.open(url, transport)
