"""Cookies, tokens and links in a real browser: what goes along with which transport, who gets in.

127.0.0.1 and localhost are two sites; 127.0.0.1 with another port is another origin of one site.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import async_timeout
import pytest
from aiohttp import web
from playwright.async_api import Browser, Error, Page, Request, expect

from examples.authorize import BROKER, make_app
from sockjs_aio import ConnectionInfo, SockJSRouter
from tests.cases import case
from tests.conftest import Echo
from tests.integration.browser import Client, make_page_app, serving, visiting
from tests.integration.test_browser import SOCKJS_TRANSPORTS, TRANSPORTS

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


# The example.


@asynccontextmanager
async def example_page(browser: Browser, port: int, query: str = "") -> AsyncIterator[Page]:
    origin = f"http://127.0.0.1:{port}"
    # the page forces the others as well; the iframe transports speak from this very origin
    app = make_app([origin], allow_jsonp_and_frames=True, sockjs_url="/sockjs.min.js")
    async with serving(app, port), visiting(browser, f"{origin}/?{query}") as page:
        yield page


async def log_in(page: Page, user: str, password: str) -> None:
    await page.fill("[name=user]", user)
    await page.fill("[name=password]", password)
    await page.click("#login button")


async def talk(page: Page, service: str, transport: str) -> None:
    """Connect to a service of the example, and say something."""
    await page.click(f"#{service} .toggle")
    await expect(page.locator(f"#{service} header code")).to_have_text(transport)
    await page.fill(f"#{service} input", "hi")
    await page.press(f"#{service} input", "Enter")
    await expect(page.locator(f"#{service} .text")).to_have_text(["Hello, ann!", "ann says: hi"])


@pytest.mark.parametrize("transport", SOCKJS_TRANSPORTS)
async def test_page_of_the_example_gets_in(
    browser: Browser, unused_tcp_port: int, transport: str
) -> None:
    urls: list[str] = []
    async with example_page(browser, unused_tcp_port, f"transport={transport}") as page:
        await log_in(page, "ann", "apple")
        await expect(page.locator("#user")).to_have_text("ann")
        page.context.on("request", lambda request: urls.append(request.url))
        page.on("websocket", lambda websocket: urls.append(websocket.url))
        await talk(page, "account", transport)
        await talk(page, "orders", transport)
        orders = [urlsplit(url) for url in urls if urlsplit(url).path.startswith("/orders/")]
        assert len(orders) > 1  # info, and what the session asked for
        (token,) = {parse_qs(url.query)["token"][0] for url in orders}
        assert token
        await page.click("#logout")
        for service in ("account", "orders"):
            notice = page.locator(f"#{service} .notice")
            await expect(notice).to_have_text("Closed: 4001 Logged out")


@pytest.mark.parametrize("transport", ["", "websocket", "xhr-polling"])
async def test_page_of_the_example_is_refused(
    browser: Browser, unused_tcp_port: int, transport: str
) -> None:
    async with example_page(browser, unused_tcp_port, f"transport={transport}") as page:
        await log_in(page, "ann", "banana")
        await expect(page.locator("#trouble")).to_contain_text("Wrong user name or password.")
        await page.click("#account .toggle")
        await expect(page.locator("#account .notice")).to_contain_text("2000 All transports failed")
        await page.click("#orders .toggle")
        await expect(page.locator("#orders .notice")).to_contain_text("Log in first.")
        await log_in(page, "bob", "banana")
        await page.click("#orders .toggle")
        notice = page.locator("#orders .notice").last
        await expect(notice).to_contain_text("2000 All transports failed")


async def test_page_of_the_example_comes_back_with_a_new_token(
    browser: Browser, unused_tcp_port: int
) -> None:
    origin = f"http://127.0.0.1:{unused_tcp_port}"
    app = make_app([origin])
    tokens: list[str] = []

    def note(request: Request) -> None:
        url = urlsplit(request.url)
        if url.path == "/orders/info":
            tokens.append(parse_qs(url.query)["token"][0])

    async with serving(app, unused_tcp_port), visiting(browser, origin) as page:
        page.on("request", note)
        await log_in(page, "ann", "apple")
        await talk(page, "orders", "websocket")
        await app[BROKER].close_channel("user:ann", 1012, "Service restart")
        texts = ["Hello, ann!", "ann says: hi", "Hello, ann!"]
        await expect(page.locator("#orders .text")).to_have_text(texts)
        notices = page.locator("#orders .notice")
        await expect(notices).to_have_text(["Lost: 1012 Service restart"])
        assert len(tokens) == len(set(tokens)) == 2
        await page.context.clear_cookies()
        await app[BROKER].close_channel("user:ann", 1012, "Service restart")
        await expect(notices.last).to_contain_text("Log in first.")
        await expect(page.locator("#orders .toggle")).to_have_text("Connect")  # it has given up


# A service that everybody may use who has the cookie, and pages elsewhere.


class Named(Echo):
    async def on_open(self, info: ConnectionInfo) -> None:
        self.send(info.cookies.get("user", "nobody"))


# What sockjs-client makes of the URL that a page gives it.


@pytest.mark.parametrize(
    ("query", "arrives"),
    [
        ("token=a%20b%2Bc%3F%26&x=y", "token=a%20b%2Bc%3F%26&x=y"),
        ("token=a?b", "token=a"),  # so encode it
    ],
)
async def test_query_goes_along_up_to_another_question_mark(
    browser: Browser, query: str, arrives: str
) -> None:
    async with service_and_page(browser, "127.0.0.1") as service:
        await service.client.open(f"{service.url}?{query}", "xhr-polling")
        await first_message(service.client)
        assert await service.client.echo(["hi"]) == ["hi"]
        assert {visit.path.rpartition("/")[2] for visit in service.seen} == {
            *("info", "xhr", "xhr_send")
        }
        for visit in service.seen:
            # sockjs-client adds the time
            assert visit.query.removeprefix("?").split("&t=")[0] == arrives


async def test_base_url_takes_the_query_away(browser: Browser, unused_tcp_port: int) -> None:
    base_url = f"http://127.0.0.1:{unused_tcp_port}/chat"
    async with service_and_page(
        browser, "127.0.0.1", port=unused_tcp_port, base_url=base_url
    ) as service:
        await service.client.open(f"{service.url}?token=x", "xhr-polling")
        info, *others = service.seen
        assert info.query.startswith("token=x")
        assert others and not any("token" in visit.query for visit in others)


async def test_ids_are_40_random_bits_behind_three_digits(browser: Browser) -> None:
    async with service_and_page(browser, "127.0.0.1") as service:
        for _ in range(20):
            await service.client.open(service.url, "websocket")
        paths = {visit.path for visit in service.seen if visit.path.endswith("/websocket")}
        assert len(paths) == 20
        for path in paths:
            assert re.fullmatch(r"/chat/[0-9]{3}/[a-z0-5]{8}/websocket", path)  # 5 bits each


@dataclass
class Visit:
    """A request, as the service saw it."""

    path: str
    user: str
    query: str


@dataclass
class Service:
    """A service that pages of all origins may use, and a page of one of them."""

    url: str
    router: SockJSRouter
    client: Client
    seen: list[Visit]


async def must_have_cookie(request: web.Request) -> bool:
    if "user" not in request.cookies:
        raise web.HTTPUnauthorized
    return True


@asynccontextmanager
async def service_and_page(
    browser: Browser,
    page_host: str,
    authorize: Any = must_have_cookie,
    port: int = 0,
    **settings: Any,
) -> AsyncIterator[Service]:
    """Serve a page of `page_host`, and what it asks for on 127.0.0.1, where ann has logged in."""
    seen: list[Visit] = []

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        user = request.cookies.get("user", "nobody")
        seen.append(Visit(request.path, user, request.rel_url.raw_query_string))
        response: web.StreamResponse = await handler(request)
        return response

    async with serving(make_page_app()) as page_port:
        settings["sockjs_url"] = f"http://127.0.0.1:{page_port}/sockjs.min.js"
        router = SockJSRouter(Named, "/chat", settings, authorize=authorize)
        app = web.Application(middlewares=[note])
        router.attach(app)
        page_url = f"http://{page_host}:{page_port}/client.html"
        async with serving(app, port) as port, visiting(browser, page_url) as page:
            cookie: Any = {"name": "user", "value": "ann", "domain": "127.0.0.1", "path": "/"}
            cookie |= {"sameSite": "Lax", "httpOnly": True}
            await page.context.add_cookies([cookie])
            yield Service(f"http://127.0.0.1:{port}/chat", router, Client(page), seen)


async def first_message(client: Client) -> Any:
    return await client.page.evaluate("until(() => received.length).then(() => received[0])")


async def test_cookie_goes_along_within_a_site_save_for_eventsource(browser: Browser) -> None:
    """sockjs-client asks for EventSource without credentials; its iframe is of the same origin."""
    async with service_and_page(browser, "127.0.0.1", None) as service:
        for transport in TRANSPORTS:
            with case(transport):
                await service.client.open(service.url, transport)
                user = await first_message(service.client)
                assert user == ("nobody" if transport == "eventsource" else "ann")
                await service.client.call("close")  # a browser has six connections
                await service.client.closed()


async def test_lax_cookie_keeps_pages_of_other_sites_out(browser: Browser) -> None:
    async with service_and_page(browser, "localhost") as service:
        for transport in TRANSPORTS:
            with case(transport):
                service.seen.clear()
                with pytest.raises(Error, match="closed: "):
                    await service.client.open(service.url, transport)
                assert {visit.user for visit in service.seen} == {"nobody"}
                assert service.router.session_count == 0


FOLLOW = """url => {
    const link = document.createElement("a");
    link.href = url;
    link.rel = "noreferrer";
    document.body.append(link);
    link.click();
}"""
WAYS = {"link": FOLLOW, "window": "url => { open(url); }"}


@pytest.mark.parametrize("path", ["eventsource", "htmlfile?c=x", "jsonp?c=x"])
@pytest.mark.parametrize("page_host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_link_of_another_page_opens_no_session(
    browser: Browser, page_host: str, path: str, way: str
) -> None:
    """A Lax cookie does go with it, and the page's maker knows the id."""
    async with service_and_page(browser, page_host) as service:
        link = f"{service.url}/000/chosen/{path}"
        # Playwright's answer may be lost with the page that leaves: the request is what counts.
        leaving = asyncio.ensure_future(service.client.page.evaluate(way, link))
        try:
            async with async_timeout.timeout(20):
                while not service.seen:
                    await asyncio.sleep(0.01)
        finally:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        visit = service.seen[0]
        assert (visit.path, visit.user) == (f"/chat/000/chosen/{path.split('?')[0]}", "ann")
        chosen = service.url + "/000/chosen/xhr_send"
        async with aiohttp.ClientSession() as other, other.post(chosen, data="[]") as response:
            assert response.status == 404
        assert service.router.session_count == 0
